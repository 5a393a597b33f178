"""Compares a data directory with what was acknowledged: truth store, vector index, BM25 index and search."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import select
from structlog.testing import capture_logs

from eval.crash.work import ACCESS, COLLECTION, Operation, Session, content_of
from rag_server.errors import NotFoundError, RagServerError
from rag_server.jobs.passage_text import passage_text
from rag_server.store import schema
from rag_server.store.log import unpack_vector
from rag_server.store.verification import verify
from rag_server.types import VectorStore

FAULTS = ("lost", "half-visible", "ghosts", "duplicates", "disagreements", "errors")
UNIQUE_WORD = re.compile(r"u\d{6}")
COMMON_WORD = "common"
ALL = 1_000_000
# A kind that keeps codes only may put a neighbour before the chunk itself.
NEAREST = 8
Fault = tuple[str, str]
# Of a join, in the order of their chunks.
Rows = Sequence[Any]


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file is expected to hold."""

    rows: Mapping[str, str]
    attributes: Mapping[str, str]
    is_upload: bool = False


# The one state of a file that nothing was being done to, or the states before and after; None is absent.
Allowed = Sequence[FileState | None]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the data directory may hold."""

    files: Mapping[str, Allowed] = field(default_factory=dict)
    models: frozenset[str] = frozenset({"hash-a"})
    # Words of what was deleted or replaced, which nothing may find.
    gone: frozenset[str] = frozenset()


def check(session: Session, expected: Expected) -> list[Fault]:
    """Return everything that is not as expected."""
    with capture_logs() as logs:
        try:
            faults = list(_check(session, expected))
        except RagServerError as error:
            faults = [("errors", f"{type(error).__name__}: {error}")]
    # A kill damages nothing: an index that had to be made anew was not written safely.
    warned = [("errors", str(entry)) for entry in logs if entry["log_level"] in ("warning", "error")]
    return [*faults, *warned]


def _check(session: Session, expected: Expected) -> Iterator[Fault]:
    verify(session.store.database)
    try:
        vector_store = session.store.vector_stores.get(COLLECTION, ACCESS)
    except NotFoundError:
        if any(None not in allowed for allowed in expected.files.values()):
            yield "lost", "the collection"
        return
    if vector_store.embedding_model not in expected.models:
        yield "lost", f"the change of the model: {vector_store.embedding_model}, not {set(expected.models)}"
    yield from _check_files(session, vector_store, expected)
    yield from _check_uploads(session, expected)
    chunks = _chunks(session, vector_store)
    yield from _check_chunks(session, vector_store, chunks)
    yield from _check_indexes(session, vector_store, [chunk.id for chunk in chunks])
    yield from _check_search(session, vector_store, chunks, expected)


def _check_files(session: Session, vector_store: VectorStore, expected: Expected) -> Iterator[Fault]:
    found = session.store.files.readable(vector_store, ACCESS)
    for name, count in Counter(file.filename for file in found).items():
        if count > 1:
            yield "duplicates", f"{name} is there {count} times"
    files = {file.filename: file for file in found}
    for name in files.keys() - expected.files.keys():
        yield "ghosts", f"{name} was never stored"
    for name, allowed in expected.files.items():
        file = files.get(name)
        if file is None:
            if None not in allowed:
                yield "lost", f"the file {name}"
            continue
        states = [state for state in allowed if state is not None]
        if not states:
            yield "ghosts", f"the file {name} was deleted"
            continue
        if dict(file.attributes) not in [dict(state.attributes) for state in states]:
            yield "lost" if len(allowed) == 1 else "half-visible", f"the attributes of {name}: {file.attributes}"
        yield from _check_documents(session, file.key, file.status, name, allowed)


def _check_documents(session: Session, file_key: int, status: str, name: str, allowed: Allowed) -> Iterator[Fault]:
    """Each document is wholly as before or as after; a file that is said to be complete is so in all of its documents."""
    table = schema.documents.c
    with session.store.database.read() as connection:
        query = select(table.document_id, table.text).where(table.file_key == file_key)
        found: dict[str, str] = dict(connection.execute(query).tuples().all())
    rows = [state.rows for state in allowed if state is not None]
    if len(allowed) == 1:
        yield from _differences(name, status, found, rows[0])
    elif status == "completed" or allowed[-1] is None:
        if found not in rows:
            yield "half-visible", f"{name} is {status} with some of its documents"
    else:
        yield from _mixtures(name, status, found, rows, is_new=allowed[0] is None)


def _differences(name: str, status: str, found: Mapping[str, str], rows: Mapping[str, str]) -> Iterator[Fault]:
    """A file that nothing was being done to holds exactly its documents."""
    if status != "completed":
        yield "lost", f"{name} is {status}"
    for document_id in rows.keys() - found.keys():
        yield "lost", f"the document {document_id} of {name}"
    for document_id in found.keys() - rows.keys():
        yield "ghosts", f"the document {document_id} of {name}"
    for document_id in found.keys() & rows.keys():
        if found[document_id] != rows[document_id]:
            yield "lost", f"the text of the document {document_id} of {name}"


def _mixtures(
    name: str, status: str, found: Mapping[str, str], rows: Sequence[Mapping[str, str]], *, is_new: bool
) -> Iterator[Fault]:
    """A file that is said to be in work holds old and new documents, each of them whole."""
    if status not in ("queued", "in_progress"):
        yield "half-visible", f"{name} is {status}"
    for document_id, text in found.items():
        if text not in [state.get(document_id) for state in rows]:
            yield "half-visible", f"the document {document_id} of {name} is neither old nor new"
    if not is_new:
        for document_id in set.intersection(*map(set, rows)) - found.keys():
            yield "lost", f"the document {document_id} of {name}"


def _check_uploads(session: Session, expected: Expected) -> Iterator[Fault]:
    found = session.store.uploads.readable(ACCESS)
    named = Counter(upload.filename for upload in found)
    for upload in found:
        states = [state for state in expected.files.get(upload.filename, ()) if state is not None and state.is_upload]
        if not states:
            yield "ghosts", f"the upload {upload.filename}"
        elif b"".join(session.store.uploads.content(upload.id)) not in [content_of(state.rows) for state in states]:
            yield "half-visible", f"the upload {upload.filename}"
    for name, allowed in expected.files.items():
        if named[name] > 1:
            yield "duplicates", f"the upload {name} is there {named[name]} times"
        if len(allowed) == 1 and allowed[0] is not None and allowed[0].is_upload and not named[name]:
            yield "lost", f"the upload {name}"


def _chunks(session: Session, vector_store: VectorStore) -> Rows:
    chunks, documents, vectors = schema.chunks, schema.documents, schema.vectors
    of_model = (vectors.c.chunk_id == chunks.c.id) & (vectors.c.embedding_id == vector_store.embedding_id)
    joined = documents.outerjoin(chunks, chunks.c.document_key == documents.c.id).outerjoin(vectors, of_model)
    columns = (documents.c.id.label("key"), documents.c.title, documents.c.text.label("whole"))
    query = select(*columns, chunks.c.id, chunks.c.text, chunks.c.place, vectors.c.vector, vectors.c.checksum)
    with session.store.database.read() as connection:
        return connection.execute(query.select_from(joined).order_by(documents.c.id, chunks.c.id)).all()


def _check_chunks(session: Session, vector_store: VectorStore, chunks: Rows) -> Iterator[Fault]:
    """Every word of every document is in one of its chunks, and every chunk has the vector of its text."""
    embedder = session.embedder_of(vector_store)
    words: dict[int, Counter[str]] = {}
    for row in chunks:
        words.setdefault(row.key, Counter()).update(UNIQUE_WORD.findall(row.text or ""))
        if row.vector is None:
            yield "half-visible", f"the chunk {row.id} has no vector"
            continue
        own = embedder.embed_passages([passage_text(row.title, row.text, row.place)])[0]
        if not np.allclose(unpack_vector(row.id, row.vector, row.checksum), own, atol=1e-6):
            yield "disagreements", f"the vector of chunk {row.id} is another one's"
    for row in {row.key: row for row in chunks}.values():
        for word in UNIQUE_WORD.findall(row.whole):
            if words[row.key][word] != 1:
                yield "half-visible" if words[row.key][word] == 0 else "duplicates", f"{word} in the chunks of {row.title}"


def _check_indexes(session: Session, vector_store: VectorStore, in_store: Sequence[int]) -> Iterator[Fault]:
    anything = np.ones(vector_store.dimension, dtype=np.float32)
    found = {
        "FAISS": session.indexes.vectors(vector_store).search(anything, ALL),
        "BM25": session.indexes.lexical(vector_store).search(COMMON_WORD, ALL),
    }
    for name, hits in found.items():
        counts = Counter(hit.chunk_id for hit in hits)
        for chunk_id in counts.keys() - set(in_store):
            yield "ghosts", f"{name} holds the chunk {chunk_id}, which was deleted"
        for chunk_id in set(in_store) - counts.keys():
            yield "disagreements", f"{name} does not hold the chunk {chunk_id}"
        for chunk_id, count in counts.items():
            if count > 1:
                yield "duplicates", f"{name} holds the chunk {chunk_id} {count} times"


def _check_search(session: Session, vector_store: VectorStore, chunks: Rows, expected: Expected) -> Iterator[Fault]:
    """A word that only one chunk has finds it, a chunk's own text is nearest to it, and what is gone finds nothing."""
    embedder, lexical = session.embedder_of(vector_store), session.indexes.lexical(vector_store)
    vectors = session.indexes.vectors(vector_store)
    for row in chunks:
        for word in UNIQUE_WORD.findall(row.text or ""):
            hits = lexical.search(word, NEAREST)
            passages = session.store.passages.passages(hits, ACCESS)
            if [passage.id for passage in passages] != [row.id] or word not in passages[0].text:
                yield "disagreements", f"BM25 finds {[hit.chunk_id for hit in hits]} for {word}, not {row.id}"
        nearest = vectors.search(embedder.embed_queries([passage_text(row.title, row.text, row.place)])[0], NEAREST)
        if row.id not in [hit.chunk_id for hit in nearest]:
            yield "disagreements", f"FAISS does not find the chunk {row.id} by its text"
    for word in expected.gone:
        if lexical.search(word, NEAREST):
            yield "ghosts", f"BM25 finds {word}, which was deleted"


def recover(session: Session, operation: Operation) -> list[Fault]:
    """Do the operation that was interrupted again."""
    try:
        session.do(operation)
    except (RagServerError, RuntimeError) as error:
        return [("errors", f"{operation.kind} cannot be done again: {type(error).__name__}: {error}")]
    return []
