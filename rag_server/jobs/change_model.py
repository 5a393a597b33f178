"""Gives a vector store the vectors of another embedding model while it is searched and filled with the old one."""

from rag_server.jobs.passage_text import passage_text
from rag_server.protocols import Embedder, Progress
from rag_server.store.model_change import ModelChange
from rag_server.types import VectorStore

CHUNKS_PER_COMMIT = 256


def change_model(store: ModelChange, vector_store: VectorStore, embedder: Embedder, progress: Progress) -> int:
    """Build every vector that is missing, then switch; return how many were built.

    Killed at any point it is called again and goes on. Changing back is the same call with the old model, whose vectors are
    still there: only those of chunks that came since are built.
    """
    embedding_id = store.begin(embedder)
    progress.started(1, store.num_missing(vector_store, embedding_id))
    num_built = 0
    while True:
        while waiting := store.missing(vector_store, embedding_id, CHUNKS_PER_COMMIT):
            ordered = sorted(waiting, key=lambda chunk: len(chunk.text))
            rows = embedder.embed_passages([passage_text(chunk.title, chunk.text, chunk.place) for chunk in ordered])
            store.add(embedding_id, [chunk.id for chunk in ordered], rows)
            num_built += len(waiting)
            progress.read_bytes(num_built)
            progress.stored_chunks(len(waiting))
        # Another process may have stored a document since the last look.
        if store.switch(vector_store, embedding_id):
            return num_built
