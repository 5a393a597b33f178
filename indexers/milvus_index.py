"""The vector index of one vector store in Milvus. Several servers may share it: each brings it up to date before it searches.

Nobody has to lead. Chunks are put under their ids, so that it does not matter who puts them, or how often; how far the log was
applied is written behind what was applied. A server that was slow may still put a chunk that another has deleted: it is found
once, compared with the truth, and deleted for good.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from indexers.milvus_collection import CHUNKS, CONSISTENCY, newest_generation, open_generation, read_cursor, write_cursor
from indexers.milvus_connection import READ_TIMEOUT_S, WRITE_TIMEOUT_S, Client, CollectionGoneError, MilvusConnection
from rag_server.errors import DimensionMismatchError, IndexUnavailableError
from rag_server.types import ChunkIds, Cursor, Hit, LoggedChunk, LogPage, Vectors

# Milvus takes messages of up to 64 MiB.
MAX_WRITE_BYTES = 16 * 2**20
MAX_DELETED_IDS = 10_000
# As values beside the filter, and as its text.
MAX_ALLOWED_IDS, MAX_ALLOWED_IDS_AS_TEXT = 500_000, 10_000
# What Milvus returns at most is 16,384 rows.
MAX_ROWS = 10_000
MAX_REPAIRS = 5
# Returns those of the ids that the truth store has.
Living = Callable[[ChunkIds], ChunkIds]


class MilvusIndex:
    """Inner-product search. Every method may be called from any thread, and raises IndexUnavailableError without Milvus."""

    def __init__(self, connection: MilvusConnection, prefix: str, *, dimension: int, living: Living | None = None) -> None:
        """Open the collection, made if need be.

        Args:
            connection: Where Milvus is.
            prefix: The beginning of the collection's name; no other index has it.
            dimension: The number of columns of every vector.
            living: Which chunks are still there; without it, what is found is not compared with the truth.
        """
        self._connection = connection
        self._prefix = prefix
        self._dimension = dimension
        self._living = living
        # Milvus Lite takes one writer at a time.
        self._writing = threading.Lock()
        # Whether another server built the index anew: then it has to be opened again.
        self.is_gone = False
        # At least so far the log was applied to this collection.
        self._cursor = self._saved = Cursor()
        self._written_at = 0
        with self._client() as client:
            self._generation = max(1, newest_generation(client, prefix))
            self._open(client)

    def __len__(self) -> int:
        """Return the number of vectors that can be found."""
        with self._client() as client:
            rows = client.query(self._name, filter="id > 0", output_fields=["count(*)"], timeout=READ_TIMEOUT_S)
        return int(rows[0]["count(*)"])

    @property
    def cursor(self) -> Cursor:
        """How far the log has been applied, as far as this server knows."""
        return self._cursor

    @property
    def newest(self) -> int:
        """The greatest chunk id that can be found, 0 if there is none."""
        with self._client() as client:
            low, high = 0, self._cursor.chunk_id
            while high - low > MAX_ROWS:
                middle = (low + high) // 2
                low, high = (middle, high) if self._ids_after(client, middle, limit=1) else (low, middle)
            return max(self._ids_after(client, low, limit=MAX_ROWS), default=0)

    def describe(self) -> str:
        """Return one sentence on what is in use."""
        where = f"Milvus {self._connection.version()} at {self._connection.url}"
        return f"{len(self):,} vectors of {self._dimension} dimensions in {where}, collection {self._name}"

    def apply(self, page: LogPage) -> None:
        """Add and remove what the page says, but for what another server did already.

        Raises:
            DimensionMismatchError: A vector has another length than the index is made for; nothing was applied.
        """
        with self._writing:
            if _furthest(self._cursor, page.cursor) == self._cursor:
                return
            for chunk in page.added:
                self._check(chunk.vector)
            with self._client() as client:
                done = _furthest(self._cursor, read_cursor(client, self._name))
                if _furthest(done, page.cursor) != done:
                    self._put(client, [chunk for chunk in page.added if chunk.id > done.chunk_id])
                    self._delete(client, page.deleted_chunk_ids)
                self._take_over(client, _furthest(done, page.cursor))

    def search(self, vector: Vectors, k: int, *, allowed: ChunkIds | None = None) -> list[Hit]:
        """Return the `k` nearest chunks (of `allowed`), nearest first, fewer only if there are fewer.

        Raises:
            DimensionMismatchError: `vector` has another length than the index is made for.
        """
        self._check(vector)
        query = np.ascontiguousarray(vector, dtype=np.float32).reshape(-1)
        with self._client() as client:
            if allowed is None:
                return self._search_living(client, query, k)
            at_once = MAX_ALLOWED_IDS if self._connection.takes_filter_values else MAX_ALLOWED_IDS_AS_TEXT
            portions = [allowed[first : first + at_once] for first in range(0, len(allowed), at_once)]
            hits = [hit for portion in portions for hit in self._search(client, query, k, portion)]
        return _best(hits)[:k]

    def search_each(self, vectors: Sequence[Vectors], k: int, *, allowed: ChunkIds | None = None) -> list[list[Hit]]:
        """Return what `search` finds for each."""
        return [self.search(vector, k, allowed=allowed) for vector in vectors]

    def save(self) -> None:
        """Have a file written to the disk; a server has what it acknowledged."""
        with self._writing:
            if self._connection.is_file and self._saved != self._cursor:
                with self._client() as client:
                    client.flush(self._name, timeout=WRITE_TIMEOUT_S)
                self._saved = self._cursor

    def reset(self) -> None:
        """Begin a new collection, so that the log is replayed from its beginning."""
        with self._writing, self._client() as client:
            # Another server may have begun it already, and filled some of it.
            self._generation = max(self._generation + 1, newest_generation(client, self._prefix))
            self._open(client)

    @contextmanager
    def _client(self) -> Iterator[Client]:
        try:
            with self._connection.client() as client:
                yield client
        except CollectionGoneError:
            self.is_gone = True
            raise IndexUnavailableError("the vector index was built anew by another server; ask again", 1) from None

    def _open(self, client: Client) -> None:
        # Milvus Lite's graph finds a few hundred rows at most, however many are asked for; a server's finds as many.
        index_type = "FLAT" if self._connection.is_file else "AUTOINDEX"
        self._name = open_generation(client, self._prefix, self._generation, self._dimension, index_type=index_type)
        self._take_over(client, read_cursor(client, self._name))

    def _take_over(self, client: Client, cursor: Cursor) -> None:
        """Go on from a cursor whose chunks are there, whoever put them.

        It is written though another server may have written the same: all that was there before it can then be asked for by the
        time of this write, where asking for "whatever there is now" would have every search wait for the server's clock.
        """
        write_cursor(client, self._name, cursor, self._dimension)
        self._written_at = self._connection.written_at(client, self._name)
        self._cursor = cursor

    def _put(self, client: Client, chunks: Sequence[LoggedChunk]) -> None:
        at_once = max(1, MAX_WRITE_BYTES // (4 * self._dimension + 16))
        for first in range(0, len(chunks), at_once):
            rows = [{"id": chunk.id, "vector": chunk.vector} for chunk in chunks[first : first + at_once]]
            client.upsert(self._name, rows, timeout=WRITE_TIMEOUT_S)

    def _delete(self, client: Client, chunk_ids: Sequence[int]) -> None:
        for first in range(0, len(chunk_ids), MAX_DELETED_IDS):
            client.delete(self._name, ids=list(chunk_ids[first : first + MAX_DELETED_IDS]), timeout=WRITE_TIMEOUT_S)

    def _search_living(self, client: Client, query: Vectors, k: int) -> list[Hit]:
        """Search; what the truth does not have is deleted, and it is searched again."""
        for _ in range(MAX_REPAIRS):
            hits = self._search(client, query, k, None)
            if self._living is None or not hits:
                return hits
            found = np.sort(np.array([hit.chunk_id for hit in hits], dtype=np.int64))
            living = self._living(found)
            if len(living) == len(found):
                return hits
            with self._writing:
                self._delete(client, np.setdiff1d(found, living).tolist())
                self._written_at = self._connection.written_at(client, self._name)
        # Whoever deletes a large file now is faster; the rest of its chunks is left out where passages are fetched.
        return hits

    def _search(self, client: Client, query: Vectors, k: int, allowed: ChunkIds | None) -> list[Hit]:
        filters: dict[str, Any] = {}
        if allowed is not None and self._connection.takes_filter_values:
            filters = {"filter": "id in {ids}", "filter_params": {"ids": allowed.tolist()}}
        elif allowed is not None:
            filters = {"filter": f"id in {allowed.tolist()}"}
        found = client.search(
            self._name,
            [query],
            limit=k,
            output_fields=["id"],
            partition_names=[CHUNKS],
            timeout=READ_TIMEOUT_S,
            **self._no_older_than_written,
            **filters,
        )
        return _best([Hit(int(row["id"]), float(row["distance"])) for row in found[0]])

    @property
    def _no_older_than_written(self) -> dict[str, Any]:
        at = self._written_at
        return {"consistency_level": "Customized", "guarantee_timestamp": at} if at else {"consistency_level": CONSISTENCY}

    def _ids_after(self, client: Client, chunk_id: int, *, limit: int) -> list[int]:
        rows = client.query(self._name, filter=f"id > {chunk_id}", output_fields=["id"], limit=limit, timeout=READ_TIMEOUT_S)
        return [int(row["id"]) for row in rows]

    def _check(self, vector: Vectors) -> None:
        if vector.size != self._dimension:
            raise DimensionMismatchError(
                f"a vector has {vector.size} numbers where the index holds {self._dimension}: set the embedding model that "
                "the collection was indexed with, or index the collection again with the new one"
            )


def _furthest(one: Cursor, other: Cursor) -> Cursor:
    return Cursor(max(one.chunk_id, other.chunk_id), max(one.deletion_id, other.deletion_id))


def _best(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))
