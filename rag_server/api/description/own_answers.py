"""What an answer and a passage say of themselves, beyond OpenAI's objects."""

from typing import Any, Literal

from pydantic import BaseModel

from rag_server.config import RerankKind

# Where a passage stands in its file: a page, a slide, a heading, ...
Place = dict[str, Any]


class RankingObject(BaseModel):
    """How the passages came to their order; `fallback` says why it is the first stage's, if it is."""

    kind: RerankKind
    calls: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    seconds: float
    well_formed: int
    repaired: int
    missing: int
    unread: int
    words: int
    words_cut: int
    fallback: str | None


class StoredPassage(BaseModel):
    """A passage; `start` and `end` are character offsets in the document's text."""

    id: int
    document_id: str
    file_id: str
    filename: str
    title: str
    text: str
    start: int
    end: int
    place: Place
    url: str


class PassageResponse(StoredPassage):
    """A passage by its address."""

    object: Literal["passage"]
    vector_store_id: str
    attributes: dict[str, Any]
    characters: int


class ListedPassage(StoredPassage):
    """A passage of a file."""

    object: Literal["passage"]
    vector_store_id: str
    attributes: dict[str, Any]


class TextSection(BaseModel):
    """A part of a document; a heading has the level of its depth from 1, every other kind 0."""

    start: int
    kind: Literal["page", "sheet", "slide", "heading"]
    label: float | str
    level: int


class PassageText(BaseModel):
    """A stretch of the text of a passage's document, which has so many `characters`."""

    object: Literal["passage.text"]
    passage_id: int
    document_id: str
    title: str
    characters: int
    start: int
    end: int
    text: str
    sections: list[TextSection]


class RankedPassage(StoredPassage):
    """A passage that was given to the engine."""

    score: float
    rank: int


class Citation(BaseModel):
    """A sentence of the answer and the passage that it cites; the quote is null unless it supports the sentence."""

    passage_id: int
    number: int | None
    answer_start: int
    answer_end: int
    quote: str | None
    start: int | None
    end: int | None
    verified: bool


class SearchedQuery(BaseModel):
    """What was searched for in place of the question; `fallback` says why it was not rewritten although it should be."""

    original: str
    searched: str
    rewritten: bool
    fallback: str | None


class Sentence(BaseModel):
    """A sentence of the answer that claims something, and whether a passage that it rests on supports it."""

    answer_start: int
    answer_end: int
    verified: bool


class RankedAt(BaseModel):
    """A place in a ranking, counted from 1; a ranking without scores has null."""

    rank: int
    score: float | None


class CandidateRanks(BaseModel):
    """Where each ranking had a candidate; null where it was not made, or did not hold it."""

    dense: RankedAt | None
    lexical: RankedAt | None
    fusion: RankedAt | None
    rerank: RankedAt | None


class Candidate(BaseModel):
    """A passage that the search found, with the beginning of its text.

    `number` is that of its mark in the answer; `left_out` says why it has none: its rank, or no room in the prompt.
    """

    passage_id: int
    file_id: str
    filename: str
    title: str
    start: int
    end: int
    place: Place
    text: str
    url: str
    ranks: CandidateRanks
    number: int | None
    left_out: Literal["rank", "room"] | None


class Trace(BaseModel):
    """Every candidate of the search, in the order of the last ranking."""

    candidates: list[Candidate]


class Answer(BaseModel):
    """The passages that an answer rests on; citations once it is complete. In a stream, parts come as they are known."""

    query: SearchedQuery | None = None
    passages: list[RankedPassage] | None = None
    num_dropped: int | None = None
    rerank: RankingObject | None = None
    cached: Literal["exact", "semantic"] | None = None
    trace: Trace | None = None
    citations: list[Citation] | None = None
    sentences: list[Sentence] | None = None
    timings_ms: dict[str, float] | None = None
