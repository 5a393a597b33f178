"""The shape of an answer with its sources: the `rag` object and the annotations added to OpenAI's completion objects."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from rag_server.config import RerankKind
from rag_server.protocols import Json
from rag_server.types import Citation, Claim, Passage, RankingReport

# Returns the address of a passage on this server.
PassageUrl = Callable[[int], str]


def passage_object(passage: Passage, url: PassageUrl) -> Json:
    """Return a passage as clients see it; `start` and `end` are character offsets in the document's text."""
    return {
        "id": passage.id,
        "document_id": passage.document_id,
        "file_id": passage.file_id,
        "filename": passage.filename,
        "title": passage.title,
        "text": passage.text,
        "score": passage.score,
        "rank": passage.rank,
        "start": passage.start,
        "end": passage.end,
        "place": dict(passage.place),
        "url": url(passage.id),
    }


def ranking_object(kind: RerankKind, report: RankingReport) -> Json:
    """Return how the passages came to their order; `fallback` says why it is the first stage's, if it is."""
    return {"kind": kind, **asdict(report)}


def citation_object(citation: Citation) -> Json:
    """Return a citation as clients see it; `quote`, `start` and `end` are null unless the quote supports the sentence."""
    return {
        "passage_id": citation.passage.id,
        "number": citation.number,
        "answer_start": citation.answer_start,
        "answer_end": citation.answer_end,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "verified": citation.verified,
    }


def claim_object(claim: Claim) -> Json:
    """Return a sentence of an answer as clients see it."""
    return asdict(claim)


def annotations(citations: Sequence[Citation], passages: Sequence[Passage], url: PassageUrl) -> list[Json]:
    """Return one `url_citation` and one `file_citation` per citation; a file citation's index counts `passages` from 0."""
    made: list[Json] = []
    position = {passage.id: index for index, passage in enumerate(passages)}
    for citation in citations:
        passage = citation.passage
        made.append(
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": citation.answer_start,
                    "end_index": citation.answer_end,
                    "url": url(passage.id),
                    "title": passage.title or passage.filename,
                },
            }
        )
        made.append(
            {
                "type": "file_citation",
                "file_citation": {
                    "file_id": passage.file_id,
                    "filename": passage.filename,
                    "index": position[passage.id],
                },
            }
        )
    return made
