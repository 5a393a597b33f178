"""The vector index against numpy, and its snapshot against damage."""

from pathlib import Path

import numpy as np
import pytest

from indexers.faiss_index import FaissIndex
from rag_server.types import Cursor, LoggedChunk, LogPage

DIMENSION = 8
VECTORS = np.random.default_rng(3).standard_normal((50, DIMENSION)).astype(np.float32)


def page(ids: range, deleted: tuple[int, ...] = (), deletion_id: int = 0) -> LogPage:
    added = tuple(LoggedChunk(id_, "", "", VECTORS[id_]) for id_ in ids)
    return LogPage(added, deleted, Cursor(max(ids, default=0), deletion_id))


def nearest(query: np.ndarray, ids: list[int], k: int) -> list[int]:
    scores = VECTORS[ids] @ query
    return [ids[row] for row in np.argsort(-scores)[:k]]


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "vectors.faiss"


def test_search_is_exact(snapshot: Path) -> None:
    """The nearest chunks and their scores are those of numpy, deletions taken out."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 50), deleted=(7, 8, 9, 1000), deletion_id=4))
    remaining = [id_ for id_ in range(1, 50) if id_ not in (7, 8, 9)]

    for query in VECTORS[:5]:
        hits = index.search(query, 10)
        assert [hit.chunk_id for hit in hits] == nearest(query, remaining, 10)
        assert [hit.score for hit in hits] == pytest.approx([float(VECTORS[hit.chunk_id] @ query) for hit in hits], rel=1e-5)


def test_more_asked_than_there_is(snapshot: Path) -> None:
    """An empty index finds nothing, a small one everything once."""
    index = FaissIndex(snapshot, dimension=DIMENSION)

    assert index.search(VECTORS[0], 10) == []
    index.apply(page(range(1, 4)))
    assert sorted(hit.chunk_id for hit in index.search(VECTORS[0], 10)) == [1, 2, 3]


def test_page_applied_twice_changes_nothing(snapshot: Path) -> None:
    """What was applied before is not added again."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 10)))
    index.apply(page(range(1, 12)))

    assert len(index) == 11


def test_snapshot_holds_index_and_cursor(snapshot: Path) -> None:
    """A saved index is found again as it was, with how far it had followed the log."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 50), deleted=(3,), deletion_id=1))
    index.save()

    again = FaissIndex(snapshot, dimension=DIMENSION)

    assert again.cursor == Cursor(49, 1)
    assert again.search(VECTORS[0], 48) == index.search(VECTORS[0], 48)


def test_damaged_snapshot_is_not_used(snapshot: Path) -> None:
    """A flipped byte anywhere, or a file cut off anywhere, means an empty index that replays the log."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 50)))
    index.save()
    whole = snapshot.read_bytes()
    positions = np.linspace(0, len(whole) - 1, 40).astype(int)
    for position in positions:
        flipped = bytearray(whole)
        flipped[position] ^= 0xFF
        for damaged in (bytes(flipped), whole[:position]):
            snapshot.write_bytes(damaged)
            found = FaissIndex(snapshot, dimension=DIMENSION)
            assert (len(found), found.cursor) == (0, Cursor())


def test_snapshot_of_another_dimension_is_not_used(snapshot: Path) -> None:
    """After a change of the model an old snapshot is rebuilt."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 5)))
    index.save()

    assert FaissIndex(snapshot, dimension=DIMENSION + 1).cursor == Cursor()


def test_unfinished_save_leaves_the_old_snapshot(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a save breaks off before it is complete, the snapshot before it is found."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 5)))
    index.save()
    index.apply(page(range(1, 9)))
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        index.save()

    assert FaissIndex(snapshot, dimension=DIMENSION).cursor == Cursor(4, 0)
