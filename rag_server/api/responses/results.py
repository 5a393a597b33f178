"""What a file search found, as OpenAI's results."""

from dataclasses import dataclass, replace

from rag_server.api.search_scores import shown_scores
from rag_server.config import RerankKind, RetrieveKind
from rag_server.pipeline import RagOptions
from rag_server.protocols import Json
from rag_server.types import Ranking


def search_results(ranking: Ranking, options: RagOptions) -> list[Json]:
    """Return one result per passage; the scores are those of a vector store's search."""
    scores, _ = shown_scores(ranking, retrieve=options.retrieve, rerank=options.rerank)
    return [
        {
            "file_id": passage.file_id,
            "filename": passage.filename,
            "text": passage.text,
            "score": score,
            "attributes": {**passage.attributes, "document_id": passage.document_id},
        }
        for passage, score in zip(ranking.passages, scores, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class ScoreThreshold:
    """Leaves out the passages whose score, as results show it, is lower."""

    min_score: float
    retrieve: RetrieveKind
    rerank: RerankKind

    def __call__(self, ranking: Ranking) -> Ranking:
        """Return the ranking of the others."""
        scores, _ = shown_scores(ranking, retrieve=self.retrieve, rerank=self.rerank)
        kept = [passage for passage, score in zip(ranking.passages, scores, strict=True) if score >= self.min_score]
        return replace(ranking, passages=tuple(kept))
