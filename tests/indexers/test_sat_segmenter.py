"""Sentences by Segment any Text, with a scripted model in place of the package that is not installed here."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from indexers.chunking import chunk_text
from indexers.sat_segmenter import SatSegmenter
from rag_server.errors import ConfigError, DocumentError, MissingExtraError


class ScriptedSaT:
    """Ends a sentence at each semicolon; `damage` is done to every sentence."""

    damage = staticmethod(lambda sentence: sentence)
    calls: list[dict[str, object]]

    def __init__(self, model: str, **arguments: object) -> None:
        ScriptedSaT.calls = [{"model": model, **arguments}]

    def split(self, text: str, **arguments: object) -> list[str]:
        ScriptedSaT.calls.append(arguments)
        return [self.damage(sentence) for sentence in re.findall(r"[^;]*;\s*|[^;]+$", text)]


@pytest.fixture
def wtpsplit(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedSaT]:
    module = ModuleType("wtpsplit")
    module.SaT = ScriptedSaT  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wtpsplit", module)
    return ScriptedSaT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "sat-3l-sm"
    model.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (model / name).write_text("{}")
    return model


def test_spans_are_those_of_the_model(wtpsplit: type[ScriptedSaT], folder: Path) -> None:
    """The sentences become spans that cover the text, and chunks are cut at them."""
    text = "é one;\r\n🐈 two; three"
    segmenter = SatSegmenter(str(folder))
    spans = segmenter(text)

    assert [text[start:end] for start, end in spans] == ["é one;\r\n", "🐈 two; ", "three"]
    tokens = [match.span() for match in re.finditer(r"\S+", text)]
    found = chunk_text(text, tokens, max_tokens=3, sentences=segmenter)
    assert [text[chunk.start : chunk.end] for chunk in found] == ["é one;\r\n", "🐈 two; three"]


def test_text_without_words_needs_no_model(wtpsplit: type[ScriptedSaT], folder: Path) -> None:
    """Nothing has no sentence and white space is one."""
    segmenter = SatSegmenter(str(folder))

    assert segmenter("") == []
    assert segmenter(" \n ") == [(0, 3)]
    assert len(wtpsplit.calls) == 1


def test_only_local_files_are_loaded(wtpsplit: type[ScriptedSaT], folder: Path) -> None:
    """Model and tokenizer come from the folder, and nothing is downloaded; the threshold is that of the model's family."""
    SatSegmenter(str(folder))("a")

    assert wtpsplit.calls == [
        {
            "model": str(folder),
            "tokenizer_name_or_path": str(folder),
            "from_pretrained_kwargs": {"local_files_only": True},
        },
        {"threshold": 0.25, "split_on_input_newlines": False},
    ]


def test_changed_text_is_refused(wtpsplit: type[ScriptedSaT], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences that do not join back to the text would shift every offset after them."""
    monkeypatch.setattr(wtpsplit, "damage", staticmethod(str.strip))

    with pytest.raises(DocumentError, match="changed the text"):
        SatSegmenter(str(folder))("one; two;")


def test_missing_package_names_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wtpsplit, the error names the command and the setting."""
    monkeypatch.setitem(sys.modules, "wtpsplit", None)

    with pytest.raises(MissingExtraError, match=r"pip install wtpsplit.*RAG_CHUNKING__SEGMENTER_MODEL"):
        SatSegmenter(str(folder))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_incomplete_folder_is_refused(wtpsplit: type[ScriptedSaT], folder: Path, missing: str) -> None:
    """A folder without model or tokenizer is named, before the library would look for them elsewhere."""
    (folder / missing).unlink()

    with pytest.raises(ConfigError, match=missing):
        SatSegmenter(str(folder))
    with pytest.raises(ConfigError, match="must name a folder"):
        SatSegmenter(None)
