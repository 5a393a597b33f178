"""The limit: sentence-transformers and FAISS with nothing around them, and one query at a time."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import faiss
from sentence_transformers import SentenceTransformer

from eval.peers.adapters.commands import BATCH_SIZE, DIMENSION, Row, main, model_folder


class Bare:
    """Vectors in a flat FAISS index, texts in a list."""

    def __init__(self) -> None:
        self._model = SentenceTransformer(str(model_folder()), device="cpu")
        self._index = faiss.IndexFlatIP(DIMENSION)
        self._rows: list[Row] = []
        self._lock = threading.Lock()

    def index(self, rows: Sequence[Row]) -> None:
        """Embed all chunks in one call, which sorts them by length, and add their vectors."""
        self._index.add(self._model.encode([row.text for row in rows], batch_size=BATCH_SIZE))
        self._rows = list(rows)

    def save(self, folder: Path) -> None:
        """Write the index, and the chunks as JSON."""
        faiss.write_index(self._index, str(folder / "vectors.faiss"))
        (folder / "rows.json").write_text(json.dumps(self._rows), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read both."""
        self._index = faiss.read_index(str(folder / "vectors.faiss"))
        self._rows = [Row(*row) for row in json.loads((folder / "rows.json").read_text(encoding="utf-8"))]

    def add(self, row: Row) -> None:
        """Embed and add one."""
        self._index.add(self._model.encode([row.text]))
        self._rows.append(row)

    def search(self, query: str, k: int) -> list[str]:
        """Embed the query and search, while nobody else does."""
        with self._lock:
            _, found = self._index.search(self._model.encode([query]), k)
            return [row.id for row in (self._rows[number] for number in found[0] if number >= 0) if row.text]


if __name__ == "__main__":
    main(Bare, distributions=())
