"""What goes to the workers of a cluster and comes back: files to read, and what was read of them, part by part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rag_server.config import ChunkingSettings
from rag_server.types import Chunk, Document, EmbeddedDocument, FileErrorCode


@dataclass(frozen=True, slots=True)
class FileToRead:
    """A file that is new or has changed. `number` is its own in this run; every worker finds its bytes at `path`.

    `stored` is the content hash of each of its documents that the store has, by its id: those need not be embedded again.
    """

    number: int
    path: Path
    chunking: ChunkingSettings
    stored: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnembeddedDocument:
    """A document that waits for the vectors of its chunks; `texts` is what is embedded for each."""

    document: Document
    content_hash: str
    chunks: tuple[Chunk, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A document that the store has as it is."""

    document_id: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that is no document, and why. `place` puts those of a file in order."""

    place: int
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """Is once among the parts of a file, not always as the last to come: there are `num_parts` others.

    `failure` says why the file was not read to its end, if it was not.
    """

    num_parts: int
    failure: str | None = None
    code: FileErrorCode = "invalid_file"


# What is read of a file. A document is cut where it is read, and gets its vectors elsewhere.
Part = UnembeddedDocument | EmbeddedDocument | Unchanged | Fault | End
# With the numbers of their files.
Parts = Sequence[tuple[int, Part]]
