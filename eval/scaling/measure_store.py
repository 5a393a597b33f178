"""Measures what real text takes: bytes in the truth store and in the BM25 index, indexing without the model, and the model."""

import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sqlalchemy import text

from eval.bench.corpus import Corpus
from eval.bench.tools import RecordingEmbedder
from eval.scaling.constants import EmbeddingFigures, LexicalFigures, StoreFigures
from indexers.lexical_index import TantivyIndex
from rag_server import factory
from rag_server.commands.indexing import building_ingest
from rag_server.config import load_settings
from rag_server.jobs.ingest import Source
from rag_server.jobs.worker import NoProgress
from rag_server.protocols import Embedder
from rag_server.store.database import Database
from rag_server.types import Access, Cursor, LoggedChunk, LogPage, NewFile, Vectors

QUERY_WORDS = 6
NUM_CANDIDATES = 100
PAGE_CHUNKS = 10_000
SAMPLED_TEXTS = 200


class FreeEmbedder(RecordingEmbedder):
    """Cuts texts as a model does and remembers them, but draws their vectors, which costs nothing."""

    def __init__(self, inner: Embedder) -> None:
        super().__init__(inner)
        self._corpus = Corpus(inner.dimension)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        return self._corpus.vectors(len(texts))


def measure_store(embedder: Embedder, files: Sequence[Path], database_url: str | None) -> tuple[StoreFigures, list[str]]:
    """Index the files into an empty store; return what they take, and the texts of their chunks as a model reads them.

    `database_url` None is a SQLite file that is made for it; a PostgreSQL database must be empty, and is left full.
    """
    free = FreeEmbedder(embedder)
    with tempfile.TemporaryDirectory() as folder:
        given = {} if database_url is None else {"RAG_DATABASE__URL": database_url}
        settings = load_settings(given, data_dir=Path(folder))
        store = factory.open_store(settings)
        empty_bytes = 0 if database_url is None else _database_bytes(store.database)
        vector_store = store.vector_stores.get_or_create("scaling", Access(), free)
        with _core_seconds() as spent:
            with building_ingest(settings, store) as building:
                sources = [Source(path, NewFile(str(path), path.name, path.stat().st_size)) for path in files]
                report = building(free).run(vector_store, sources, NoProgress())
            factory.open_indexes(settings, store).refresh(vector_store)
        sql_bytes = _file_bytes(store.database) if database_url is None else _database_bytes(store.database) - empty_bytes
        store.database.close()
        bm25_bytes = sum(path.stat().st_size for path in Path(folder).glob("indexes/*/bm25/*"))
    sample = free.passages[:: max(1, len(free.passages) // SAMPLED_TEXTS)]
    figures = StoreFigures(
        database="sqlite" if database_url is None else "postgresql",
        documents=report.num_documents,
        chunks=report.num_chunks,
        text_bytes=sum(len(passage.encode()) for passage in free.passages) / report.num_chunks,
        tokens=float(np.mean([len(free.token_spans(passage)) for passage in sample])),
        sql_bytes=sql_bytes / report.num_chunks,
        bm25_bytes=bm25_bytes / report.num_chunks,
        ingest_core_ms=spent[0] * 1000 / report.num_chunks,
    )
    return figures, free.passages


def measure_embedding(embedder: Embedder, passages: Sequence[str], queries: Sequence[str]) -> EmbeddingFigures:
    """Return what the model takes of one core for a passage, in batches of like lengths, and for a query by itself."""
    embedder.embed_passages(passages[:8])
    with _core_seconds() as together:
        embedder.embed_passages(sorted(passages, key=len))
    with _core_seconds() as alone:
        for query in queries:
            embedder.embed_queries([query])
    return EmbeddingFigures(passage_core_ms=together[0] * 1000 / len(passages), query_core_ms=alone[0] * 1000 / len(queries))


def measure_lexical(sizes: Sequence[int], num_queries: int) -> list[LexicalFigures]:
    """Return the mean time of a BM25 search at each size, of made-up texts, which share words as real ones do."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        index = TantivyIndex(Path(folder) / "bm25")
        corpus, rows = Corpus(1), 0
        for size in sorted(sizes):
            while rows < size:
                texts = corpus.texts(min(PAGE_CHUNKS, size - rows))
                vector = np.zeros(1, np.float32)
                chunks = tuple(LoggedChunk(rows + place, "", words, vector) for place, words in enumerate(texts, start=1))
                rows += len(chunks)
                index.apply(LogPage(chunks, (), Cursor(rows, 0)))
            queries = Corpus(1, seed=10).texts(num_queries + 1, words=QUERY_WORDS)
            index.search(queries[0], NUM_CANDIDATES)
            started = time.thread_time()
            for query in queries[1:]:
                index.search(query, NUM_CANDIDATES)
            figures.append(LexicalFigures(rows=size, mean_ms=(time.thread_time() - started) * 1000 / num_queries))
    return figures


def _file_bytes(database: Database) -> int:
    # Closing moves what is in the write-ahead log into the file.
    database.close()
    return database.path.stat().st_size


def _database_bytes(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


@contextmanager
def _core_seconds() -> Iterator[list[float]]:
    """Give a list that holds, after the context, the seconds of cores that this process and its ended children took."""
    spent: list[float] = []
    before = _used()
    yield spent
    spent.append(_used() - before)


def _used() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
