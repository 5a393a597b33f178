"""Files as they were indexed: sent as they are on the disk while they are the same, and never as anything else."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rag_server import fingerprints
from rag_server.config import ChunkingSettings
from rag_server.errors import NotFoundError
from rag_server.fingerprints import file_fingerprint
from rag_server.originals import original_of
from rag_server.types import StoredFile

CHUNKING = ChunkingSettings()
# More than what Python reads ahead.
CONTENT = bytes(range(256)) * 90
PART_BYTES = 10_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "report.pdf"
    found.write_bytes(CONTENT)
    return found


@pytest.fixture
def file(path: Path) -> StoredFile:
    """The file as it was indexed."""
    return StoredFile(
        key=1,
        id="file-1",
        vector_store_id="vs_1",
        source=str(path),
        filename=path.name,
        bytes=len(CONTENT),
        created_at=0,
        status="completed",
        fingerprint=file_fingerprint(path, CHUNKING),
        attributes={},
        principals=None,
        chunking=None,
        error=None,
        bytes_read=0,
    )


def content_of(file: StoredFile, chunking: ChunkingSettings = CHUNKING) -> bytes:
    """What is sent; no upload is asked for."""
    original = original_of(file, None, chunking, tenant="")
    content = b"".join(original.parts)
    assert original.num_bytes == len(content)
    return content


def replaced_by_a_link(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    path.unlink()
    path.symlink_to(other)


def test_file_that_is_the_same_is_sent(file: StoredFile, path: Path) -> None:
    """Byte for byte, also through a link to a copy."""
    assert content_of(file) == CONTENT
    replaced_by_a_link(path, CONTENT)
    assert content_of(file) == CONTENT


def test_large_file_comes_in_parts(file: StoredFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one is in memory."""
    monkeypatch.setattr(fingerprints, "READ_BYTES", PART_BYTES)

    parts = list(original_of(file, None, CHUNKING, tenant="").parts)

    assert list(map(len, parts)) == [10_000, 10_000, 3040]
    assert b"".join(parts) == CONTENT


CHANGES: dict[str, Callable[[Path], object]] = {
    "one byte": lambda path: path.write_bytes(b"\xff" + CONTENT[1:]),
    "longer": lambda path: path.write_bytes(CONTENT + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "link to another": lambda path: replaced_by_a_link(path, b"\xff" + CONTENT[1:]),
    "link to a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}
GONE: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "link to itself": lambda path: (path.unlink(), path.symlink_to(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "below a file": lambda path: (path.unlink(), path.parent.rename(path.parent.with_name("x")), path.parent.write_text("")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_file_that_changed_is_not_sent(file: StoredFile, path: Path, change: str) -> None:
    """Whatever lies there now, it is not what the passages are of; the message has the file and the remedy, and no folder."""
    CHANGES[change](path)

    with pytest.raises(
        NotFoundError, match=r"report\.pdf.* has changed since it was indexed; run `rag-server index` again"
    ) as e:
        content_of(file)
    assert str(path.parent) not in str(e.value)


@pytest.mark.parametrize("change", GONE)
def test_file_that_is_gone_is_told(file: StoredFile, path: Path, change: str) -> None:
    """With where to put it, and without the name of the folder."""
    GONE[change](path)

    with pytest.raises(NotFoundError, match=r"report\.pdf is not where it was indexed from any more.*put it back") as e:
        content_of(file)
    assert str(path.parent) not in str(e.value)


def test_file_is_not_sent_that_nothing_vouches_for(file: StoredFile, path: Path) -> None:
    """One that was not indexed to its end, or was cut otherwise, or whose path would depend on where the server runs."""
    assert content_of(file) == CONTENT
    for chunking in (CHUNKING.model_copy(update={"max_tokens": 99}), CHUNKING.model_copy(update={"overlap_tokens": 9})):
        with pytest.raises(NotFoundError):
            content_of(file, chunking)
    for changed in (replace(file, fingerprint=None), replace(file, source=os.path.relpath(path)), replace(file, source="")):
        with pytest.raises(NotFoundError):
            content_of(changed)


def test_no_byte_is_sent_that_was_written_after_the_check(
    file: StoredFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by whoever writes into the file between check and sending, nor by whoever puts another in its place."""
    monkeypatch.setattr(fingerprints, "READ_BYTES", PART_BYTES)
    parts = original_of(file, None, CHUNKING, tenant="").parts
    sent = [next(parts)]
    with path.open("r+b") as writer:
        writer.seek(18_000)
        writer.write(b"secret")

    with pytest.raises(NotFoundError, match="has changed"):
        sent += parts
    assert b"".join(sent) == CONTENT[:PART_BYTES]

    path.write_bytes(CONTENT)
    parts = original_of(file, None, CHUNKING, tenant="").parts
    replaced_by_a_link(path, b"\xff" + CONTENT[1:])
    assert b"".join(parts) == CONTENT


@pytest.mark.parametrize("length", [0, 12_000, 20_000, len(CONTENT) + 500])
def test_file_that_is_cut_or_grows_meanwhile_is_not_passed_for_whole(
    file: StoredFile, path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent breaks off, so that whoever counts the bytes sees it."""
    monkeypatch.setattr(fingerprints, "READ_BYTES", PART_BYTES)
    parts = original_of(file, None, CHUNKING, tenant="").parts
    os.truncate(path, length)

    with pytest.raises(NotFoundError, match="has changed"):
        list(parts)
