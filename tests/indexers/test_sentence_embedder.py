"""The embedding model against sentence-transformers itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from indexers.sentence_embedder import SentenceEmbedder, packaged_folder
from rag_server.errors import ConfigError, InvalidRequestError
from rag_server.protocols import Embedder

TEXTS = ["Cats sleep.", "A ketch has two masts.", "日本語", ""]


def test_rows_are_the_models_unit_vectors(embedder: Embedder) -> None:
    """One unit row per text, equal to what the model gives by itself."""
    rows = embedder.embed_passages(TEXTS)
    expected = embedder._model.encode(TEXTS, normalize_embeddings=True)

    assert rows.shape == (4, embedder.dimension) == (4, 384)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_queries(TEXTS), expected, atol=1e-5)


def test_token_spans_are_the_tokenizers(embedder: Embedder) -> None:
    """As many spans as the model reads tokens, special ones left out, each where its token stands."""
    text = "Unbelievable cats sleep, don't they?"
    spans = embedder.token_spans(text)
    tokens = embedder._model.tokenizer.tokenize(text)

    assert [text[start:end].lower() for start, end in spans] == [token.removeprefix("##") for token in tokens]
    assert len(embedder.token_spans("word " * 1000)) == 1000
    assert embedder.max_tokens == 254


def test_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """A folder without a model is refused with the setting's name."""
    with pytest.raises(ConfigError, match="RAG_EMBEDDER__MODEL"):
        SentenceEmbedder(str(tmp_path))


def test_token_ids_are_decoded(embedder: Embedder) -> None:
    """The ids that sentence-transformers' own tokenizer gives mean their text again; foreign ids are refused by name."""
    text = "unbelievable cats sleep , don ' t they ?"
    ids = embedder._model.tokenizer(text)["input_ids"]

    assert embedder._model.tokenizer.convert_ids_to_tokens(ids)[0] == "[CLS]"
    assert embedder._model.tokenizer(embedder.decode(ids))["input_ids"] == ids
    for foreign in (-1, 30_522):
        with pytest.raises(InvalidRequestError, match=str(foreign)):
            embedder.decode([*ids, foreign])


@pytest.mark.parametrize(
    ("config", "dimensions"),
    [
        ({}, set()),
        ({"is_matryoshka": False}, set()),
        ({"is_matryoshka": True}, {1, 64, 100, 384}),
        ({"is_matryoshka": True, "matryoshka_dimensions": [64, 384, 512]}, {64, 384}),
        ({"matryoshka_dimensions": [64]}, {64}),
    ],
)
def test_only_models_that_say_so_are_shortened(tmp_path: Path, config: dict, dimensions: set[int]) -> None:
    """Vectors are cut only to dimensions that the model's config.json allows, and never to more than there are."""
    folder = Path(shutil.copytree(packaged_folder(), tmp_path / "model"))
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))

    model = SentenceEmbedder(str(folder))

    assert {dimension for dimension in (-1, 0, 1, 64, 100, 384, 385, 512) if model.shortens_to(dimension)} == dimensions
