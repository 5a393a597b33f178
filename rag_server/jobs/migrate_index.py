"""Builds the vector index of a collection where it is to be searched from now on, from the store, beside the one in use."""

from dataclasses import dataclass, field

from indexers.collection_indexes import CollectionIndexes
from rag_server.errors import IndexUnavailableError
from rag_server.protocols import ChunkLog, Progress
from rag_server.types import VectorStore

# What was built so far is made durable after so many chunks; killed, it goes on from there.
CHUNKS_PER_SAVE = 50_000
# Whoever indexes meanwhile changes both numbers between two looks.
MAX_LOOKS = 5


@dataclass(slots=True)
class IndexMigration:
    """Fills the vector indexes of collections, one after the other."""

    indexes: CollectionIndexes
    log: ChunkLog
    progress: Progress
    num_built: int = 0
    _num_unsaved: int = field(default=0, init=False)

    def run(self, vector_store: VectorStore) -> int:
        """Return how many vectors the index now holds: as many as the store has, which is checked.

        Killed at any point it is called again and goes on. An index that holds more or fewer is built once more.

        Raises:
            IndexUnavailableError: It cannot be written, or does not hold what was put into it.
        """
        index = self.indexes.vectors(vector_store, self._applied)
        if not self._is_whole(vector_store):
            index.reset()
            index = self.indexes.vectors(vector_store, self._applied)
            if not self._is_whole(vector_store):
                raise IndexUnavailableError(
                    f"the vector index of {vector_store.name!r} does not hold the vectors that were put into it; see "
                    "Milvus' own log, and run the command again. The store has them all"
                )
        self.indexes.save()
        return len(index)

    def _is_whole(self, vector_store: VectorStore) -> bool:
        for _ in range(MAX_LOOKS):
            head = self.log.head(vector_store)
            held, stored = len(self.indexes.vectors(vector_store, self._applied)), self.log.num_chunks(vector_store)
            if held == stored:
                return True
            if head == self.log.head(vector_store):
                return False
        # It follows whoever goes on indexing.
        return True

    def _applied(self, num_chunks: int) -> None:
        self.num_built += num_chunks
        self._num_unsaved += num_chunks
        self.progress.stored_chunks(num_chunks)
        self.progress.read_bytes(self.num_built)
        if self._num_unsaved >= CHUNKS_PER_SAVE:
            self.indexes.save()
            self._num_unsaved = 0
