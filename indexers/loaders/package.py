"""What the formats share that are zip archives of XML: is it one, may it be opened, how much would it unpack to."""

import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from lxml.etree import LxmlError

from indexers.loaders.text import one_line
from rag_server.errors import DocumentError

MAX_UNCOMPRESSED_BYTES = 512 * 1024 * 1024
OLE_SIGNATURE = bytes.fromhex("D0CF11E0A1B11AE1")
# The stream in which Office wraps a whole encrypted package.
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
# What zipfile, lxml and the libraries above them raise over a damaged package; OSError is a position outside of the file.
DAMAGE = (
    LxmlError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RecursionError,
    NotImplementedError,
    LookupError,
    ValueError,
    AttributeError,
    TypeError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Format:
    """How messages name a format: "Word document", ".docx"."""

    name: str
    suffix: str


def check_package(path: Path, format_: Format) -> None:
    """Refuse what would fill the memory or cannot be opened, before a library unpacks it."""
    with path.open("rb") as file:
        if file.read(len(OLE_SIGNATURE)) == OLE_SIGNATURE:
            raise _wrapped(path, format_)
        try:
            with zipfile.ZipFile(file) as package:
                members = package.infolist()
        except DAMAGE as error:
            raise unreadable(path, format_, error) from error
    if any(member.flag_bits & 1 for member in members):
        raise needs_password(path)
    total = sum(member.file_size for member in members)
    if total > MAX_UNCOMPRESSED_BYTES:
        limit = MAX_UNCOMPRESSED_BYTES // 1024**2
        raise DocumentError(f"{path} unpacks to {total // 1024**2} MB, more than {limit} MB; split it or leave it out")


def is_encrypted_package(data: bytes) -> bool:
    """Tell whether an OLE file wraps an encrypted package: only such a file names that stream in its directory."""
    return data.startswith(OLE_SIGNATURE) and ENCRYPTED_PACKAGE in data


def needs_password(path: Path) -> DocumentError:
    """Return the error of an encrypted file."""
    return DocumentError(f"{path} is protected by a password; save a copy without one")


def unreadable(path: Path, format_: Format, error: Exception) -> DocumentError:
    """Return the error of a damaged file."""
    return DocumentError(f"{path} is not a readable {format_.name} ({one_line(error)}); save it again as {format_.suffix}")


def _wrapped(path: Path, format_: Format) -> DocumentError:
    if is_encrypted_package(path.read_bytes()):
        return needs_password(path)
    return DocumentError(f"{path} is in an old binary format; save it as {format_.suffix}")
