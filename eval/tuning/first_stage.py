"""Finds candidates in a small collection as the server's retrievers do, without a server."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from indexers.lexical_index import TantivyIndex
from rag_server.protocols import Embedder
from rag_server.types import Cursor, Hit, LoggedChunk, LogPage, Vectors
from rerankers.training.labels import Candidate
from retrievers.hybrid import reciprocal_rank_fusion

FirstStageKind = Literal["lexical", "dense", "hybrid"]


class _Searcher(Protocol):
    def search(self, text: str, k: int) -> list[Hit]:
        """Return up to k documents, best first, known by their number from 1."""


class FirstStage:
    """One retriever, or the reciprocal rank fusion of several."""

    def __init__(self, documents: Sequence[Candidate], searchers: Mapping[str, _Searcher]) -> None:
        self._documents = documents
        self._searchers = searchers

    def search(self, query: str, k: int) -> list[Candidate]:
        """Return up to k candidates, best first, with their scores."""
        rankings = {name: searcher.search(query, k) for name, searcher in self._searchers.items()}
        hits = reciprocal_rank_fusion(rankings) if len(rankings) > 1 else [hit for hits in rankings.values() for hit in hits]
        return [self._documents[hit.chunk_id - 1].model_copy(update={"score": hit.score}) for hit in hits[:k]]


class DenseSearcher:
    """Every document's cosine with the query."""

    def __init__(self, documents: Sequence[Candidate], embedder: Embedder) -> None:
        """Embed the documents."""
        self._embedder = embedder
        self._vectors: Vectors = embedder.embed_passages([f"{one.title}\n{one.text}".strip() for one in documents])

    def search(self, text: str, k: int) -> list[Hit]:
        """Return the k nearest."""
        cosines = self._vectors @ self._embedder.embed_queries([text])[0]
        return [Hit(int(row) + 1, float(cosines[row])) for row in np.argsort(-cosines, kind="stable")[:k]]


def lexical_searcher(documents: Sequence[Candidate], folder: Path) -> TantivyIndex:
    """Return a BM25 index of the documents in a folder."""
    index = TantivyIndex(folder)
    no_vector = np.zeros(1, np.float32)
    chunks = tuple(LoggedChunk(number, one.title, one.text, no_vector) for number, one in enumerate(documents, start=1))
    index.apply(LogPage(chunks, (), Cursor(len(chunks))))
    return index


def build_first_stage(documents: Sequence[Candidate], kind: FirstStageKind, embedder: Embedder, folder: Path) -> FirstStage:
    """Return the first stage of that kind; a lexical index is made in the folder."""
    searchers: dict[str, _Searcher] = {}
    if kind != "lexical":
        searchers["dense"] = DenseSearcher(documents, embedder)
    if kind != "dense":
        searchers["lexical"] = lexical_searcher(documents, folder)
    return FirstStage(documents, searchers)
