"""Haystack: an indexing and a query pipeline on its FAISS document store, and Hayhooks, which serves pipelines."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack_integrations.components.embedders.sentence_transformers import (
    SentenceTransformersDocumentEmbedder,
    SentenceTransformersTextEmbedder,
)
from haystack_integrations.components.retrievers.faiss import FAISSEmbeddingRetriever
from haystack_integrations.document_stores.faiss import FAISSDocumentStore

from eval.peers.adapters.commands import BATCH_SIZE, DIMENSION, Row, main, model_folder

# Names the folder of the store to Hayhooks' process.
FOLDER_VARIABLE = "BENCH_HAYSTACK_FOLDER"
WRAPPERS = {"search": "Search", "add": "Add"}


class Haystack:
    """Pipelines that embed and write, and that embed and retrieve."""

    def __init__(self) -> None:
        model = str(model_folder())
        self._embedder = SentenceTransformersDocumentEmbedder(model=model, batch_size=BATCH_SIZE, progress_bar=False)
        self._query_embedder = SentenceTransformersTextEmbedder(model=model, progress_bar=False)
        self._store = store = FAISSDocumentStore(embedding_dim=DIMENSION)
        self._indexing = Pipeline()
        self._indexing.add_component("embedder", self._embedder)
        self._indexing.add_component("writer", DocumentWriter(document_store=store))
        self._indexing.connect("embedder.documents", "writer.documents")
        self._querying = Pipeline()
        self._querying.add_component("embedder", self._query_embedder)
        self._querying.add_component("retriever", FAISSEmbeddingRetriever(document_store=store))
        self._querying.connect("embedder.embedding", "retriever.query_embedding")

    def index(self, rows: Sequence[Row]) -> None:
        """Run the indexing pipeline once over all chunks."""
        documents = [Document(id=row.id, content=row.text) for row in rows]
        self._indexing.run({"embedder": {"documents": documents}})

    def save(self, folder: Path) -> None:
        """Write the store."""
        self._store.save(folder / "store")

    def load(self, folder: Path) -> None:
        """Read the store."""
        self._store.load(folder / "store")

    def add(self, row: Row) -> None:
        """Run the indexing pipeline over one chunk."""
        self.index([row])

    def search(self, query: str, k: int) -> list[str]:
        """Run the query pipeline."""
        return [hit["id"] for hit in self.search_texts(query, k) if hit["text"]]

    def search_texts(self, query: str, k: int) -> list[dict[str, str]]:
        """Run the query pipeline and return ids and texts."""
        found = self._querying.run({"embedder": {"text": query}, "retriever": {"top_k": k}})
        return [{"id": document.id, "text": document.content or ""} for document in found["retriever"]["documents"]]


def serve(folder: Path, port: int) -> None:
    """Become Hayhooks with a pipeline that searches and one that adds."""
    pipelines = folder.parent / "hayhooks-pipelines"
    for name, wrapper in WRAPPERS.items():
        file = pipelines / name / "pipeline_wrapper.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        line = f"from eval.peers.adapters.hayhooks_wrappers import {wrapper} as PipelineWrapper\n"
        file.write_text(line, encoding="utf-8")
    os.environ[FOLDER_VARIABLE] = str(folder)
    # Not in threads: both pipelines use one store, and importing one while another is imported fails at times.
    os.environ["HAYHOOKS_STARTUP_DEPLOY_STRATEGY"] = "sequential"
    command = [str(Path(sys.executable).parent / "hayhooks"), "run", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(command[0], [*command, "--pipelines-dir", str(pipelines)])  # noqa: S606 - our own list of words


if __name__ == "__main__":
    main(
        Haystack,
        distributions=("haystack-ai", "faiss-haystack", "sentence-transformers-haystack", "hayhooks"),
        serve=serve,
    )
