"""What an answer tells of its sources: passages before its first word, citations and annotations after its last."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field

from rag_server.answer import annotations, citation_object, claim_object, passage_object, ranking_object
from rag_server.answer_cache import AnswerKey, FoundAnswer, RememberedAnswer, RememberedHit
from rag_server.citations import Grounding
from rag_server.observability import StageTimer
from rag_server.prompt import Prompt
from rag_server.protocols import Json
from rag_server.rag_request import RagRequest
from rag_server.types import Citation, Passage, Ranking

# What each choice of an answer rests on, by its index, from the text of each choice.
Groundings = Mapping[int, Grounding]
Ground = Callable[[Mapping[int, str]], Awaitable[Groundings]]


@dataclass(frozen=True, slots=True)
class SearchedQuery:
    """What the question was and what was searched for; `fallback` says why it was not rewritten although it should be."""

    original: str
    searched: str
    rewritten: bool = False
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """A request whose passages are found and whose prompt is built; only the engine's part is missing.

    A remembered one lacks nothing, and its prompt has no messages, since the engine is not asked. `key` is under what the
    answer is to be remembered. `trace` is how each candidate fared, None where nobody asked or nothing was searched.
    """

    request: RagRequest
    query: SearchedQuery
    ranking: Ranking
    prompt: Prompt
    engine_body: Json
    timer: StageTimer = field(default_factory=StageTimer)
    key: AnswerKey | None = None
    remembered: FoundAnswer | None = None
    trace: Json | None = None


def to_remember(prepared: PreparedAnswer, content: str, usage: Json | None) -> RememberedAnswer:
    """Return what of the answer to this request is kept."""
    ranked = sorted(prepared.prompt.passages, key=lambda passage: passage.rank)
    return RememberedAnswer(
        content=content,
        usage=usage,
        hits=[RememberedHit(chunk_id=passage.id, score=passage.score) for passage in ranked],
        num_dropped=prepared.prompt.num_dropped,
        report=prepared.ranking.report,
        searched=prepared.query.searched,
        rewritten=prepared.query.rewritten,
    )


def recalled(
    request: RagRequest,
    question: str,
    found: FoundAnswer,
    *,
    passages: Sequence[Passage],
    placed: Sequence[Passage],
    timer: StageTimer,
) -> PreparedAnswer:
    """Return the answer to this request that was found, with its passages as ranked and as placed in the prompt."""
    known = found.answer
    query = SearchedQuery(question, known.searched, known.rewritten)
    ranking = Ranking(tuple(passages), known.report)
    return PreparedAnswer(request, query, ranking, Prompt([], tuple(placed), known.num_dropped), {}, timer, remembered=found)


async def cited_completion(prepared: PreparedAnswer, completion: Json, ground: Ground) -> Json:
    """Return the engine's completion with annotations and the `rag` object added."""
    choices = completion.get("choices") or []
    groundings = await ground({choice["index"]: choice["message"].get("content") or "" for choice in choices})
    for choice in choices:
        choice["message"]["annotations"] = _annotations(prepared, groundings[choice["index"]].citations)
    rag = {**_sources(prepared), **_grounding(prepared, groundings)}
    return {**completion, "model": prepared.request.model_name, "rag": rag}


async def cited_chunks(
    prepared: PreparedAnswer, chunks: AsyncGenerator[Json, None], ground: Ground
) -> AsyncGenerator[Json, None]:
    """Yield the engine's chunks: the first carries the passages, the last the citations.

    The chunk that ends a choice carries the choice's annotations; it is held back until the engine says whether a chunk
    with the usage follows it. Other chunks are handed on at once.
    """
    contents: dict[int, str] = defaultdict(str)
    held: list[Json] = []
    added: Json = {"rag": _sources(prepared)}
    async with aclosing(chunks):
        async for chunk in chunks:
            named = {**chunk, "model": prepared.request.model_name, **added}
            added = {}
            for choice in chunk.get("choices") or []:
                contents[choice["index"]] += (choice.get("delta") or {}).get("content") or ""
            if _ends_a_choice(chunk) or (held and not chunk.get("choices")):
                held.append(named)
            else:
                yield named
    groundings = await ground(contents)
    for chunk in _with_citations(prepared, held, groundings):
        yield chunk


def _with_citations(prepared: PreparedAnswer, held: Sequence[Json], groundings: Groundings) -> list[Json]:
    """Return the chunks that end the stream with annotations in each choice's last one and `rag` in the very last."""
    chunks = [
        {**chunk, "choices": [_annotated(prepared, choice, groundings) for choice in chunk.get("choices") or []]}
        for chunk in held
    ]
    if chunks:
        rag = {**chunks[-1].get("rag", {}), **_grounding(prepared, groundings)}
        chunks[-1] = {**chunks[-1], "rag": rag}
    return chunks


def _annotated(prepared: PreparedAnswer, choice: Json, groundings: Groundings) -> Json:
    if not choice.get("finish_reason"):
        return choice
    made = _annotations(prepared, groundings[choice["index"]].citations)
    return {**choice, "delta": {**(choice.get("delta") or {}), "annotations": made}}


def _ends_a_choice(chunk: Json) -> bool:
    return any(choice.get("finish_reason") for choice in chunk.get("choices") or [])


def _annotations(prepared: PreparedAnswer, citations: Sequence[Citation]) -> list[Json]:
    return annotations(citations, prepared.prompt.passages, prepared.request.passage_url)


def _sources(prepared: PreparedAnswer) -> Json:
    """Return what is known before the engine answers."""
    url = prepared.request.passage_url
    trace = {"trace": prepared.trace} if prepared.request.trace else {}
    return {
        "query": asdict(prepared.query),
        "passages": [passage_object(passage, url) for passage in prepared.prompt.passages],
        "num_dropped": prepared.prompt.num_dropped,
        "rerank": ranking_object(prepared.request.options.rerank, prepared.ranking.report),
        "cached": None if prepared.remembered is None else prepared.remembered.match,
        **trace,
    }


def _grounding(prepared: PreparedAnswer, groundings: Groundings) -> Json:
    """Return what is known once the answer is complete; citations and sentences are those of the first choice."""
    first = groundings.get(0, Grounding())
    return {
        "citations": [citation_object(citation) for citation in first.citations],
        "sentences": [claim_object(claim) for claim in first.claims],
        "timings_ms": prepared.timer.timings_ms,
    }
