"""LlamaIndex: a vector store index over its FAISS store, with its Hugging Face embeddings."""

from collections.abc import Sequence
from pathlib import Path

import faiss
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import TextNode
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from llama_index.vector_stores.faiss import FaissVectorStore

from eval.peers.adapters.commands import BATCH_SIZE, DIMENSION, Row, main, model_folder


class LlamaIndex:
    """`VectorStoreIndex` and its retriever."""

    def __init__(self) -> None:
        # Its own batches of 10 would cost it a part of its speed.
        self._embedding = HuggingFaceEmbedding(model_name=str(model_folder()), device="cpu", embed_batch_size=BATCH_SIZE)
        self._index: VectorStoreIndex | None = None

    def index(self, rows: Sequence[Row]) -> None:
        """Make an index of all chunks as nodes."""
        store = FaissVectorStore(faiss_index=faiss.IndexFlatL2(DIMENSION))
        context = StorageContext.from_defaults(vector_store=store)
        self._index = VectorStoreIndex(list(map(_node, rows)), storage_context=context, embed_model=self._embedding)

    def save(self, folder: Path) -> None:
        """Write the index."""
        self._opened.storage_context.persist(persist_dir=str(folder))

    def load(self, folder: Path) -> None:
        """Read the index."""
        store = FaissVectorStore.from_persist_dir(str(folder))
        context = StorageContext.from_defaults(vector_store=store, persist_dir=str(folder))
        self._index = load_index_from_storage(context, embed_model=self._embedding)

    def add(self, row: Row) -> None:
        """Insert one node."""
        self._opened.insert_nodes([_node(row)])

    def search(self, query: str, k: int) -> list[str]:
        """Ask a retriever for the nearest nodes."""
        found = self._opened.as_retriever(similarity_top_k=k).retrieve(query)
        return [str(hit.node.node_id) for hit in found if hit.node.get_content()]

    @property
    def _opened(self) -> VectorStoreIndex:
        if self._index is None:
            raise RuntimeError("nothing was indexed or loaded yet")
        return self._index


def _node(row: Row) -> TextNode:
    return TextNode(id_=row.id, text=row.text)


if __name__ == "__main__":
    main(
        LlamaIndex,
        distributions=("llama-index-core", "llama-index-vector-stores-faiss", "llama-index-embeddings-huggingface"),
    )
