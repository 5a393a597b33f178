"""Archives of XML: what may not be opened is refused before anything unpacks it."""

import re
import struct
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

from indexers.loaders import package
from rag_server.errors import DocumentError

LOADERS = {"docx": "docx", "pptx": "pptx", "xlsx": "spreadsheet", "odt": "odt", "epub": "epub"}
OLE = bytes.fromhex("D0CF11E0A1B11AE1")
LOCAL, CENTRAL = (b"PK\3\4", 0), (b"PK\1\2", 2)


def _archive(folder: Path, suffix: str) -> Path:
    path = folder / f"file.{suffix}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", b"content")
    return path


def _refusal(path: Path) -> str:
    loader = import_module(f"indexers.loaders.{LOADERS[path.suffix[1:]]}")
    with pytest.raises(DocumentError) as caught:
        loader.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize("suffix", LOADERS)
def test_a_member_that_claims_two_gigabytes_is_refused(tmp_path: Path, suffix: str) -> None:
    path = _archive(tmp_path, suffix)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, 2 * 1024**3)
    path.write_bytes(bytes(data))
    assert _refusal(path) == "unpacks to 2048 MB, more than 512 MB; split it or leave it out"


@pytest.mark.parametrize("suffix", LOADERS)
def test_an_archive_with_encrypted_members_needs_a_password(tmp_path: Path, suffix: str) -> None:
    path = _archive(tmp_path, suffix)
    data = bytearray(path.read_bytes())
    for signature, shift in (LOCAL, CENTRAL):
        for match in re.finditer(re.escape(signature), bytes(data)):
            data[match.start() + shift + 6] |= 1
    path.write_bytes(bytes(data))
    assert _refusal(path) == "is protected by a password; save a copy without one"


@pytest.mark.parametrize("suffix", ["docx", "pptx", "xlsx"])
def test_a_package_wrapped_in_ole_needs_a_password(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(OLE + bytes(512) + "EncryptedPackage".encode("utf-16-le") + bytes(512))
    assert _refusal(path) == "is protected by a password; save a copy without one"


@pytest.mark.parametrize("suffix", LOADERS)
@pytest.mark.parametrize("data", [b"", b"PK\3\4 cut off", b"plain text"])
def test_what_is_no_archive_is_not_readable(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"file.{suffix}"
    path.write_bytes(data)
    assert re.match(r"is not a readable [\w ]+ \(.+\); save it again as \.\w+$", _refusal(path))


@pytest.mark.parametrize("suffix", LOADERS)
def test_another_archive_is_not_readable(tmp_path: Path, suffix: str) -> None:
    assert _refusal(_archive(tmp_path, suffix)).startswith("is not a readable ")


@pytest.mark.parametrize("suffix", LOADERS)
def test_what_cannot_be_opened_is_an_os_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(FileNotFoundError):
        import_module(f"indexers.loaders.{LOADERS[suffix]}").load(tmp_path / f"missing.{suffix}")


def test_an_old_binary_file_is_no_encrypted_one(tmp_path: Path) -> None:
    path = tmp_path / "file.docx"
    path.write_bytes(OLE + bytes(512))
    with pytest.raises(DocumentError, match=r"is in an old binary format; save it as \.docx"):
        package.check_package(path, package.Format("Word document", ".docx"))
