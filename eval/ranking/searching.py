"""Runs judged queries through a server's public search endpoint."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from rich.console import Console
from rich.progress import track

from eval.ranking.datasets import RetrievalDataset
from eval.ranking.rankings import RankingCollector, Rankings
from rag_server.errors import ConfigError, EngineUnavailableError, NotFoundError, RagServerError
from rag_server.protocols import Json
from rag_server.types import RankingReport

# The most that OpenAI's search endpoint returns; passages, of which a document may have several.
MAX_RESULTS = 50
READY_POLL_S = 0.5
READY_TIMEOUT_S = 1200.0
# Of the refusals, those that say nothing about the next query.
PASSING_STATUSES = {408, 429}
# Of an answer that is no error object.
MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Stages:
    """The kind of retrieval and of reranking that a search asks for."""

    retrieve: str
    rerank: str = "none"

    @property
    def name(self) -> str:
        """The stages in one word, such as `hybrid+full_ranking`."""
        return self.retrieve if self.rerank == "none" else f"{self.retrieve}+{self.rerank}"

    @property
    def request(self) -> Json:
        """What is asked of the endpoint beside the query."""
        return {"max_num_results": MAX_RESULTS, "rag": {"retrieve": self.retrieve, "rerank": self.rerank}}


async def collection_id(client: httpx.AsyncClient, dataset: RetrievalDataset, *, collection: str) -> str:
    """Return the id of the vector store of that name.

    Raises:
        NotFoundError: There is none; the message says how the data set is indexed.
    """
    response = await client.get(f"/v1/vector_stores/{collection}")
    if response.status_code == 404:
        raise NotFoundError(
            f"{_message(response)}; for this data set: rag-server index {dataset.corpus_path} --collection {collection}, "
            "or add --index"
        )
    if response.status_code != 200:
        raise RagServerError(_message(response))
    return str(response.json()["id"])


async def wait_for_engine(client: httpx.AsyncClient) -> None:
    """Return once the server's engine answers.

    Raises:
        EngineUnavailableError: It does not come up.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while reason := (await client.get("/ready")).json()["missing"].get("engine"):
        if time.monotonic() > deadline or "not installed" in reason:
            raise EngineUnavailableError(f"the server's engine is not ready: {reason}")
        await asyncio.sleep(READY_POLL_S)


async def search_all(client: httpx.AsyncClient, dataset: RetrievalDataset, stages: Stages, *, collection: str) -> Rankings:
    """Search each query; one that the server fails at ranks nothing.

    Raises:
        ConfigError: The server does not have these stages.
    """
    collector = RankingCollector()
    description = f"{dataset.name} {stages.name}"
    for query_id, text in track(list(dataset.queries.items()), description=description, console=Console(stderr=True)):
        body = {"query": text, **stages.request}
        try:
            response = await client.post(f"/v1/vector_stores/{collection}/search", json=body)
        except httpx.HTTPError as error:
            collector.fail(query_id, f"{type(error).__name__}: {error}")
            continue
        if response.status_code == 200:
            page = response.json()
            report = {name: value for name, value in page["rag"]["rerank"].items() if name != "kind"}
            collector.add(query_id, ranked_documents(page["data"]), RankingReport(**report))
        elif _refuses_all(response):
            raise ConfigError(f"{stages.name}: {_message(response)}")
        else:
            collector.fail(query_id, f"{response.status_code}: {_message(response)}")
    return collector.rankings()


def ranked_documents(results: Sequence[Json]) -> list[str]:
    """Return the ids of the documents of a page of results, best first, once per passage."""
    return [str(result["attributes"]["document_id"]) for result in results]


def _error(response: httpx.Response) -> Json:
    """Return the error object of the answer, or what stands in its place."""
    try:
        return dict(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return {"message": response.text[:MAX_REASON_CHARACTERS] or response.reason_phrase}


def _message(response: httpx.Response) -> str:
    return str(_error(response)["message"])


def _refuses_all(response: httpx.Response) -> bool:
    """Return whether the server refuses what every query asks for, or who asks, and not this query or for now."""
    of_query = str(_error(response).get("param")).startswith("query")
    return response.is_client_error and response.status_code not in PASSING_STATUSES and not of_query
