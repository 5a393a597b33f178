"""The vector index against numpy, and its snapshot against damage."""

import errno
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexers import snapshot_files
from indexers.faiss_index import FaissIndex
from indexers.vector_maintenance import KindChoice, Limits
from rag_server.errors import DimensionMismatchError, StoreError
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
    return tmp_path / "folder" / "vectors"


def test_search_is_exact(snapshot: Path) -> None:
    """The nearest chunks and their scores are those of numpy, deletions taken out."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 50), deleted=(7, 8, 9, 1000), deletion_id=4))
    remaining = [id_ for id_ in range(1, 50) if id_ not in (7, 8, 9)]

    for query in VECTORS[:5]:
        hits = index.search(query, 10)
        assert [hit.chunk_id for hit in hits] == nearest(query, remaining, 10)
        assert [hit.score for hit in hits] == pytest.approx([float(VECTORS[hit.chunk_id] @ query) for hit in hits], rel=1e-5)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf", "ivf_sq8"])
@pytest.mark.parametrize("allowed", [None, np.arange(20, 1500, 3)], ids=["all", "some"])
def test_queries_that_search_together_find_what_each_finds(
    snapshot: Path, kind: KindChoice, allowed: np.ndarray | None
) -> None:
    """Forty at once find what one after the other finds, in the segment and among the newest, deletions taken out."""
    vectors = np.random.default_rng(5).standard_normal((1600, DIMENSION)).astype(np.float32)

    def logged(ids: range, deleted: tuple[int, ...] = (), deletion_id: int = 0) -> LogPage:
        chunks = tuple(LoggedChunk(id_, "", "", vectors[id_]) for id_ in ids)
        return LogPage(chunks, deleted, Cursor(ids[-1], deletion_id))

    index = FaissIndex(snapshot, dimension=DIMENSION, kind=kind, limits=Limits(approximate_rows=500, tail_rows=100))
    index.apply(logged(range(1, 1500)))
    assert index.maintain()
    index.apply(logged(range(1500, 1600), deleted=(3, 50, 1510), deletion_id=3))
    assert index.kind == kind
    queries = vectors[:40]

    together = index.search_each(queries, 12, allowed=allowed)

    assert len(together) == 40
    for query, found in zip(queries, together, strict=True):
        alone = index.search(query, 12, allowed=allowed)
        assert [hit.chunk_id for hit in found] == [hit.chunk_id for hit in alone]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in alone], rel=1e-5)
    if kind == "flat":
        kept = np.setdiff1d(np.arange(1, 1600) if allowed is None else allowed, [3, 50, 1510])
        assert [hit.chunk_id for hit in together[7]] == kept[np.argsort(-(vectors[kept] @ queries[7]))[:12]].tolist()


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
    for file in [path for path in snapshot.iterdir() if path.name != "lock"]:
        whole = file.read_bytes()
        for position in np.linspace(0, len(whole) - 1, 20).astype(int):
            flipped = bytearray(whole)
            flipped[position] ^= 0xFF
            for damaged in (bytes(flipped), whole[:position], None):
                if damaged is None:
                    file.unlink()
                else:
                    file.write_bytes(damaged)
                found = FaissIndex(snapshot, dimension=DIMENSION)
                assert (len(found), found.cursor) == (0, Cursor())
        file.write_bytes(whole)
    assert len(FaissIndex(snapshot, dimension=DIMENSION)) == 49


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


@pytest.mark.parametrize("failing", ["write_durably", "replace_durably"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_that_cannot_be_written_keeps_the_old_snapshot(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    """A full or read-only disk gives an error that says what to do; nothing half stays and the old snapshot is found."""
    index = FaissIndex(snapshot, dimension=DIMENSION)
    index.apply(page(range(1, 5)))
    index.save()
    before = sorted(path.name for path in snapshot.iterdir())
    index.apply(page(range(5, 9)))

    def full(path: Path, fill: object) -> None:
        path.write_bytes(b"half") if failing == "write_durably" else None
        raise OSError(number, "cannot write")

    with monkeypatch.context() as patched:
        patched.setattr(f"indexers.vector_snapshot.{failing}", full)
        with pytest.raises(StoreError, match=r"free some space there or make the folder writable"):
            index.save()

    assert sorted(path.name for path in snapshot.iterdir()) == before
    assert FaissIndex(snapshot, dimension=DIMENSION).cursor == Cursor(4, 0)
    index.save()
    assert FaissIndex(snapshot, dimension=DIMENSION).cursor == Cursor(8, 0)


def test_half_a_file_is_removed(tmp_path: Path) -> None:
    """When the disk is full in the middle of a file, the file goes."""

    def fill(write: Callable[[bytes], int]) -> None:
        write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        snapshot_files.write_durably(tmp_path / "body", fill)

    assert list(tmp_path.iterdir()) == []


def test_file_in_the_folders_place(tmp_path: Path) -> None:
    """An index whose folder cannot be made still searches, and says so when it is saved."""
    (tmp_path / "blocked").write_text("")
    index = FaissIndex(tmp_path / "blocked" / "vectors", dimension=DIMENSION)
    index.apply(page(range(1, 5)))

    assert len(index.search(VECTORS[0], 10)) == 4
    with pytest.raises(StoreError, match="vector index"):
        index.save()


def test_vector_of_another_length_is_refused(snapshot: Path) -> None:
    """A wrong number of dimensions is a named error, in a page as in a query, and nothing of the page is applied."""
    index = FaissIndex(snapshot, dimension=DIMENSION + 1)

    with pytest.raises(DimensionMismatchError, match="8 numbers where the index holds 9: set the embedding model"):
        index.apply(page(range(1, 5)))
    with pytest.raises(DimensionMismatchError):
        index.search(VECTORS[0], 5)
    with pytest.raises(DimensionMismatchError):
        index.search_each([np.ones(DIMENSION + 1), VECTORS[0]], 5)
    assert (len(index), index.cursor) == (0, Cursor())


WRITE_ON_A_SMALL_DISK = """
import resource, sys, pathlib, numpy as np
from indexers.faiss_index import FaissIndex
from indexers.lexical_index import TantivyIndex
from indexers.vector_maintenance import Limits
from rag_server.errors import StoreError
from rag_server.types import Cursor, LoggedChunk, LogPage
folder, rng = pathlib.Path(sys.argv[1]), np.random.default_rng(1)

def page(first, last):
    words = lambda n: " ".join(map(str, rng.integers(0, 10**6, 50)))
    added = tuple(LoggedChunk(n, "", words(n), rng.random(16, dtype=np.float32)) for n in range(first, last))
    return LogPage(added, (), Cursor(last - 1, 0))

vectors = FaissIndex(folder / "vectors", dimension=16, limits=Limits(tail_rows=5))
words = TantivyIndex(folder / "bm25")
small, large = page(1, 10), page(10, 2000)
vectors.apply(small), vectors.save(), words.apply(small)
vectors.apply(large), vectors.maintain()
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
for write in (vectors.save, lambda: words.apply(large)):
    try:
        write()
        sys.exit("written")
    except StoreError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert FaissIndex(folder / "vectors", dimension=16).cursor == TantivyIndex(folder / "bm25").cursor == Cursor(9, 0)
vectors.save(), words.apply(large)
assert FaissIndex(folder / "vectors", dimension=16).cursor == TantivyIndex(folder / "bm25").cursor == Cursor(1999, 0)
"""


def test_disk_that_is_full_in_the_middle_of_a_file(tmp_path: Path) -> None:
    """Where the system itself refuses to write on, both indexes say so, keep what they had, and can be written later."""
    command = [sys.executable, "-c", WRITE_ON_A_SMALL_DISK, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)

    assert (ended.returncode, ended.stdout.count("File too large")) == (0, 2), ended.stderr
    assert "damaged" not in ended.stdout


SAVE_OFTEN = """
import sys, pathlib, numpy as np
from indexers.faiss_index import FaissIndex
from rag_server.types import Cursor, LoggedChunk, LogPage
index = FaissIndex(pathlib.Path(sys.argv[1]), dimension=4)
for number in range(1, 60):
    chunk = LoggedChunk(number, "", "", np.ones(4, dtype=np.float32))
    index.apply(LogPage((chunk,), (), Cursor(number, 0)))
    index.save()
"""


def test_processes_that_save_at_once_do_not_harm_each_other(snapshot: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """While two processes save, a third finds a whole snapshot every time, and one body of each kind is left."""
    writers = [subprocess.Popen([sys.executable, "-c", SAVE_OFTEN, str(snapshot)]) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        index = FaissIndex(snapshot, dimension=4)
        assert len(index) == index.cursor.chunk_id
        time.sleep(0.01)

    assert [writer.returncode for writer in writers] == [0, 0]
    assert FaissIndex(snapshot, dimension=4).cursor == Cursor(59, 0)
    assert len(list(snapshot.iterdir())) == 4
    assert "damaged" not in "".join(capfd.readouterr())


def test_unchanged_segment_is_written_once(snapshot: Path) -> None:
    """A save after few changes leaves the large file as it is, unless another process has replaced it."""
    limits = Limits(tail_rows=20)
    index = FaissIndex(snapshot, dimension=DIMENSION, limits=limits)
    index.apply(page(range(1, 40)))
    assert index.maintain()
    index.save()
    body = next(snapshot.glob("main-*"))
    index.apply(page(range(40, 45)))
    index.save()
    assert list(snapshot.glob("main-*")) == [body]

    other = FaissIndex(snapshot, dimension=DIMENSION, limits=limits)
    other.apply(page(range(45, 46), deleted=tuple(range(1, 30)), deletion_id=29))
    assert other.maintain()
    other.save()
    assert not body.exists()
    index.apply(page(range(45, 50)))
    index.save()
    assert len(FaissIndex(snapshot, dimension=DIMENSION)) == 49


def test_kind_goes_by_size(snapshot: Path) -> None:
    """With "auto", more vectors bring the next kind, and only half as many bring the one before; a sentence says why."""
    limits = Limits(flat_numbers=20 * DIMENSION, hnsw_rows=40, tail_rows=5)
    index = FaissIndex(snapshot, dimension=DIMENSION, limits=limits, replay=lambda _: iter([page(range(1, 50))]))
    kinds = []
    for first in range(1, 50, 7):
        index.apply(page(range(first, min(first + 7, 50))))
        index.maintain()
        kinds.append(index.kind)
    assert kinds == ["flat", "flat", "hnsw", "hnsw", "hnsw", "ivf_sq8", "ivf_sq8"]
    assert index.describe() == "ivf_sq8, 49 vectors of 8 dimensions: it suits this number"

    for number, last in enumerate((25, 35, 45), start=1):
        index.apply(LogPage((), tuple(range(1, last)), Cursor(49, number)))
        index.maintain()
        kinds.append(index.kind)
    assert kinds[7:] == ["ivf_sq8", "hnsw", "flat"]
    assert sorted(hit.chunk_id for hit in index.search(VECTORS[0], 100)) == [45, 46, 47, 48, 49]


def test_searching_goes_on_while_the_index_changes(snapshot: Path) -> None:
    """Searches of several threads find every chunk that was there all along, through pages, maintenance and saves."""
    limits = Limits(approximate_rows=10, tail_rows=20, dead_share=0.05)
    index = FaissIndex(snapshot, dimension=DIMENSION, kind="hnsw", limits=limits)
    index.apply(page(range(1, 21)))
    ended, errors = threading.Event(), []

    def search() -> None:
        while not ended.is_set():
            found = {hit.chunk_id for hit in index.search(VECTORS[0], 100, allowed=np.arange(1, 21))}
            if found != set(range(1, 21)):
                errors.append(found)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for round_ in range(1, 60):
        first = 100 * round_
        added = tuple(LoggedChunk(first + n, "", "", VECTORS[n]) for n in range(30))
        deleted = tuple(range(first - 100, first - 80)) if round_ > 1 else ()
        index.apply(LogPage(added, deleted, Cursor(first + 29, round_)))
        index.maintain()
        if round_ % 20 == 0:
            index.save()
    ended.set()
    for thread in threads:
        thread.join()

    assert errors == []


def test_what_happens_during_maintenance_is_kept(snapshot: Path) -> None:
    """Chunks that are added or deleted, or a reset, while the index is organised anew are not lost."""
    pages = [page(range(1, 30))]
    index = FaissIndex(
        snapshot,
        dimension=DIMENSION,
        kind="ivf_sq8",
        limits=Limits(approximate_rows=10, tail_rows=5),
        replay=lambda _: iter([during() or pages[0]]),
    )
    during: Callable[[], None] = lambda: None  # noqa: E731 - it is replaced below
    index.apply(pages[0])
    index.maintain()
    during = lambda: index.apply(page(range(40, 45), deleted=(20, 40), deletion_id=21))  # noqa: E731
    index.apply(LogPage((), tuple(range(1, 15)), Cursor(29, 14)))

    assert index.maintain()
    alive = [*range(15, 20), *range(21, 30), *range(41, 45)]
    assert sorted(hit.chunk_id for hit in index.search(VECTORS[0], 100)) == alive

    during = index.reset
    index.apply(LogPage((), tuple(range(15, 29)), Cursor(44, 50)))
    assert not index.maintain()
    assert (len(index), index.cursor) == (0, Cursor())
