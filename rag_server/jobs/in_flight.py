"""What goes through the stages of indexing: files to read, documents that are cut, the ends of files; and the report."""

from dataclasses import dataclass, field
from pathlib import Path

from rag_server.config import ChunkingSettings
from rag_server.types import Chunk, Document, EmbeddedDocument, FileErrorCode, NewFile, StoredFile, Vectors


@dataclass(frozen=True, slots=True)
class Source:
    """A file to index: where its bytes are now, and what it is called in the store."""

    path: Path
    new: NewFile


@dataclass(slots=True)
class IngestReport:
    """What became of each file, and why."""

    indexed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    failed: dict[str, list[str]] = field(default_factory=dict)
    num_documents: int = 0
    num_chunks: int = 0
    num_reused: int = 0


@dataclass(slots=True)
class OpenFile:
    """A file that this process has leased, from its first document to its end."""

    stored: StoredFile
    path: Path
    fingerprint: str
    chunking: ChunkingSettings
    # The ids of its documents, and what is wrong with rows that are none.
    seen: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    bytes_read: int = 0
    # It was cancelled, deleted or taken over, or has failed: nothing more of it needs to be read.
    is_lost: bool = False
    # Stored to its end, or lost for good.
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class CutDocument:
    """A document waiting for its vectors; some of its texts may have them already."""

    file: OpenFile
    document: Document
    content_hash: str
    chunks: tuple[Chunk, ...]
    texts: tuple[str, ...]
    known: dict[str, Vectors]


@dataclass(frozen=True, slots=True)
class EmbeddedPart:
    """A document that is ready to be stored."""

    file: OpenFile
    embedded: EmbeddedDocument


@dataclass(frozen=True, slots=True)
class Ended:
    """Comes after the last document of a file; `failure` says why it was not read to its end, if it was not."""

    file: OpenFile
    failure: str | None = None
    code: FileErrorCode = "invalid_file"
