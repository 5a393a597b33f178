"""How the servers of peers are spoken to."""

from typing import Any

import httpx

from eval.peers.adapters.commands import Row
from rag_server.protocols import Json


class TxtaiApi:
    """txtai's API server. A search is a batch of one: of its two routes for searching, the one that is a POST."""

    def request(self, query: str, k: int) -> tuple[str, Json]:
        """Return a batch of one query."""
        return "/batchsearch", {"queries": [query], "limit": k}

    def ids(self, answer: Any) -> list[str]:
        """Return the ids of the first query's results."""
        return [str(hit["id"]) for hit in answer[0] if hit["text"]]

    def add(self, client: httpx.Client, row: Row) -> None:
        """Add, then have it indexed."""
        client.post("/add", json=[{"id": row.id, "text": row.text}]).raise_for_status()
        client.get("/upsert").raise_for_status()


class HayhooksApi:
    """The two pipelines of eval/peers/adapters/hayhooks_wrappers.py."""

    def request(self, query: str, k: int) -> tuple[str, Json]:
        """Return a run of the pipeline that searches."""
        return "/search/run", {"query": query, "top_k": k}

    def ids(self, answer: Any) -> list[str]:
        """Return the ids of its result."""
        return [str(hit["id"]) for hit in answer["result"] if hit["text"]]

    def add(self, client: httpx.Client, row: Row) -> None:
        """Run the pipeline that indexes."""
        client.post("/add/run", json={"chunk_id": row.id, "text": row.text}).raise_for_status()
