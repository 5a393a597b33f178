"""JSON: every value under the keys that lead to it."""

import json
from pathlib import Path

import pytest

from indexers.loaders import json_file
from rag_server.errors import DocumentError
from rag_server.types import Document


def _load(folder: Path, data: bytes | str, name: str = "data.json") -> Document:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return json_file.load(path)


def test_each_value_is_a_line_under_its_keys(tmp_path: Path) -> None:
    """What is empty is left out; several lines of a string stay several."""
    value = {"name": "Saw", "size": {"cm": 30.5, "fits": True, "none": None}, "use": ["cut", "a\r\nb"], "e": [], "s": " "}
    document = _load(tmp_path, json.dumps(value))
    assert document.text == "name: Saw\nsize.cm: 30.5\nsize.fits: true\nuse: cut\nuse: a\nb"
    assert (document.title, document.sections) == ("Saw", ())


@pytest.mark.parametrize("written", ['[{"a": "x", "b": 1}, {"a": "y"}]', '{"a": "x", "b": 1}\r\n\n{"a": "y"}\n'])
def test_records_are_parted_by_blank_lines(tmp_path: Path, written: str) -> None:
    """In one list, or one on each line."""
    document = _load(tmp_path, written)
    assert document.text == "a: x\nb: 1\n\na: y"
    assert document.title == "data"


def test_a_bare_value_is_text(tmp_path: Path) -> None:
    assert _load(tmp_path, '"hello"').text == "hello"


def test_a_number_is_no_title(tmp_path: Path) -> None:
    assert _load(tmp_path, '{"title": 7, "name": "Seven"}').title == "Seven"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marked_files_are_read(tmp_path: Path, encoding: str) -> None:
    assert _load(tmp_path, '{"a": "Größe"}'.encode(encoding)).text == "a: Größe"


@pytest.mark.parametrize(
    "data", ['{"a": ', '{"a": 1}\n{"b"', "no JSON", "[" * 200_000, '{"a": ' * 200_000, '{"n": ' + "9" * 5000 + "}"]
)
def test_damage_and_values_beyond_the_interpreters_limits_are_reported(tmp_path: Path, data: str) -> None:
    with pytest.raises(DocumentError) as caught:
        _load(tmp_path, data)
    assert str(caught.value).startswith(f"{tmp_path / 'data.json'} is not usable JSON (")
    assert "\n" not in str(caught.value)


def test_deep_values_are_read_or_reported(tmp_path: Path) -> None:
    """Between the limits of the parser and those of the walk nothing else is raised."""
    outcomes = set()
    for depth in (100, 300, 500, *range(900, 1000, 5), 2000, 5000):
        try:
            outcomes.add(_load(tmp_path, '{"a":' * depth + '"x"' + "}" * depth).text[-5:])
        except DocumentError as error:
            outcomes.add(str(error).partition("(")[0])
    assert outcomes == {".a: x", f"{tmp_path / 'data.json'} is not usable JSON "}


def test_keys_are_repeated_only_to_a_bound(tmp_path: Path) -> None:
    """A long key above many values would multiply the file."""
    assert len(_load(tmp_path, json.dumps({"k" * 100_000: {"end": list(range(1000))}})).text) < 250_000


def test_a_file_too_large_to_be_parsed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_file, "MAX_BYTES", 1024**2)
    with pytest.raises(DocumentError, match=r"holds 2 MB of JSON, more than 1 MB; split it into rows of a \.jsonl"):
        _load(tmp_path, b" " * 2 * 1024**2)


@pytest.mark.parametrize("data", ["", "\n", "{}", "[[], {}, null]", '{"a": ""}'])
def test_a_file_without_values_holds_no_text(tmp_path: Path, data: str) -> None:
    with pytest.raises(DocumentError, match=r"data\.json holds no text"):
        _load(tmp_path, data)
