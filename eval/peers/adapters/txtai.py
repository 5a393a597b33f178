"""txtai: an embeddings database that keeps the texts, and its API server."""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from txtai import Embeddings

from eval.peers.adapters.commands import BATCH_SIZE, Row, main, model_folder

CONFIG = {"path": str(model_folder()), "content": True, "encodebatch": BATCH_SIZE, "gpu": False}


class Txtai:
    """`Embeddings` with its own choice of FAISS index: exact up to 5,000 chunks, in lists beyond."""

    def __init__(self) -> None:
        self._embeddings = Embeddings(CONFIG)
        # Its own server takes one too: threads that search at once end the process.
        self._lock = threading.Lock()

    def index(self, rows: Sequence[Row]) -> None:
        """Index all chunks."""
        self._embeddings.index((row.id, row.text, None) for row in rows)

    def save(self, folder: Path) -> None:
        """Write the database."""
        self._embeddings.save(str(folder))

    def load(self, folder: Path) -> None:
        """Read the database."""
        self._embeddings.load(str(folder))

    def add(self, row: Row) -> None:
        """Upsert one chunk."""
        self._embeddings.upsert([(row.id, row.text, None)])

    def search(self, query: str, k: int) -> list[str]:
        """Search, with the texts of what is found."""
        with self._lock:
            found = self._embeddings.search(query, k)
        return [str(hit["id"]) for hit in found if hit["text"]]


def serve(folder: Path, port: int) -> None:
    """Become the API server of the database in the folder, which writes into it what is added."""
    import uvicorn

    config = folder.parent / "txtai-server.json"
    # JSON is YAML too.
    config.write_text(json.dumps({"path": str(folder), "writable": True, "embeddings": CONFIG}), encoding="utf-8")
    os.environ["CONFIG"] = str(config)
    uvicorn.run("txtai.api:app", host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Txtai, distributions=("txtai",), serve=serve)
