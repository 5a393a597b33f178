"""LangChain: its FAISS store with its Hugging Face embeddings."""

from collections.abc import Sequence
from pathlib import Path

from langchain_community.vectorstores import FAISS
from langchain_huggingface import HuggingFaceEmbeddings

from eval.peers.adapters.commands import BATCH_SIZE, Row, main, model_folder


class LangChain:
    """`FAISS.from_texts` and `similarity_search`."""

    def __init__(self) -> None:
        self._embeddings = HuggingFaceEmbeddings(
            model_name=str(model_folder()), model_kwargs={"device": "cpu"}, encode_kwargs={"batch_size": BATCH_SIZE}
        )
        self._store: FAISS | None = None

    def index(self, rows: Sequence[Row]) -> None:
        """Make a store of all chunks."""
        self._store = FAISS.from_texts([row.text for row in rows], self._embeddings, ids=[row.id for row in rows])

    def save(self, folder: Path) -> None:
        """Write the store."""
        self._opened.save_local(str(folder))

    def load(self, folder: Path) -> None:
        """Read the store, which LangChain pickles."""
        self._store = FAISS.load_local(str(folder), self._embeddings, allow_dangerous_deserialization=True)

    def add(self, row: Row) -> None:
        """Add one to the store."""
        self._opened.add_texts([row.text], ids=[row.id])

    def search(self, query: str, k: int) -> list[str]:
        """Search the store."""
        return [str(document.id) for document in self._opened.similarity_search(query, k) if document.page_content]

    @property
    def _opened(self) -> FAISS:
        if self._store is None:
            raise RuntimeError("nothing was indexed or loaded yet")
        return self._store


if __name__ == "__main__":
    main(LangChain, distributions=("langchain-core", "langchain-community", "langchain-huggingface"))
