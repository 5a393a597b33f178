"""Says of what format a file is: by its content, and by its name only where text is text."""

import json
import re
import zipfile
import zlib
from pathlib import Path

import olefile

from indexers.loaders.package import needs_password
from indexers.loaders.signatures import identify
from indexers.loaders.text import BYTE_ORDER_MARKS, CONTROL_CHARACTERS, MAX_CONTROL_SHARE, one_line
from rag_server.errors import DocumentError, UnsupportedFormatError

HEAD_BYTES = 65_536
# Readers of PDF accept as much rubbish before its first line.
PDF_SEARCH_BYTES = 1024
ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
GZIP_SIGNATURE = b"\x1f\x8b"
MIMETYPE_BYTES = 256
# Of a text in UTF-16 without a mark, one byte of each pair is a NUL as often as a character is from Western scripts.
MIN_NUL_SHARE = 0.2
MAX_STRAY_NUL_SHARE = 0.02

HTML = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!doctype\s+html\b|<html[\s>])", re.IGNORECASE)
XML = re.compile(r"\s*<\?xml\s", re.IGNORECASE)

# fmt: off
CODE_SUFFIXES = frozenset((
    ".ada", ".adb", ".ads", ".asm", ".awk", ".bash", ".bat", ".bib", ".c", ".cc", ".cfg", ".cjs", ".clj", ".cljs",
    ".cmake", ".cob", ".coffee", ".conf", ".cpp", ".cs", ".css", ".cxx", ".d", ".dart", ".el", ".elm", ".erl", ".ex",
    ".exs", ".f", ".f90", ".fs", ".fsx", ".go", ".gradle", ".graphql", ".groovy", ".h", ".hcl", ".hh", ".hpp", ".hrl",
    ".hs", ".hxx", ".ini", ".java", ".jl", ".js", ".jsp", ".jsx", ".kt", ".kts", ".less", ".lisp", ".lua", ".m", ".mjs",
    ".ml", ".mli", ".mm", ".nim", ".nix", ".pas", ".php", ".pl", ".pm", ".proto", ".ps1", ".py", ".pyi", ".pyx", ".r",
    ".rb", ".rkt", ".rs", ".s", ".sass", ".scala", ".scm", ".scss", ".sh", ".sol", ".sql", ".svelte", ".swift", ".tcl",
    ".tex", ".tf", ".toml", ".ts", ".tsx", ".v", ".vb", ".vhd", ".vhdl", ".vim", ".vue", ".yaml", ".yml", ".zig", ".zsh",
))
# fmt: on
TEXT_SUFFIXES = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".xml": "xml",
    ".csv": "tables",
    ".tsv": "tables",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json_file",
    ".ipynb": "notebook",
    ".eml": "eml",
    **dict.fromkeys(CODE_SUFFIXES, "source_code"),
}
PLAIN_SUFFIXES = frozenset((".txt", ".text", ".log"))
GZIPPED_ROWS = (".jsonl.gz", ".ndjson.gz")
# A text in one of these is a file that was given the wrong name, or what is left of one.
BINARY_SUFFIXES = frozenset(
    (".pdf", ".doc", ".docx", ".odt", ".epub", ".ppt", ".pptx", ".rtf", ".xls", ".xlsx", ".xlsm", ".xlsb", ".ods")
)

OFFICE_FOLDERS = {"word/": "docx", "xl/": "spreadsheet", "ppt/": "pptx"}
PACKAGE_TYPES = {
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.text-template": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "spreadsheet",
    "application/vnd.oasis.opendocument.spreadsheet-template": "spreadsheet",
    "application/epub+zip": "epub",
}
OPEN_DOCUMENT = "application/vnd.oasis.opendocument."
# What zipfile raises over a damaged archive.
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError)


def sniff(path: Path) -> str:
    """Return the name of the file's format, which is that of its loader.

    Raises:
        DocumentError: The file is empty, damaged, protected by a password or not what its name says;
            UnsupportedFormatError if it is of a kind that no loader reads.
        OSError: The file cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head or (len(head) < HEAD_BYTES and not head.strip()):
        raise DocumentError(f"{path} holds no text")
    if head.startswith(ZIP_SIGNATURES):
        return _zip_format(path)
    if head.startswith(olefile.MAGIC):
        return _ole_format(path)
    if head.startswith(GZIP_SIGNATURE):
        return _gzip_format(path)
    if head.startswith(b"{\\rtf"):
        return "rtf"
    return _pdf_or_text_format(path, head)


def _pdf_or_text_format(path: Path, head: bytes) -> str:
    text = _peek(head)
    position = head.find(b"%PDF-", 0, PDF_SEARCH_BYTES)
    # In the middle of a text it is what the text is about.
    if position >= 0 and (not head[:position].strip() or text is None or path.suffix.lower() == ".pdf"):
        return "pdf"
    _check_kind(path, head, looks_like_text=text is not None)
    # There is nothing to go by in a text without ASCII.
    return _text_format(path, text or "")


def _check_kind(path: Path, head: bytes, *, looks_like_text: bool) -> None:
    """Refuse what is no text, but for what is so by its name: the loader of text knows more encodings."""
    kind = identify(head, looks_like_text=looks_like_text)
    if kind is not None:
        name, remedy = kind
        raise UnsupportedFormatError(f"{path} is {name}; {remedy}")
    if not looks_like_text and path.suffix.lower() not in {*PLAIN_SUFFIXES, *TEXT_SUFFIXES, *BINARY_SUFFIXES}:
        raise UnsupportedFormatError(
            f"{path} is a binary file of no known kind; convert it to .pdf or .txt, name it .txt if it is text, or leave it out"
        )


def _text_format(path: Path, text: str) -> str:
    suffix = path.suffix.lower()
    by_name = TEXT_SUFFIXES.get(suffix)
    # Programs write pages and begin like them.
    if by_name == "source_code":
        return by_name
    if HTML.match(text):
        return "html"
    if XML.match(text) and by_name != "html":
        return "xml"
    if suffix in BINARY_SUFFIXES:
        raise DocumentError(
            f"{path} is not a readable {suffix} file, whatever its name says; get it again, or name it .txt if it is text"
        )
    if path.name.lower().endswith(GZIPPED_ROWS):
        return "jsonl"
    if by_name == "jsonl" and _is_record_without_text(text):
        return "json_file"
    return by_name or "text"


def _is_record_without_text(text: str) -> bool:
    """Return whether the first row is data rather than a document, so that the whole file is one document."""
    try:
        row = json.loads(next((line for line in text.splitlines() if line.strip()), ""))
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "text" not in row


def _peek(head: bytes) -> str | None:
    """Return the beginning of a text, roughly decoded; None for what is most likely no text."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return head[len(mark) :].decode(encoding, "replace")
    if b"\0" in head:
        wide = _wide_encoding(head)
        return None if wide is None else head.decode(wide, "replace")
    text = head.decode("latin-1")
    return None if sum(map(text.count, CONTROL_CHARACTERS)) > MAX_CONTROL_SHARE * len(text) else text


def _wide_encoding(head: bytes) -> str | None:
    """Return the encoding of a text with several bytes to a character and no mark, told by where its NULs stand."""
    shares = [head[offset::4].count(0) / max(1, len(head[offset::4])) for offset in range(4)]
    is_nul = [share >= MIN_NUL_SHARE for share in shares]
    if any(MAX_STRAY_NUL_SHARE < share < MIN_NUL_SHARE for share in shares):
        return None
    layouts = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    return layouts.get((is_nul[0], is_nul[1], is_nul[2], is_nul[3]))


def _zip_format(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as package:
            names = package.namelist()
            mimetype = _mimetype(package, names)
    except ZIP_DAMAGE as error:
        raise DocumentError(f"{path} is a damaged or cut-off package ({one_line(error)}); get it again") from error
    if mimetype in PACKAGE_TYPES:
        return PACKAGE_TYPES[mimetype]
    if mimetype.startswith(OPEN_DOCUMENT):
        raise UnsupportedFormatError(f"{path} is an OpenDocument {mimetype.removeprefix(OPEN_DOCUMENT)}; save it as .pdf")
    if "META-INF/container.xml" in names:
        return "epub"
    if "[Content_Types].xml" in names:
        for folder, name in OFFICE_FOLDERS.items():
            if any(member.startswith(folder) for member in names):
                return name
    raise UnsupportedFormatError(f"{path} is an archive (zip); unpack it and index what it holds")


def _mimetype(package: zipfile.ZipFile, names: list[str]) -> str:
    """Return what a package of OpenDocument or EPUB says of itself."""
    if "mimetype" not in names:
        return ""
    with package.open("mimetype") as member:
        return member.read(MIMETYPE_BYTES).decode("latin-1").strip()


def _ole_format(path: Path) -> str:
    """Tell the formats apart that Office wrote before 2007, and the envelope that it puts around protected ones."""
    with path.open("rb") as file:
        try:
            with olefile.OleFileIO(file) as container:
                streams = {entry[0].lower() for entry in container.listdir()}
        # A damaged one makes it fail in any way; its OSError says nothing of the disk.
        except Exception as error:
            raise DocumentError(f"{path} is a damaged Office document ({one_line(error)}); get it again") from error
    if "encryptedpackage" in streams:
        raise needs_password(path)
    if "worddocument" in streams:
        return "doc"
    if streams & {"workbook", "book"}:
        return "spreadsheet"
    if "powerpoint document" in streams:
        raise UnsupportedFormatError(f"{path} is a presentation in the old format; save it as .pptx")
    if "__properties_version1.0" in streams:
        raise UnsupportedFormatError(f"{path} is a message of Outlook; save it as .eml")
    raise UnsupportedFormatError(f"{path} is an old Office file of no known kind; save it as .docx, .xlsx or .pdf")


def _gzip_format(path: Path) -> str:
    if path.name.lower().endswith(GZIPPED_ROWS):
        return "jsonl"
    raise UnsupportedFormatError(f"{path} is an archive (gzip); unpack it and index what it holds")
