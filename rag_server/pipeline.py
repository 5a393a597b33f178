"""The query flow: rewrite -> retrieve -> rerank -> reorder -> prompt -> engine -> citations."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from rag_server.answer_cache import AnswerCache, AnswerKey
from rag_server.citations import Grounding, SegmentSentences, ground
from rag_server.cited_answer import PreparedAnswer, SearchedQuery, cited_chunks, cited_completion, recalled, to_remember
from rag_server.coalescing import Coalescer
from rag_server.config import ReorderKind, RerankKind, RetrieveKind
from rag_server.conversation import question_place
from rag_server.errors import InvalidRequestError
from rag_server.observability import CITATIONS, PASSAGES_DROPPED, StageTimer, count_ranking
from rag_server.plain_answer import PlainAnswer, chunks_of, completion_of, wants_usage
from rag_server.prompt import Place, Prompt, build_prompt, question_of
from rag_server.protocols import Engine, Json, PassageStore, Reranker, Retriever
from rag_server.rag_request import RagOptions, RagRequest
from rag_server.rewriting import QueryRewriter, Rewritten, has_turns
from rag_server.search_trace import trace_object
from rag_server.types import Access, Hit, Passage, Query, Ranking, Search

# What whoever asks needs, in one place.
__all__ = ["PreparedAnswer", "RagOptions", "RagPipeline", "RagRequest"]


class RagPipeline:
    """Answers questions from vector stores. The API, the batch job and the evaluation call this and nothing below it."""

    def __init__(
        self,
        *,
        rewriter: QueryRewriter,
        retrievers: Mapping[RetrieveKind, Retriever],
        rerankers: Mapping[RerankKind, Reranker],
        passages: PassageStore,
        place: Mapping[ReorderKind, Place],
        engine: Engine,
        sentences: SegmentSentences,
        answer_tokens: int,
        passage_separator: str = "",
        answerer: str | None = None,
        answers: AnswerCache | None = None,
    ) -> None:
        """Take the parts; without `answerer` the engine's default model answers, without `answers` none is remembered."""
        self._rewriter = rewriter
        self._retrievers = retrievers
        self._rerankers = rerankers
        self._passages = Coalescer[tuple[tuple[Hit, ...], Access], list[Passage]](passages.of_each)
        self._place = place
        self._engine = engine
        self._sentences = sentences
        self._answer_tokens = answer_tokens
        self._passage_separator = passage_separator
        self._answerer = answerer
        self._answers = answers

    async def rewrite_query(self, text: str, history: Sequence[Json] = ()) -> Rewritten:
        """Return a question as a query that can be searched for by itself, or as it is where the engine gives none in time."""
        return await self._rewriter.rewrite(text, history)

    async def find_passages(self, query: Query, options: RagOptions, timer: StageTimer, *, limit: int) -> Ranking:
        """Return the `limit` best passages of the query, best first.

        Raises:
            InvalidRequestError: The reranker of that kind is not set up.
        """
        return _best(await self._search(query, options, timer, num_texts=limit), limit)

    async def _search(self, query: Query, options: RagOptions, timer: StageTimer, *, num_texts: int | None) -> Search:
        """Return what is found, with the text of what a reranker reads, or else of the first `num_texts` (None: of all)."""
        reranker = self.reranker(options.rerank)
        with timer.stage("retrieve", kind=options.retrieve, num_candidates=options.num_candidates) as span:
            hits = await self._retrievers[options.retrieve].retrieve(query, options.num_candidates)
            # Only a reranker has a use for the text of the others.
            wanted = hits[:num_texts] if options.rerank == "none" else hits
            candidates = await self._passages.result((tuple(wanted), query.access))
            span.set(num_hits=len(hits))
        with timer.stage("rerank", kind=options.rerank, num_candidates=len(candidates)):
            ranking = await reranker.rerank(query.text, candidates)
        count_ranking(options.rerank, ranking.report)
        return Search(tuple(hits), ranking)

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
        question = question_of(request.body["messages"])
        key = await self._answer_key(request, timer)
        remembered = await self._remembered(request, question, key, timer)
        if remembered is not None:
            return remembered
        searched = await self._searchable(request, question, timer)
        heads = {} if key is None else key.heads
        query = Query(searched.searched, request.vector_stores, request.access, request.filter, heads)
        # Of a question in the middle of a conversation, a reranker that sees nothing else understands no more than a search.
        num_passages = request.options.num_passages
        search = await self._search(query, request.options, timer, num_texts=None if request.trace else num_passages)
        ranking = _best(search, num_passages)
        if request.options.select is not None:
            ranking = request.options.select(ranking)
        with timer.stage("prompt"):
            model = await self._model_for(request)
            prompt = await self._build_prompt(request, model, ranking.passages)
        PASSAGES_DROPPED.inc(prompt.num_dropped)
        engine_body = {**request.body, "model": model, "messages": prompt.messages}
        trace = _trace(request, search, ranking, prompt) if request.trace else None
        return PreparedAnswer(request, searched, ranking, prompt, engine_body, timer, key, trace=trace)

    async def complete(self, prepared: PreparedAnswer) -> Json:
        """Return the engine's completion with annotations and the `rag` object added."""
        return await cited_completion(prepared, await self._completion(prepared), partial(self._ground, prepared))

    async def stream(self, prepared: PreparedAnswer) -> AsyncGenerator[Json, None]:
        """Yield the engine's chunks: the first carries the passages, the last the citations."""
        async with aclosing(cited_chunks(prepared, self._chunks(prepared), partial(self._ground, prepared))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _searchable(self, request: RagRequest, question: str, timer: StageTimer) -> SearchedQuery:
        """Return the question, made searchable by itself where it may refer to what was said before."""
        history = request.body["messages"][: question_place(request.body["messages"])]
        if not request.options.rewrite or not has_turns(history):
            return SearchedQuery(question, question)
        with timer.stage("rewrite"):
            rewritten = await self._rewriter.rewrite(question, history, model=request.engine_model)
        return SearchedQuery(question, rewritten.text, rewritten.text != question, rewritten.fallback)

    async def _model_for(self, request: RagRequest) -> str:
        """Return the engine's name of the model that answers."""
        return request.engine_model or self._answerer or await self._engine.default_model()

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
            separator=self._passage_separator,
        )

    async def _completion(self, prepared: PreparedAnswer) -> Json:
        if (found := prepared.remembered) is not None:
            return completion_of(found.answer.content, found.answer.usage, prepared.request.model_name)
        said = PlainAnswer()
        with prepared.timer.stage("generate"):
            completion = await self._engine.chat(prepared.engine_body)
        said.add(completion)
        await self._remember(prepared, said)
        return completion

    async def _chunks(self, prepared: PreparedAnswer) -> AsyncGenerator[Json, None]:
        if (found := prepared.remembered) is not None:
            usage = found.answer.usage if wants_usage(prepared.request.body) else None
            for chunk in chunks_of(found.answer.content, usage, prepared.request.model_name):
                yield chunk
            return
        said = PlainAnswer()
        with prepared.timer.stage("generate"):
            async with aclosing(self._engine.stream_chat(prepared.engine_body)) as chunks:
                async for chunk in chunks:
                    said.add(chunk)
                    yield chunk
        await self._remember(prepared, said)

    async def _ground(self, prepared: PreparedAnswer, contents: Mapping[int, str]) -> dict[int, Grounding]:
        """Return what each choice rests on."""
        with prepared.timer.stage("cite"):
            groundings = {
                index: await asyncio.to_thread(ground, text, prepared.prompt.passages, sentences=self._sentences)
                for index, text in contents.items()
            }
        for citation in (citation for grounding in groundings.values() for citation in grounding.citations):
            CITATIONS.labels(str(citation.verified).lower()).inc()
        return groundings

    async def _answer_key(self, request: RagRequest, timer: StageTimer) -> AnswerKey | None:
        """Return under what the answer is remembered, None if it is not to be."""
        if self._answers is None or not self._answers.takes(request):
            return None
        with timer.stage("cache"):
            model = await self._model_for(request)
            return await self._answers.key(request, model=model, context_length=await self._engine.context_length(model))

    async def _remembered(
        self, request: RagRequest, question: str, key: AnswerKey | None, timer: StageTimer
    ) -> PreparedAnswer | None:
        """Return the answer that was remembered, with its passages as whoever asks now may read them; None if there is none."""
        if self._answers is None or key is None:
            return None
        with timer.stage("cache"):
            found = await self._answers.find(key, with_usage=wants_usage(request.body))
            if found is None:
                return None
            hits = [Hit(hit.chunk_id, hit.score) for hit in found.answer.hits]
            passages = await self._passages.result((tuple(hits), request.access))
        if len(passages) < len(hits):
            return None
        placed = self._place[request.options.reorder](passages)
        return recalled(request, question, found, passages=passages, placed=placed, timer=timer)

    async def _remember(self, prepared: PreparedAnswer, said: PlainAnswer) -> None:
        """Keep the answer, unless it was cut, broke off, or a stage before it did not do its work."""
        was_degraded = prepared.query.fallback is not None or prepared.ranking.report.fallback is not None
        if self._answers is not None and prepared.key is not None and said.content is not None and not was_degraded:
            await self._answers.keep(prepared.key, to_remember(prepared, said.content, said.usage))


def _best(search: Search, limit: int) -> Ranking:
    return replace(search.ranking, passages=search.ranking.passages[:limit])


def _trace(request: RagRequest, search: Search, ranking: Ranking, prompt: Prompt) -> Json:
    return trace_object(search, best=ranking.passages, placed=prompt.passages, options=request.options, url=request.passage_url)
