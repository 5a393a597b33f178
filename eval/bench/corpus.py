"""Made-up data to measure with: clustered unit vectors, short texts with a Zipf-like vocabulary, prose in sentences."""

import random
from pathlib import Path

import numpy as np

from indexers.faiss_index import FaissIndex
from indexers.milvus_index import MilvusIndex
from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Embedder
from rag_server.types import Access, Chunk, Document, EmbeddedDocument, NewFile, Vectors

SEED = 7
NUM_CLUSTERS = 300
# Of a point within its cluster, relative to the distance between clusters: neighbours are near but not equal.
SPREAD = 0.6
VOCABULARY = 50_000
WORDS_PER_CHUNK = 30
CHUNKS_PER_DOCUMENT = 10
CHUNKS_PER_PUT = 2000


def in_faiss(index: FaissIndex | MilvusIndex) -> FaissIndex:
    """Return the index, which must be one in this process: what is measured is FAISS.

    Raises:
        TypeError: The settings say Milvus.
    """
    if not isinstance(index, FaissIndex):
        raise TypeError("vectors are in Milvus by RAG_INDEX__KIND; this measures FAISS")
    return index


class Corpus:
    """Draws vectors and texts of one distribution; the same seed gives the same ones."""

    def __init__(self, dimension: int, seed: int = SEED) -> None:
        """Lay out the clusters and the vocabulary, which no seed changes."""
        self._centres = np.random.default_rng(SEED).standard_normal((NUM_CLUSTERS, dimension)).astype(np.float32)
        self._chance = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
        self._random = np.random.default_rng(seed)

    def vectors(self, number: int) -> Vectors:
        """Return so many unit vectors of a mixture of Gaussians."""
        centres = self._centres[self._random.integers(NUM_CLUSTERS, size=number)]
        rows = centres + SPREAD * self._random.standard_normal(centres.shape).astype(np.float32)
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def texts(self, number: int, words: int = WORDS_PER_CHUNK) -> list[str]:
        """Return so many texts of so many words."""
        drawn = np.searchsorted(self._chance, self._random.random((number, words)) * self._chance[-1])
        return [" ".join(f"w{word}" for word in row) for row in drawn.tolist()]


def fill(data_dir: Path, embedder: Embedder, num_chunks: int) -> Vectors:
    """Store so many chunks in the collection `bench` and build its indexes in their final kind; return the vectors."""
    settings = load_settings({}, data_dir=data_dir)
    store = factory.open_store(settings)
    vector_store = store.vector_stores.get_or_create("bench", Access(), embedder)
    file = store.files.begin(vector_store, NewFile("/bench", "bench", 0))
    corpus = Corpus(embedder.dimension)
    keep, portions = set[str](), []
    for first in range(0, num_chunks, CHUNKS_PER_PUT):
        portions.append(corpus.vectors(min(CHUNKS_PER_PUT, num_chunks - first)))
        documents = _documents(corpus, first, portions[-1])
        store.documents.put(vector_store, file, documents, bytes_read=0)
        keep |= {embedded.document.document_id for embedded in documents}
    store.documents.finish(vector_store, file, fingerprint="bench", keep=keep, error=None)
    indexes = factory.open_indexes(settings, store)
    vectors = in_faiss(indexes.vectors(vector_store))
    while vectors.maintain():
        pass
    indexes.refresh(vector_store)
    store.database.close()
    return np.concatenate(portions)


def _documents(corpus: Corpus, first: int, vectors: Vectors) -> list[EmbeddedDocument]:
    """Return documents of several chunks with these vectors."""
    texts = corpus.texts(len(vectors))
    documents = []
    for start in range(0, len(texts), CHUNKS_PER_DOCUMENT):
        lines = [f"{text}\n" for text in texts[start : start + CHUNKS_PER_DOCUMENT]]
        ends = np.cumsum([len(line) for line in lines]).tolist()
        chunks = tuple(Chunk(end - len(line), end) for line, end in zip(lines, ends, strict=True))
        document = Document(f"d{first + start}", "", "".join(lines))
        documents.append(EmbeddedDocument(document, str(first + start), chunks, vectors[start : start + len(lines)]))
    return documents


def prose(chooser: random.Random, sentences: int) -> str:
    """Return a text of so many sentences of made-up words."""
    return " ".join(_sentence(chooser) for _ in range(sentences))


def _sentence(chooser: random.Random) -> str:
    words = ("".join(chooser.choices("aeiourstlnm", k=chooser.randint(2, 9))) for _ in range(chooser.randint(5, 20)))
    return " ".join(words).capitalize() + "."
