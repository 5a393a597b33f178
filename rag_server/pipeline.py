"""The query flow: retrieve -> rerank -> reorder -> prompt -> engine -> citations."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from rag_server.answer import PassageUrl, annotations, citation_object, passage_object, ranking_object
from rag_server.citations import SegmentSentences, cite
from rag_server.config import ReorderKind, RerankKind, RetrieveKind
from rag_server.errors import InvalidRequestError
from rag_server.observability import CITATIONS, PASSAGES_DROPPED, StageTimer, count_ranking
from rag_server.prompt import Place, Prompt, build_prompt, question_of
from rag_server.protocols import Engine, Json, PassageStore, Reranker, Retriever
from rag_server.types import Access, Citation, Filter, Passage, Query, Ranking, VectorStore


@dataclass(frozen=True, slots=True)
class RagOptions:
    """How passages are found and placed: the settings, or what a request says instead."""

    retrieve: RetrieveKind
    num_candidates: int
    rerank: RerankKind
    reorder: ReorderKind
    num_passages: int


@dataclass(frozen=True, slots=True)
class RagRequest:
    """A chat request to be answered from vector stores.

    `body` goes to the engine with only its model and messages replaced; `model_name` is what the client asked for and is
    named in the answer; `engine_model` None means the engine's default.
    """

    body: Json
    model_name: str
    engine_model: str | None
    vector_stores: tuple[VectorStore, ...]
    options: RagOptions
    passage_url: PassageUrl
    access: Access
    filter: Filter | None = None


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """A request whose passages are found and whose prompt is built; only the engine's part is missing."""

    request: RagRequest
    ranking: Ranking
    prompt: Prompt
    engine_body: Json
    timer: StageTimer = field(default_factory=StageTimer)


class RagPipeline:
    """Answers questions from vector stores. The API, the batch job and the evaluation call this and nothing below it."""

    def __init__(
        self,
        *,
        retrievers: Mapping[RetrieveKind, Retriever],
        rerankers: Mapping[RerankKind, Reranker],
        passages: PassageStore,
        place: Mapping[ReorderKind, Place],
        engine: Engine,
        sentences: SegmentSentences,
        answer_tokens: int,
    ) -> None:
        self._retrievers = retrievers
        self._rerankers = rerankers
        self._passages = passages
        self._place = place
        self._engine = engine
        self._sentences = sentences
        self._answer_tokens = answer_tokens

    async def find_passages(self, query: Query, options: RagOptions, timer: StageTimer, *, limit: int) -> Ranking:
        """Return the `limit` best passages of the query, best first.

        Raises:
            InvalidRequestError: The reranker of that kind is not set up.
        """
        reranker = self.reranker(options.rerank)
        with timer.stage("retrieve"):
            hits = await self._retrievers[options.retrieve].retrieve(query, options.num_candidates)
            # Only a reranker has a use for the text of the others.
            candidates = await asyncio.to_thread(
                self._passages.passages, hits[:limit] if options.rerank == "none" else hits, query.access
            )
        with timer.stage("rerank"):
            ranking = await reranker.rerank(query.text, candidates)
        count_ranking(options.rerank, ranking.report)
        return replace(ranking, passages=ranking.passages[:limit])

    @property
    def reranker_kinds(self) -> list[RerankKind]:
        """The rerankers that are set up."""
        return sorted(self._rerankers)

    def reranker(self, kind: RerankKind) -> Reranker:
        """Return the reranker of that kind.

        Raises:
            InvalidRequestError: It is not set up.
        """
        if kind not in self._rerankers:
            known = ", ".join(self.reranker_kinds)
            raise InvalidRequestError(
                f"the reranker {kind} is not set up on this server, which has {known}; it needs RAG_RERANK__KIND={kind} and "
                "RAG_RERANK__MODEL"
            )
        return self._rerankers[kind]

    async def prepare(self, request: RagRequest) -> PreparedAnswer:
        """Find the passages and build the prompt, so that whatever is wrong shows before an answer begins.

        Raises:
            InvalidRequestError: The conversation holds no question, or is too long for the engine.
            EngineUnavailableError: The engine cannot count tokens now.
        """
        timer = StageTimer()
        query = Query(question_of(request.body["messages"]), request.vector_stores, request.access, request.filter)
        ranking = await self.find_passages(query, request.options, timer, limit=request.options.num_passages)
        with timer.stage("prompt"):
            model = request.engine_model or await self._engine.default_model()
            prompt = await self._build_prompt(request, model, ranking.passages)
        PASSAGES_DROPPED.inc(prompt.num_dropped)
        engine_body = {**request.body, "model": model, "messages": prompt.messages}
        return PreparedAnswer(request, ranking, prompt, engine_body, timer)

    async def complete(self, prepared: PreparedAnswer) -> Json:
        """Return the engine's completion with annotations and the `rag` object added."""
        with prepared.timer.stage("generate"):
            completion = await self._engine.chat(prepared.engine_body)
        choices = completion.get("choices") or []
        contents = {choice["index"]: choice["message"].get("content") or "" for choice in choices}
        citations = await self._cite(prepared, contents)
        for choice in choices:
            choice["message"]["annotations"] = _annotations(prepared, citations[choice["index"]])
        rag = {**_sources(prepared), **_grounding(prepared, citations)}
        return {**completion, "model": prepared.request.model_name, "rag": rag}

    async def stream(self, prepared: PreparedAnswer) -> AsyncGenerator[Json, None]:
        """Yield the engine's chunks: the first carries the passages, the last the citations.

        The chunk that ends a choice carries the choice's annotations; it is held back until the engine says whether a chunk
        with the usage follows it. Other chunks are handed on at once.
        """
        contents: dict[int, str] = defaultdict(str)
        held: list[Json] = []
        added: Json = {"rag": _sources(prepared)}
        with prepared.timer.stage("generate"):
            async with aclosing(self._engine.stream_chat(prepared.engine_body)) as chunks:
                async for chunk in chunks:
                    named = {**chunk, "model": prepared.request.model_name, **added}
                    added = {}
                    for choice in chunk.get("choices") or []:
                        contents[choice["index"]] += (choice.get("delta") or {}).get("content") or ""
                    if _ends_a_choice(chunk) or (held and not chunk.get("choices")):
                        held.append(named)
                    else:
                        yield named
        for chunk in await self._with_citations(prepared, held, contents):
            yield chunk

    async def _build_prompt(self, request: RagRequest, model: str, ranked: Sequence[Passage]) -> Prompt:
        body = request.body
        asked = body.get("max_completion_tokens") or body.get("max_tokens")
        answer_tokens = asked if isinstance(asked, int) else self._answer_tokens
        context_length = await self._engine.context_length(model)

        async def count_tokens(messages: Sequence[Json]) -> int:
            return await self._engine.count_tokens(model, messages)

        return await build_prompt(
            body["messages"],
            ranked,
            place=self._place[request.options.reorder],
            count_tokens=count_tokens,
            max_tokens=context_length - answer_tokens,
        )

    async def _cite(self, prepared: PreparedAnswer, contents: Mapping[int, str]) -> dict[int, list[Citation]]:
        """Return the citations of each choice."""
        with prepared.timer.stage("cite"):
            citations = {
                index: await asyncio.to_thread(cite, text, prepared.prompt.passages, sentences=self._sentences)
                for index, text in contents.items()
            }
        for citation in (citation for of_choice in citations.values() for citation in of_choice):
            CITATIONS.labels(str(citation.verified).lower()).inc()
        return citations

    async def _with_citations(self, prepared: PreparedAnswer, held: Sequence[Json], contents: Mapping[int, str]) -> list[Json]:
        """Return the chunks that end the stream with annotations in each choice's last one and `rag` in the very last."""
        citations = await self._cite(prepared, contents)
        chunks = []
        for chunk in held:
            choices = [
                {
                    **choice,
                    "delta": {**(choice.get("delta") or {}), "annotations": _annotations(prepared, citations[choice["index"]])},
                }
                if choice.get("finish_reason")
                else choice
                for choice in chunk.get("choices") or []
            ]
            chunks.append({**chunk, "choices": choices})
        if chunks:
            rag = {**chunks[-1].get("rag", {}), **_grounding(prepared, citations)}
            chunks[-1] = {**chunks[-1], "rag": rag}
        return chunks


def _ends_a_choice(chunk: Json) -> bool:
    return any(choice.get("finish_reason") for choice in chunk.get("choices") or [])


def _annotations(prepared: PreparedAnswer, citations: Sequence[Citation]) -> list[Json]:
    return annotations(citations, prepared.prompt.passages, prepared.request.passage_url)


def _sources(prepared: PreparedAnswer) -> Json:
    """Return what is known before the engine answers."""
    url = prepared.request.passage_url
    return {
        "passages": [passage_object(passage, url) for passage in prepared.prompt.passages],
        "num_dropped": prepared.prompt.num_dropped,
        "rerank": ranking_object(prepared.request.options.rerank, prepared.ranking.report),
    }


def _grounding(prepared: PreparedAnswer, citations: Mapping[int, Sequence[Citation]]) -> Json:
    """Return what is known once the answer is complete; the citations are those of the first choice."""
    return {
        "citations": [citation_object(citation) for citation in citations.get(0, [])],
        "timings_ms": prepared.timer.timings_ms,
    }
