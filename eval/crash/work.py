"""What the crash test does to a data directory through the product's own classes, with a cheap embedder and small sizes."""

import json
import re
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eval.bench.corpus import in_faiss
from indexers import faiss_index
from indexers.loaders import jsonl
from indexers.vector_maintenance import Limits
from rag_server import factory
from rag_server.config import Settings, load_settings
from rag_server.errors import InvalidRequestError, NotFoundError
from rag_server.jobs import change_model, ingest, worker
from rag_server.jobs.ingest import Ingest, Source
from rag_server.protocols import Embedder
from rag_server.store import documents, file_rows, files
from rag_server.types import Access, NewFile, StoredFile, Vectors, VectorStore

KINDS = ("ingest", "update", "delete", "attributes", "upload", "snapshot", "compaction", "model change")
COLLECTION = "crash"
ACCESS = Access()
SOURCES = "sources"
DATA = "data"
# Of the two models between which the collection changes.
DIMENSIONS = {"a": 16, "b": 24}
SMALL_COMMIT_CHUNKS = 12
# A graph from 25 to 37 rows on, scalar codes above 60: all of it is reached in seconds.
SMALL_LIMITS = Limits(flat_numbers=600, hnsw_rows=60, approximate_rows=20, tail_rows=16, dead_share=0.25)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing to do; `rows` are the documents of a file by their ids."""

    kind: str
    filename: str = ""
    rows: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    drops_other_models: bool = False


class HashEmbedder:
    """Adds up one random vector per word: equal texts have equal vectors, and it costs next to nothing."""

    location: str | None = None
    max_tokens = 64

    def __init__(self, model: str) -> None:
        self.model_id = f"hash-{model}"
        self.dimension = DIMENSIONS[model]

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return one row per query."""
        return self.embed_passages(texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return one row per passage."""
        rows = np.array([sum(map(self._word, re.findall(r"\w+", text)), start=self._word("")) for text in texts])
        normed: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return normed

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the span of every word."""
        return [match.span() for match in re.finditer(r"\S+", text)]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Raise: tokens have no ids."""
        raise InvalidRequestError(f"there is no token {token_ids}")

    def shortens_to(self, dimension: int) -> bool:
        """Return whether vectors may be cut."""
        return False

    def _word(self, word: str) -> Vectors:
        seed = zlib.crc32(f"{self.model_id} {word}".encode())
        return np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)


EMBEDDERS = {embedder.model_id: embedder for embedder in map(HashEmbedder, DIMENSIONS)}


def make_small() -> None:
    """Make every stage commit and reorganise after a few chunks, and take the lease of a killed process at once.

    Only for a process of its own: what is changed is changed for all of it.
    """
    for module, name, value in (
        (ingest, "CHUNKS_PER_COMMIT", SMALL_COMMIT_CHUNKS),
        (change_model, "CHUNKS_PER_COMMIT", SMALL_COMMIT_CHUNKS),
        (documents, "LEASE_S", 0.0),
        (files, "LEASE_S", 0.0),
        (faiss_index, "Limits", lambda: SMALL_LIMITS),
    ):
        if not hasattr(module, name):
            raise RuntimeError(f"{module.__name__} has no {name} any more: mend make_small()")
        setattr(module, name, value)


class Session:
    """A data directory that is open, as a server has it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / SOURCES).mkdir(parents=True, exist_ok=True)
        # What a killed process left of its uploads is removed with the directory.
        tempfile.tempdir = str(directory)
        self.settings: Settings = load_settings({"RAG_CHUNKING__MAX_TOKENS": "16"}, data_dir=directory / DATA)
        self.store = factory.open_store(self.settings)
        self.indexes = factory.open_indexes(self.settings, self.store)

    def vector_store(self) -> VectorStore:
        """Return the collection, made on the spot if need be."""
        with suppress(NotFoundError):
            return self.store.vector_stores.get(COLLECTION, ACCESS)
        return self.store.vector_stores.create(COLLECTION, ACCESS, HashEmbedder("a"))

    def embedder_of(self, vector_store: VectorStore) -> HashEmbedder:
        """Return the model that the collection is searched with now."""
        return EMBEDDERS[vector_store.embedding_model]

    def do(self, operation: Operation) -> None:
        """Do it, whether or not a process was killed while it did the same."""
        steps: Mapping[str, Callable[[VectorStore, Operation], None]] = {
            "ingest": self._ingest,
            "update": self._ingest,
            "delete": self._delete,
            "attributes": self._set_attributes,
            "upload": self._upload,
            "snapshot": lambda vector_store, _: self.indexes.refresh(vector_store),
            "compaction": self._compact,
            "model change": self._change_model,
        }
        steps[operation.kind](self.vector_store(), operation)

    def close(self) -> None:
        """Close the store; the indexes are left as they are on the disk."""
        self.store.database.close()

    def _ingest(self, vector_store: VectorStore, operation: Operation) -> None:
        path = self.directory / SOURCES / operation.filename
        content = content_of(operation.rows)
        path.write_bytes(content)
        new = NewFile(str(path), operation.filename, len(content), attributes=operation.attributes)
        report = self._indexing(self.embedder_of(vector_store)).run(vector_store, [Source(path, new)], worker.NoProgress())
        if report.failed:
            raise RuntimeError(f"not indexed: {report.failed}")

    def _indexing(self, embedder: Embedder) -> Ingest:
        return Ingest(
            files=self.store.files,
            documents=self.store.documents,
            embedder=embedder,
            load=jsonl.load,
            cut_text=factory.build_chunker(self.settings),
            chunking=self.settings.chunking,
        )

    def _delete(self, vector_store: VectorStore, operation: Operation) -> None:
        for file in self._named(vector_store, operation.filename):
            self.store.files.delete(vector_store, file)
        for upload in self.store.uploads.readable(ACCESS):
            if upload.filename == operation.filename:
                self.store.uploads.delete(upload, ACCESS)

    def _set_attributes(self, vector_store: VectorStore, operation: Operation) -> None:
        for file in self._named(vector_store, operation.filename):
            self.store.files.set_attributes(vector_store, file, operation.attributes)

    def _upload(self, vector_store: VectorStore, operation: Operation) -> None:
        found = [upload for upload in self.store.uploads.readable(ACCESS) if upload.filename == operation.filename]
        content = content_of(operation.rows)
        halves = (content[: len(content) // 2], content[len(content) // 2 :])
        upload = (
            found[0]
            if found
            else self.store.uploads.put(ACCESS, filename=operation.filename, purpose="assistants", content=halves)
        )
        source = f"{file_rows.UPLOAD}{upload.id}"
        new = NewFile(source, operation.filename, len(content), id=upload.id, attributes=operation.attributes)
        self.store.files.enqueue(vector_store, new)
        while (file := self.store.files.lease()) is not None:
            worker.index_uploads(self.store, file, self.embedder_of, self._indexing)
        for file in self._named(vector_store, operation.filename):
            if file.status != "completed":
                raise RuntimeError(f"not indexed: {file.error}")

    def _compact(self, vector_store: VectorStore, operation: Operation) -> None:
        index = in_faiss(self.indexes.vectors(vector_store))
        while index.maintain():
            pass
        index.save()

    def _change_model(self, vector_store: VectorStore, operation: Operation) -> None:
        change = self.store.model_change
        change_model.change_model(change, vector_store, HashEmbedder(operation.model), worker.NoProgress())
        changed = self.vector_store()
        if operation.drops_other_models:
            change.drop_others(changed)
        self.indexes.refresh(changed)

    def _named(self, vector_store: VectorStore, filename: str) -> list[StoredFile]:
        return [file for file in self.store.files.readable(vector_store, ACCESS) if file.filename == filename]


def content_of(rows: Mapping[str, str]) -> bytes:
    """Return the rows as a .jsonl file."""
    return "".join(json.dumps({"id": name, "title": name, "text": text}) + "\n" for name, text in rows.items()).encode()
