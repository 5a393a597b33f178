"""Finds sentences with Segment any Text (Frohmann et al. 2024), for text without reliable punctuation; optional."""

import os
import warnings
from itertools import accumulate, pairwise
from pathlib import Path

from rag_server.errors import ConfigError, DocumentError, MissingExtraError

SETTING = "RAG_CHUNKING__SEGMENTER_MODEL"
TOKENIZER_FILES = ("tokenizer.json", "sentencepiece.bpe.model")
# wtpsplit's own defaults for its two families. It chooses by the letters "sm" anywhere in the folder's path.
THRESHOLD = 0.025
SUPERVISED_THRESHOLD = 0.25


class SatSegmenter:
    """A SentenceSegmenter (see indexers.chunking) with a Segment-any-Text model from a local folder."""

    def __init__(self, model: str | None) -> None:
        """Load the model; takes seconds.

        Args:
            model: A folder with a Segment-any-Text model and, beside it, the tokenizer of xlm-roberta-base.

        Raises:
            ConfigError: `model` is no such folder.
            MissingExtraError: The package wtpsplit is not installed.
        """
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            from wtpsplit import SaT
        except ImportError as error:
            raise MissingExtraError(
                f"the sentence segmenter sat needs wtpsplit ({error}): run `pip install wtpsplit`, and set {SETTING} "
                "to a folder with a Segment-any-Text model"
            ) from error
        folder = _model_folder(model)
        try:
            self._model = SaT(
                str(folder), tokenizer_name_or_path=str(folder), from_pretrained_kwargs={"local_files_only": True}
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConfigError(f"{SETTING}: cannot load {folder}: {error}") from error
        self._threshold = SUPERVISED_THRESHOLD if "sm" in folder.name.split("-") else THRESHOLD
        # It warns, of every text, of what is asked for here.
        warnings.filterwarnings("ignore", message="split_on_input_newlines=False")

    def __call__(self, text: str) -> list[tuple[int, int]]:
        """Return the character spans of the sentences of `text`; they follow each other without a gap and cover it.

        Raises:
            DocumentError: The model's sentences are not the text's.
        """
        if not text or text.isspace():
            return [(0, len(text))] if text else []
        # Otherwise every line break would end a sentence, and would be missing from it.
        sentences = self._model.split(text, threshold=self._threshold, split_on_input_newlines=False)
        if "".join(sentences) != text:
            raise DocumentError("the sentence segmenter sat changed the text: set RAG_CHUNKING__SEGMENTER to sentencex")
        return list(pairwise(accumulate(map(len, sentences), initial=0)))


def _model_folder(model: str | None) -> Path:
    if model is None:
        raise ConfigError(f"{SETTING} must name a folder with a Segment-any-Text model when RAG_CHUNKING__SEGMENTER is sat")
    folder = Path(model).expanduser()
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{SETTING}: {folder} is not a model folder: it has no config.json")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigError(f"{SETTING}: {folder} has no tokenizer.json: save the tokenizer of xlm-roberta-base in it")
    # SaT takes what is no folder for a name on the hub.
    return folder.resolve()
