"""Which files are found in folders, and which loader reads them."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import docx
import pytest
from reportlab.pdfgen.canvas import Canvas

from indexers.loaders import dispatch
from rag_server.errors import DocumentError, UnsupportedFormatError
from rag_server.types import Document


def _ignore(read_bytes: int) -> None:
    """Stand in for a progress bar."""


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def _found(folder: Path, *paths: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in dispatch.find_files([folder / path for path in paths])]


def test_folders_are_expanded_in_sorted_order_without_what_is_hidden(tmp_path: Path) -> None:
    """Files of any kind are found, also those that no loader knows, so that they are reported."""
    _touch(tmp_path, "b/z.txt", "b/a/c.md", "a.unknown", ".hidden.txt", ".git/config", "b/.cache/d.txt")
    assert _found(tmp_path, ".") == ["a.unknown", "b/a/c.md", "b/z.txt"]


def test_what_is_named_explicitly_is_kept(tmp_path: Path) -> None:
    """In the order given: a hidden file, a hidden folder's files, an unknown kind, a file that does not exist."""
    _touch(tmp_path, ".env.txt", ".folder/a.txt", "b.exe")
    assert _found(tmp_path, "none.pdf", "b.exe", ".folder", ".env.txt") == [
        "none.pdf",
        "b.exe",
        ".folder/a.txt",
        ".env.txt",
    ]


def test_a_file_is_found_once(tmp_path: Path) -> None:
    """By whatever names, folders and links it is reached."""
    _touch(tmp_path, "a/x.txt", "a/y.txt")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "z.txt").symlink_to(tmp_path / "a/x.txt")
    assert _found(tmp_path, "a/y.txt", ".", "a", "a/../a/x.txt", "none", "none") == ["a/y.txt", "a/x.txt", "none"]


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    """A link to a folder above is not followed for ever; a dangling link is kept, to be reported."""
    _touch(tmp_path, "a/x.txt")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a/self")
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    assert _found(tmp_path, ".") == ["a/self", "a/x.txt", "dangling.txt"]


def test_a_pipe_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    """Opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe.txt")
    assert _found(tmp_path, ".") == []


def test_a_folder_that_may_not_be_listed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening it fails, which the caller reports; the other folders are still expanded."""
    _touch(tmp_path, "a/x.txt", "closed/y.txt")
    list_folder = os.listdir

    def refuse(folder: Path) -> list[str]:
        if folder.name == "closed":
            raise PermissionError(folder)
        return list_folder(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    assert _found(tmp_path, ".") == ["a/x.txt", "closed"]
    with pytest.raises(OSError, match="closed"):
        list(dispatch.load(tmp_path / "closed", _ignore))


def _write(path: Path) -> None:
    """Write "hello" in the format that the suffix names."""
    name = path.name.lower()
    if name.endswith(".pdf"):
        canvas = Canvas(str(path))
        canvas.drawString(72, 700, "hello")
        canvas.save()
    elif name.endswith(".docx"):
        word = docx.Document()
        word.add_paragraph("hello")
        word.save(str(path))
    elif name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(b'{"text": "hello"}'))
    elif name.endswith(".jsonl"):
        path.write_text('{"text": "hello"}')
    else:
        path.write_text("<p>hello</p>" if "htm" in name else "hello")


SUFFIXES = [
    ".txt",
    ".md",
    ".markdown",
    ".html",
    ".htm",
    ".pdf",
    ".docx",
    ".jsonl",
    ".jsonl.gz",
    ".PDF",
    ".Txt",
    ".JSONL.GZ",
    "",
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_format_has_its_loader(tmp_path: Path, suffix: str) -> None:
    """Upper case counts the same; text needs no suffix."""
    path = tmp_path / f"file{suffix}"
    _write(path)
    (document,) = dispatch.load(path, _ignore)
    assert isinstance(document, Document)
    assert document.text == "hello"
    assert document.document_id == ("line-1" if "jsonl" in suffix.lower() else path.name)


def test_an_unknown_kind_is_refused_with_a_remedy(tmp_path: Path) -> None:
    """The message is one line that tells what the file is."""
    path = tmp_path / "photo.txt"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(UnsupportedFormatError) as caught:
        list(dispatch.load(path, _ignore))
    assert str(caught.value) == (f"{path} is a picture (PNG); run OCR on it, which gives a PDF with text, or leave it out")


def test_a_large_file_is_refused_unless_it_is_read_by_rows(tmp_path: Path) -> None:
    """A file is read in one piece, but for those whose rows are documents."""
    size = 3 * 1024**2
    (tmp_path / "a.txt").write_bytes(b"a" * size)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "hello"}'.ljust(size))
    with pytest.raises(DocumentError, match=r"a\.txt has 3 MiB, more than 2 MiB; split it or leave it out"):
        list(dispatch.load(tmp_path / "a.txt", _ignore, max_bytes=2 * 1024**2))
    assert len(list(dispatch.load(tmp_path / "a.jsonl", _ignore, max_bytes=2 * 1024**2))) == 1
    assert len(list(dispatch.load(tmp_path / "a.txt", _ignore, max_bytes=size))) == 1


@pytest.mark.parametrize("name", ["missing.txt", "missing", "missing.jsonl"])
def test_a_file_that_does_not_exist_is_an_os_error(tmp_path: Path, name: str) -> None:
    """Whatever its suffix: a mistyped folder is not "of no known kind"."""
    with pytest.raises(FileNotFoundError):
        list(dispatch.load(tmp_path / name, _ignore))


def test_bad_rows_and_progress_reach_the_caller(tmp_path: Path) -> None:
    """The rows of a .jsonl file come through as values, errors among them."""
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "a"}\n!\n')
    told: list[int] = []
    document, error = dispatch.load(path, told.append)
    assert document == Document("line-1", "", "a")
    assert isinstance(error, DocumentError)
    assert told == [16]


def test_text_is_read_without_the_libraries_of_other_formats(tmp_path: Path) -> None:
    """Starting the command line does not pay for formats that are not there."""
    _touch(tmp_path, "a.txt")
    program = (
        "import sys; from pathlib import Path; from indexers.loaders.dispatch import load;"
        "next(load(Path(sys.argv[1]), id));"
        "print({'docx', 'pypdfium2', 'selectolax', 'markdown_it'} & set(sys.modules))"
    )
    output = subprocess.check_output([sys.executable, "-c", program, str(tmp_path / "a.txt")], text=True)
    assert output == "set()\n"
