"""Compares a collection with the documents that it was made of: each document once, each chunk once, each found."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from eval.ray_index.corpus import Corpus
from rag_server import factory
from rag_server.config import Settings
from rag_server.errors import RagServerError
from rag_server.jobs.passage_text import passage_text
from rag_server.protocols import Embedder
from rag_server.store import schema
from rag_server.store.log import unpack_vector
from rag_server.store.verification import verify
from rag_server.types import Access, VectorStore

FAULTS = ("missing", "twice", "differing", "vectors", "not found", "damage")
# Found by their words and by their vectors, and embedded once more.
NUM_SAMPLED = 200
# Of the cosine of two vectors of one text. In single precision they agree to the seventh digit; in bfloat16, what a text is
# embedded together with shows.
TOLERANCE = 1e-4
Fault = tuple[str, str]
# Of a join, in the order of their documents and chunks.
Rows = Sequence[Any]


def check(settings: Settings, collection: str, corpus: Corpus, embedder: Embedder) -> tuple[int, list[Fault]]:
    """Return how many chunks there are, and everything that is not as it should be."""
    store = factory.open_store(settings)
    rows: Rows = ()
    faults: list[Fault] = []
    try:
        vector_store = store.vector_stores.get(collection, Access())
        rows = _rows(store, vector_store)
        faults.extend(_compare(settings, corpus, embedder, rows))
        faults.extend(_check_files(store, vector_store, corpus))
        sample = _sample(rows)
        faults.extend(_check_vectors(embedder, sample))
        faults.extend(_check_search(settings, store, vector_store, corpus, sample, len(rows)))
        verify(store.database)
    except RagServerError as error:
        faults.append(("damage", f"{type(error).__name__}: {error}"))
    finally:
        store.database.close()
    return len(rows), faults


def _rows(store: factory.Store, vector_store: VectorStore) -> Rows:
    """Return every chunk with its vectors; a chunk without one, or with two, shows as many rows."""
    files, documents, chunks, vectors = schema.files.c, schema.documents.c, schema.chunks.c, schema.vectors.c
    joined = schema.files.join(schema.documents, documents.file_key == files.key)
    joined = joined.outerjoin(schema.chunks, chunks.document_key == documents.id)
    joined = joined.outerjoin(schema.vectors, vectors.chunk_id == chunks.id)
    columns = (files.source, documents.id.label("key"), documents.document_id, documents.title)
    found = (chunks.id, chunks.text, chunks.place, vectors.vector, vectors.checksum)
    query = select(*columns, *found).select_from(joined).where(files.vector_store_id == vector_store.id)
    with store.database.read() as connection:
        return connection.execute(query.order_by(documents.id, chunks.start, chunks.id)).all()


def _compare(settings: Settings, corpus: Corpus, embedder: Embedder, rows: Rows) -> Iterator[Fault]:
    keys: dict[tuple[str, str], list[int]] = {}
    chunks: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        name = (row.source, row.document_id)
        if row.key not in keys.setdefault(name, []):
            keys[name].append(row.key)
        chunks.setdefault(name, []).append(row.text)
        if row.vector is None:
            yield "vectors", f"a chunk of {name} has none"
    expected = {name: _chunks_of(settings, embedder, written.text) for name, written in corpus.items()}
    yield from (("missing", str(name)) for name in expected.keys() - keys.keys())
    yield from (("differing", f"{name} was never written") for name in keys.keys() - expected.keys())
    for name in expected.keys() & keys.keys():
        if len(keys[name]) > 1:
            yield "twice", f"the document {name}"
        elif chunks[name] != expected[name]:
            more = Counter(chunks[name]) - Counter(expected[name])
            yield ("twice" if set(more) <= set(expected[name]) and more else "differing"), f"the chunks of {name}"


def _chunks_of(settings: Settings, embedder: Embedder, text: str) -> list[str]:
    cut = factory.build_chunker(settings)
    max_tokens = min(settings.chunking.max_tokens, embedder.max_tokens)
    chunks = cut(text, embedder.token_spans(text), max_tokens=max_tokens, overlap_tokens=settings.chunking.overlap_tokens)
    return [text[chunk.start : chunk.end] for chunk in chunks]


def _check_files(store: factory.Store, vector_store: VectorStore, corpus: Corpus) -> Iterator[Fault]:
    files = store.files.readable(vector_store, Access())
    for source, count in Counter(file.source for file in files).items():
        if count > 1:
            yield "twice", f"the file {source}"
    yield from (("missing", f"the end of {file.source}") for file in files if file.fingerprint is None)
    absent = {source for source, _ in corpus} - {file.source for file in files}
    yield from (("missing", f"the file {source}") for source in absent)


def _sample(rows: Rows) -> Rows:
    whole = [row for row in rows if row.vector is not None]
    return whole[:: max(1, len(whole) // NUM_SAMPLED)][:NUM_SAMPLED]


def _check_vectors(embedder: Embedder, sample: Rows) -> Iterator[Fault]:
    texts = [passage_text(row.title, row.text, row.place) for row in sample]
    for row, vector in zip(sample, embedder.embed_passages(texts), strict=True):
        distance = 1.0 - float(_vector(row) @ vector)
        if distance > TOLERANCE:
            yield "vectors", f"that of a chunk of {row.document_id} is {distance:.2g} off"


def _check_search(
    settings: Settings, store: factory.Store, vector_store: VectorStore, corpus: Corpus, sample: Rows, num_chunks: int
) -> Iterator[Fault]:
    """Both indexes hold each chunk, and find those of the sample."""
    indexes = factory.open_indexes(settings, store)
    vectors, lexical = indexes.vectors(vector_store), indexes.lexical(vector_store)
    in_index = Counter(hit.chunk_id for hit in vectors.search(_vector(sample[0]), num_chunks + 1))
    if len(in_index) != num_chunks:
        yield "not found", f"{num_chunks - len(in_index)} chunks in the vector index"
    yield from (("twice", f"the chunk {key} in the vector index") for key, count in in_index.items() if count > 1)
    documents: Mapping[int, str] = {row.id: row.document_id for row in sample}
    for row in sample:
        if row.id not in {hit.chunk_id for hit in vectors.search(_vector(row), 3)}:
            yield "not found", f"a chunk of {documents[row.id]} by its vector"
        written = corpus.get((row.source, row.document_id))
        word = None if written is None else written.word
        if word is not None and word in row.text and [hit.chunk_id for hit in lexical.search(word, 3)] != [row.id]:
            yield "not found", f"a chunk of {documents[row.id]} by its word"


def _vector(row: Any) -> Any:
    return unpack_vector(row.id, row.vector, row.checksum)
