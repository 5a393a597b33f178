"""Plain text: encodings, binaries, cleaning."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.loaders import text
from rag_server.errors import DocumentError

POLYGLOT = "Größe, naïve café, Привет, 你好, 😀\n"
FRENCH = "Où est le père de François ? Il était déjà là, près de la forêt. Ça va très bien, à bientôt.\n"
RUSSIAN = "Однажды, в студёную зимнюю пору, я из лесу вышел; был сильный мороз. Гляжу, лошадка везёт хворосту воз.\n"
JAPANESE = "日本語のテキストです。今日は天気がいいので、公園を散歩しました。\n"
CZECH = "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a svědomím.\n"


def _read(folder: Path, data: bytes) -> str:
    path = folder / "a.txt"
    path.write_bytes(data)
    return text.load(path).text


@given(st.text(st.characters(exclude_categories=[])))
def test_cleaned_text_is_storable_and_cleaning_again_changes_nothing(raw: str) -> None:
    """Whatever comes in, the result is UTF-8 without NUL or carriage return, and final."""
    cleaned = text.clean(raw)
    cleaned.encode("utf-8")
    assert not set("\0\r") & set(cleaned)
    assert text.clean(cleaned) == cleaned


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")))
def test_text_without_fault_is_left_alone(raw: str) -> None:
    """Cleaning changes nothing but NUL, lone surrogates and line ends."""
    assert text.clean(raw) == raw


def test_line_ends_become_newlines_and_unstorable_characters_vanish() -> None:
    """A Windows line end is one newline, also when a NUL stands within it."""
    assert text.clean("a\r\nb\rc\r\0\nd\ud800e\0f") == "a\nb\nc\ndef"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_files_are_read_exactly_and_lose_their_mark(tmp_path: Path, encoding: str) -> None:
    """Each Unicode encoding gives the same text, without the byte order mark."""
    assert _read(tmp_path, POLYGLOT.encode(encoding)) == POLYGLOT


@pytest.mark.parametrize(("encoding", "mark"), [("utf-16-be", b"\xfe\xff"), ("utf-32-be", b"\0\0\xfe\xff")])
def test_big_endian_files_are_read_by_their_mark(tmp_path: Path, encoding: str, mark: bytes) -> None:
    """The mark decides the order of the bytes."""
    assert _read(tmp_path, mark + POLYGLOT.encode(encoding)) == POLYGLOT


@pytest.mark.parametrize(
    ("written", "encoding"),
    [
        (FRENCH, "cp1252"),
        ("Caf\xe9", "cp1252"),
        ("It costs 5 €.", "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "cp932"),
        (CZECH, "cp1250"),
        ("Plain English, saved by an old Windows program.\n" * 3, "utf-16-le"),
    ],
)
def test_unmarked_legacy_encodings_are_detected(tmp_path: Path, written: str, encoding: str) -> None:
    """A file that is not UTF-8 and says nothing of its encoding comes out as it was written."""
    assert _read(tmp_path, written.encode(encoding)) == written


def test_one_damaged_byte_does_not_turn_the_other_characters_into_another_alphabet(tmp_path: Path) -> None:
    """A UTF-8 file with a stray byte, or cut within a character, keeps everything else."""
    assert _read(tmp_path, ("naïve café " * 50).encode() + b"\xff end") == "naïve café " * 50 + "\ufffd end"
    assert _read(tmp_path, "naïve café".encode()[:-1]) == "naïve caf\ufffd"


@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 9, bytes(range(128)) * 9, b"\0" * 50, b"\x7fELF\2\1\1\0\0"],
)
def test_a_binary_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """Bytes that no encoding makes text of are an error, not an index full of junk."""
    with pytest.raises(DocumentError, match=r"a\.txt is not text but a binary file"):
        _read(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"\xef\xbb\xbf\xff", "utf-8"),
        (b"\xff\xfe\0\xdc", "utf-16-le"),
        (b"\xfe\xff\xdc\0", "utf-16-be"),
        (b"\xff\xfe\0\0\0\0\x11\0", "utf-32-le"),
        (b"\0\0\xfe\xff\0\x11\0\0", "utf-32-be"),
    ],
)
def test_a_false_byte_order_mark_is_reported(tmp_path: Path, data: bytes, encoding: str) -> None:
    """A file that only starts like another encoding is an error that says so."""
    with pytest.raises(DocumentError, match=f"is marked as {encoding} but byte 0 is not"):
        _read(tmp_path, data)


@pytest.mark.parametrize("data", [b"", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_a_file_without_text_is_refused(tmp_path: Path, data: bytes) -> None:
    """Nothing, white space and a lone byte order mark hold no text."""
    with pytest.raises(DocumentError, match=re.escape(f"{tmp_path / 'a.txt'} holds no text")):
        _read(tmp_path, data)


def test_the_document_is_named_after_its_file(tmp_path: Path) -> None:
    """A text file has no title of its own: its stem serves, and its name is the id."""
    path = tmp_path / "minutes of May.txt"
    path.write_text("Present: all.")
    document = text.load(path)
    assert (document.document_id, document.title, document.attributes) == ("minutes of May.txt", "minutes of May", {})


@given(data=st.binary())
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    """Any content is either text or a DocumentError of one line that starts with the path."""
    path = Path("any.txt")
    message = "any.txt is read"
    try:
        text.whole_file(path, "", text.decode(path, data))
    except DocumentError as error:
        message = str(error)
    assert message.startswith("any.txt ")
    assert "\n" not in message
