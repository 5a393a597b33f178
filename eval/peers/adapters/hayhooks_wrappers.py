"""The two pipelines that Hayhooks serves in the benchmark; both use one store."""

import functools
import os
from pathlib import Path

from hayhooks import BasePipelineWrapper

from eval.peers.adapters.commands import Row
from eval.peers.adapters.haystack import FOLDER_VARIABLE, Haystack


@functools.cache
def opened() -> Haystack:
    """Return the one Haystack of this process, on the store that the environment names."""
    peer = Haystack()
    peer.load(Path(os.environ[FOLDER_VARIABLE]))
    return peer


class Search(BasePipelineWrapper):
    """POST /search/run."""

    def setup(self) -> None:
        """Open the store."""
        self._peer = opened()

    def run_api(self, query: str, top_k: int) -> list[dict[str, str]]:
        """Return the best chunks with their texts."""
        return self._peer.search_texts(query, top_k)


class Add(BasePipelineWrapper):
    """POST /add/run."""

    def setup(self) -> None:
        """Open the store."""
        self._peer = opened()

    def run_api(self, chunk_id: str, text: str) -> str:
        """Index one more chunk; return its id."""
        self._peer.add(Row(chunk_id, text))
        return chunk_id
