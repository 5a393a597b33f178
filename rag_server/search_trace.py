"""How each candidate of a search fared: where every ranking had it, and why it is not in the prompt if it is not."""

from collections.abc import Iterator

from rag_server.answer import PassageUrl
from rag_server.config import SCORING
from rag_server.protocols import Json
from rag_server.rag_request import RagOptions
from rag_server.types import Hit, Passage, Search

MAX_TEXT_CHARACTERS = 200


def trace_object(
    search: Search, *, best: tuple[Passage, ...], placed: tuple[Passage, ...], options: RagOptions, url: PassageUrl
) -> Json:
    """Return every candidate in the order of the last ranking.

    Args:
        search: What was found, with the ranking of all of it.
        best: Those that were to go into the prompt.
        placed: Those that are in the prompt, in its order; mark [n] means `placed[n - 1]`.
        options: How the search was made.
        url: Returns the address of a passage.
    """
    first_stage = {hit.chunk_id: dict(_first_stage(rank, hit, options)) for rank, hit in enumerate(search.hits, start=1)}
    numbers = {passage.id: number for number, passage in enumerate(placed, start=1)}
    wanted = {passage.id for passage in best}
    candidates = []
    for passage in search.ranking.passages:
        number = numbers.get(passage.id)
        left_out = None if number is not None else "room" if passage.id in wanted else "rank"
        ranks: Json = {"dense": None, "lexical": None, "fusion": None, **first_stage[passage.id]}
        ranks["rerank"] = _reranked(passage, search, options)
        candidates.append({**_shown(passage, url), "ranks": ranks, "number": number, "left_out": left_out})
    return {"candidates": candidates}


def _first_stage(rank: int, hit: Hit, options: RagOptions) -> Iterator[tuple[str, Json]]:
    """Yield name and place of each ranking of the first stage that holds the hit."""
    yield "fusion" if options.retrieve == "hybrid" else options.retrieve, {"rank": rank, "score": hit.score}
    for at in hit.found:
        yield at.retriever, {"rank": at.rank, "score": at.score}


def _reranked(passage: Passage, search: Search, options: RagOptions) -> Json | None:
    if options.rerank == "none" or search.ranking.report.fallback is not None:
        return None
    return {"rank": passage.rank, "score": passage.score if options.rerank in SCORING else None}


def _shown(passage: Passage, url: PassageUrl) -> Json:
    return {
        "passage_id": passage.id,
        "file_id": passage.file_id,
        "filename": passage.filename,
        "title": passage.title,
        "start": passage.start,
        "end": passage.end,
        "place": dict(passage.place),
        "text": passage.text[:MAX_TEXT_CHARACTERS],
        "url": url(passage.id),
    }
