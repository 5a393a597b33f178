"""A small crash test finds nothing, and its checker finds what was broken on purpose."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select, update

from eval.crash.check import check
from eval.crash.plan import Model
from eval.crash.work import COLLECTION, Operation, Session, make_small
from eval.crash_test import PROCESSES, print_report, run_points
from indexers.vector_state import empty_state
from rag_server.store import schema
from rag_server.store.documents import delete_documents
from rag_server.types import Access


def test_nothing_is_lost_at_a_dozen_kill_points(capsys: pytest.CaptureFixture[str]) -> None:
    """A process that is killed in the middle of its work loses nothing that it acknowledged and leaves no halves."""
    report = run_points(12, seed=7)
    print_report(report)

    assert report.faults == []
    assert report.points.total() == 12
    assert "acknowledged writes lost" in capsys.readouterr().out


def _lose_chunk(session: Session) -> None:
    newest = select(func.max(schema.chunks.c.id)).scalar_subquery()
    with session.store.database.write() as connection:
        for table, column in ((schema.vectors, schema.vectors.c.chunk_id), (schema.chunks, schema.chunks.c.id)):
            connection.execute(delete(table).where(column == newest))


def _lose_document(session: Session) -> None:
    store = session.vector_store()
    with session.store.database.write() as connection:
        delete_documents(connection, store.id, select(func.min(schema.documents.c.id)).scalar_subquery())


def _lose_file(session: Session) -> None:
    store = session.vector_store()
    session.store.files.delete(store, session.store.files.readable(store, Access())[0])


def _lose_rows_of_faiss(session: Session) -> None:
    index = session.indexes.vectors(session.vector_store())
    empty = empty_state(index._dimension)
    # With its cursor kept, the index does not know that anything is missing.
    index._state = replace(empty, cursor=index.cursor)
    index.save()


def _forget_deletions(session: Session) -> None:
    store = session.vector_store()
    session.indexes.refresh(store)
    _lose_file(session)
    with session.store.database.write() as connection:
        connection.execute(delete(schema.deletions))


def _damage_vector(session: Session) -> None:
    with session.store.database.write() as connection:
        connection.execute(update(schema.vectors).where(schema.vectors.c.chunk_id == 1).values(checksum=0))


def _halve_file(session: Session) -> None:
    with session.store.database.write() as connection:
        connection.execute(update(schema.files).values(status="in_progress"))


def _add_file(session: Session) -> None:
    session.do(Operation("ingest", "unknown.jsonl", {"x": "Common u999999 words that nobody stored."}))


BROKEN: list[tuple[Callable[[Session], None], str]] = [
    (_lose_chunk, "half-visible"),
    (_lose_document, "lost"),
    (_lose_file, "lost"),
    (_lose_rows_of_faiss, "disagreements"),
    (_forget_deletions, "ghosts"),
    (_damage_vector, "errors"),
    (_halve_file, "lost"),
    (_add_file, "ghosts"),
]


def _broken(directory: Path, break_it: Callable[[Session], None] | None) -> set[str]:
    """Return the kinds of faults that are found in a directory that was broken so."""
    make_small()
    model = Model(random.Random(1))
    session = Session(directory)
    for _ in range(3):
        model.begin(model.draw("ingest"))
        assert model.in_flight is not None
        session.do(model.in_flight)
        model.acknowledge()
    assert session.vector_store().name == COLLECTION
    if break_it is not None:
        break_it(session)
    session.close()
    again = Session(directory)
    found = {kind for kind, _ in check(again, model.expected())}
    again.close()
    return found


@pytest.mark.parametrize(("break_it", "kind"), BROKEN)
def test_checker_finds_what_is_broken(tmp_path: Path, break_it: Callable[[Session], None], kind: str) -> None:
    """Whatever is taken away or added behind the store's back is reported, as what it is."""
    with PROCESSES.Pool(1) as pool:
        assert kind in pool.apply(_broken, (tmp_path, break_it))


def test_checker_finds_nothing_in_a_whole_directory(tmp_path: Path) -> None:
    """The same directory, unbroken, has no faults: the test above proves something."""
    with PROCESSES.Pool(1) as pool:
        assert pool.apply(_broken, (tmp_path, None)) == set()
