"""Rich Text Format: text, characters in any encoding, tables."""

from pathlib import Path

import pytest

from indexers.loaders import rtf
from rag_server.errors import DocumentError
from rag_server.types import Document


def _load(folder: Path, data: bytes) -> Document:
    path = folder / "memo.rtf"
    path.write_bytes(data)
    return rtf.load(path)


def test_paragraphs_are_lines_and_rows_have_bars(tmp_path: Path) -> None:
    row = rb"{\trowd\cellx1\cellx2 \pard\intbl a\cell b\cell\row}"
    document = _load(tmp_path, rb"{\rtf1\ansi{\info{\title The memo}}First {\b bold}.\par Second.\par " + row + rb"After|end}")
    assert document.text == "First bold.\nSecond.\na | b\nAfter|end"
    assert (document.title, document.sections) == ("The memo", ())


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (rb"\ansicpg1251 \'cf\'f0\'e8\'e2\'e5\'f2", "Привет"),
        ("\\ansicpg1251 Привет".encode("cp1251"), "Привет"),
        (rb"\ansicpg1252 caf\'e9 \u8364?5", "café €5"),
        (rb"\uc1 \u-10179?\u-8704?!", "😀!"),
        (rb"\ansicpg99999 caf\'e9", "caf\ufffd"),
    ],
)
def test_characters_are_decoded(tmp_path: Path, written: bytes, text: str) -> None:
    assert _load(tmp_path, rb"{\rtf1\ansi" + written + b"}").text == text


def test_fields_without_end_take_no_time(tmp_path: Path) -> None:
    """A link keeps its text and its address; the search for links does not grow with the square of their number."""
    link = rb'{\field{\*\fldinst{HYPERLINK "http://x"}}{\fldrslt there}}'
    data = rb"{\rtf1 see " + link + rb"{\field{\*\fldinst{" * 20_000
    assert _load(tmp_path, data).text == 'see there("http://x")'


@pytest.mark.parametrize("data", [b"", b"plain text", b"PK\3\4", b" {\\rtf1 late}"])
def test_what_does_not_start_as_rtf_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"memo\.rtf is not a readable RTF document \(.*\); save it again as \.rtf"):
        _load(tmp_path, data)


@pytest.mark.parametrize("half", [rb"\u-10240 ", rb"\u-9216 ", rb"\u-9216\u-10240 ", rb"\u99999999 "])
def test_an_impossible_character_is_damage(tmp_path: Path, half: bytes) -> None:
    with pytest.raises(DocumentError, match="is not a readable RTF document"):
        _load(tmp_path, rb"{\rtf1\uc0 a" + half + b"}")


def test_a_memo_without_text_holds_none(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"memo\.rtf holds no text"):
        _load(tmp_path, rb"{\rtf1\ansi{\fonttbl\f0 Helvetica;}\par}")


def test_any_cut_of_a_memo_is_a_document_or_a_document_error(tmp_path: Path) -> None:
    whole = rb"{\rtf1\ansi{\fonttbl{\f0\fcharset204 Arial;}}\f0 \'cf\'f0 \u8364?{\pict\bin4 abcd}\par end}"
    outcomes = set()
    for length in range(len(whole) + 1):
        try:
            outcomes.add(_load(tmp_path, whole[:length]).title)
        except DocumentError as error:
            outcomes.add(str(error).split(" (")[0])
    assert outcomes == {
        "memo",
        f"{tmp_path / 'memo.rtf'} is not a readable RTF document",
        f"{tmp_path / 'memo.rtf'} holds no text",
    }
