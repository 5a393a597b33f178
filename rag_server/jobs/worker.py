"""The indexing process: takes uploads from the queue, some at a time, until none is left."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from rag_server.errors import RagServerError
from rag_server.factory import Store
from rag_server.jobs.ingest import Ingest
from rag_server.protocols import Embedder
from rag_server.store.file_rows import UPLOAD
from rag_server.store.vector_stores import check_embedding
from rag_server.types import StoredFile, VectorStore

log = structlog.get_logger()

# To look costs a tenth of a millisecond, and whoever uploads waits for it.
POLL_S = 0.01
# Loading the embedding model takes several seconds: worth keeping for the next upload.
IDLE_S = 60.0
# Of small files, whose chunks make full batches together; they are on their way at once, and so begun again after a crash.
MAX_TOGETHER = 32
# What file systems take, less what a suffix may add.
MAX_NAME_BYTES = 200


class NoProgress:
    """Shows nothing: how far a file is can be read from the store."""

    def started(self, num_files: int, total_bytes: int) -> None:
        """Show nothing."""

    def read_bytes(self, num_bytes: int) -> None:
        """Show nothing."""

    def stored_chunks(self, num_chunks: int) -> None:
        """Show nothing."""


def work(store: Store, embedder_of: Callable[[VectorStore], Embedder], ingest: Callable[[Embedder], Ingest]) -> None:
    """Index what waits; return once nothing has waited for a minute."""
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_S:
        file = store.files.lease() if store.files.num_waiting() else None
        if file is None:
            time.sleep(POLL_S)
            continue
        index_uploads(store, file, embedder_of, ingest)
        idle_since = time.monotonic()


def index_uploads(
    store: Store, first: StoredFile, embedder_of: Callable[[VectorStore], Embedder], ingest: Callable[[Embedder], Ingest]
) -> None:
    """Index a leased upload and those that wait behind it for the same vector store; what goes wrong is recorded as theirs."""
    leased = [first]
    try:
        vector_store = store.vector_stores.by_id(first.vector_store_id)
        embedder = embedder_of(vector_store)
        check_embedding(vector_store, embedder)
        ingest(embedder).run_leased(vector_store, _with_bodies(store, leased), NoProgress())
    except (RagServerError, OSError) as error:
        for file in leased:
            _fail(store, file, error)


def _with_bodies(store: Store, leased: list[StoredFile]) -> Iterator[tuple[StoredFile, Path]]:
    """Yield the leased file and those that may go beside it, which are leased as they are asked for, with their bytes."""
    file: StoredFile | None = leased[0]
    while file is not None:
        with TemporaryDirectory(prefix="rag-upload-") as folder:
            path = Path(folder) / _file_name(file.filename)
            try:
                with path.open("wb") as body:
                    for part in store.uploads.content(file.source.removeprefix(UPLOAD)):
                        body.write(part)
            except (RagServerError, OSError) as error:
                _fail(store, file, error)
            else:
                yield file, path
        file = store.files.lease(beside=file) if len(leased) < MAX_TOGETHER else None
        leased += [file] if file is not None else []


def _fail(store: Store, file: StoredFile, error: Exception) -> None:
    if store.files.fail(file, str(error), "server_error"):
        log.warning("not indexed", file=file.filename, reason=str(error))


def _file_name(name: str) -> str:
    """Return what a client called its file as a name that every file system takes."""
    base = "".join("_" if character in "/\\:\0" or not character.isprintable() else character for character in name)
    stem, dot, suffix = base.lstrip(".").rpartition(".")
    kept = (stem or suffix).encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore") or "file"
    return f"{kept}.{suffix[:20]}" if dot and stem else kept
