"""POST /v1/rerank in the shape of Jina and vLLM, POST /v2/rerank in Cohere's: documents that the client brings, ranked."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast, get_args

from fastapi import APIRouter, Response

from rag_server.answer import ranking_object
from rag_server.api.answers import json_answer
from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.schemas import JinaRerankBody, RerankBody
from rag_server.config import SCORING, RerankKind
from rag_server.errors import ModelNotFoundError
from rag_server.observability import count_ranking
from rag_server.pipeline import RagPipeline
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Passage, Ranking

router = APIRouter()

# Clients that must send a model send one of these to mean the configured one.
DEFAULT_NAMES = {None, "", "default"}


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A ranking of a request's documents by the reranker of that kind."""

    kind: RerankKind
    ranking: Ranking

    @property
    def has_scores(self) -> bool:
        return self.kind in SCORING and self.ranking.report.fallback is None

    def results(self, top_n: int | None) -> list[Json]:
        """Return the best documents by their position in the request, each with its score, or 1 / rank without one."""
        return [
            {"index": passage.id, "relevance_score": passage.score if self.has_scores else 1 / passage.rank}
            for passage in self.ranking.passages[:top_n]
        ]

    def rag(self) -> Json:
        """Return how the scores and the order came about."""
        score = "model" if self.has_scores else "reciprocal_rank"
        return {"kind": self.kind, "score": score, "rerank": ranking_object(self.kind, self.ranking.report)}


@router.post("/v1/rerank")
async def rerank_as_jina(body: JinaRerankBody, services: ServicesDep, _: AccessDep) -> Response:
    """Rank documents; the answer holds them unless `return_documents` is false."""
    return await json_answer(_as_jina(body, services))


@router.post("/v2/rerank")
async def rerank_as_cohere(body: RerankBody, services: ServicesDep, _: AccessDep) -> Response:
    """Rank documents; the answer names them by index only."""
    return await json_answer(_as_cohere(body, services))


async def _as_jina(body: JinaRerankBody, services: Services) -> Json:
    ranked = await _rank(body, services)
    results = ranked.results(body.top_n)
    if body.return_documents is not False:
        results = [{**result, "document": {"text": body.documents[result["index"]].text}} for result in results]
    report = ranked.ranking.report
    return {
        "id": f"rerank-{uuid.uuid4().hex}",
        "object": "list",
        "model": ranked.kind,
        "usage": {"total_tokens": report.prompt_tokens + report.output_tokens, "prompt_tokens": report.prompt_tokens},
        "results": results,
        "rag": ranked.rag(),
    }


async def _as_cohere(body: RerankBody, services: Services) -> Json:
    ranked = await _rank(body, services)
    report = ranked.ranking.report
    meta: Json = {
        "api_version": {"version": "2"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": report.prompt_tokens, "output_tokens": report.output_tokens},
    }
    if report.fallback is not None:
        meta["warnings"] = [f"the documents are in the order of the request: {report.fallback}"]
    return {"id": str(uuid.uuid4()), "results": ranked.results(body.top_n), "meta": meta, "rag": ranked.rag()}


async def _rank(body: RerankBody, services: Services) -> _Ranked:
    pipeline = await services.pipeline()
    kind = _kind(body.model, services.default_options.rerank, pipeline)
    ranking = await pipeline.reranker(kind).rerank(body.query, list(_passages(body)))
    count_ranking(kind, ranking.report)
    return _Ranked(kind, ranking)


def _kind(model: str | None, configured: RerankKind, pipeline: RagPipeline) -> RerankKind:
    if model in DEFAULT_NAMES:
        return configured
    if model in get_args(RerankKind):
        return cast(RerankKind, model)
    known = ", ".join(pipeline.reranker_kinds)
    raise ModelNotFoundError(
        f"there is no reranker {model!r}: send {known} as model, or default for the configured one, which is {configured}"
    )


def _passages(body: RerankBody) -> Iterator[Passage]:
    """Yield the documents as passages whose ids are their positions in the request."""
    for index, document in enumerate(body.documents):
        limit = body.max_tokens_per_doc
        text = " ".join(document.text.split()[:limit]) if limit else document.text
        yield Passage(index, str(index), "", "", "", text, 0, len(text), 0.0, index + 1)
