"""A FAISS index over one vector store's vectors, with a checksummed snapshot that records how far it followed the log."""

import hashlib
import json
import os
import threading
from pathlib import Path

import faiss
import numpy as np
import structlog

from rag_server.types import Cursor, Hit, LogPage, Vectors

log = structlog.get_logger()

# First line of a snapshot; a change of the layout changes it, and older snapshots are then rebuilt.
FORMAT = "rag-server-faiss-1"


class FaissIndex:
    """Exact inner-product search. Every method may be called from any thread."""

    def __init__(self, snapshot: Path, *, dimension: int) -> None:
        """Load the snapshot if it is whole; otherwise start empty, so that the log is replayed."""
        self._snapshot = snapshot
        self._dimension = dimension
        self._lock = threading.Lock()
        self._index, self.cursor = _load(snapshot, dimension) or (_empty(dimension), Cursor())
        self._saved_cursor = self.cursor

    def __len__(self) -> int:
        """Return the number of vectors."""
        return int(self._index.ntotal)

    def apply(self, page: LogPage) -> None:
        """Add and remove what the page says; a page that was applied before changes nothing."""
        with self._lock:
            added = [chunk for chunk in page.added if chunk.id > self.cursor.chunk_id]
            if added:
                ids = np.array([chunk.id for chunk in added], dtype=np.int64)
                self._index.add_with_ids(np.stack([chunk.vector for chunk in added]).astype(np.float32), ids)
            if page.deleted_chunk_ids:
                self._index.remove_ids(faiss.IDSelectorBatch(np.array(page.deleted_chunk_ids, dtype=np.int64)))
            self.cursor = page.cursor

    def search(self, vector: Vectors, k: int) -> list[Hit]:
        """Return up to `k` chunks, nearest first; `vector` holds `dimension` numbers."""
        with self._lock:
            scores, ids = self._index.search(vector.reshape(1, self._dimension), min(k, max(len(self), 1)))
        return [Hit(int(id_), float(score)) for id_, score in zip(ids[0], scores[0], strict=True) if id_ != -1]

    def save(self) -> None:
        """Replace the snapshot atomically; it is on the disk when this returns. Nothing new means nothing to do."""
        with self._lock:
            if self.cursor == self._saved_cursor:
                return
            body = faiss.serialize_index(self._index).tobytes()
            cursor = self.cursor
        header = {
            "format": FORMAT,
            "dimension": self._dimension,
            "chunk_id": cursor.chunk_id,
            "deletion_id": cursor.deletion_id,
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        _replace(self._snapshot, json.dumps(header).encode() + b"\n" + body)
        self._saved_cursor = cursor


def _empty(dimension: int) -> faiss.Index:
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))


def _load(snapshot: Path, dimension: int) -> tuple[faiss.Index, Cursor] | None:
    try:
        first_line, _, body = snapshot.read_bytes().partition(b"\n")
        header = json.loads(first_line)
        # FAISS reads a damaged file without complaint, or crashes on it: only what we wrote ourselves reaches it.
        whole = hashlib.sha256(body).hexdigest() == header["sha256"]
        if not whole or (header["format"], header["dimension"]) != (FORMAT, dimension):
            raise ValueError("its checksum, format or dimension is not the expected one")
        cursor = Cursor(header["chunk_id"], header["deletion_id"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("vector index snapshot is damaged and will be rebuilt", snapshot=str(snapshot), reason=str(error))
        return None
    return faiss.deserialize_index(np.frombuffer(body, dtype=np.uint8)), cursor


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
