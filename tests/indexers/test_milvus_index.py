"""An index in Milvus that several servers share: late writers, crashes, and collections that others built anew."""

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from indexers import milvus_connection, milvus_index
from indexers.collection_indexes import CollectionIndexes
from indexers.milvus_connection import CollectionGoneError, MilvusConnection
from indexers.milvus_index import MilvusIndex
from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import IndexInUseError, IndexUnavailableError, MissingExtraError
from rag_server.types import Access, Chunk, Cursor, Document, EmbeddedDocument, LoggedChunk, LogPage, NewFile
from tests.milvus import milvus_lite

DIMENSION = 8
ROWS = np.random.default_rng(3).standard_normal((400, DIMENSION)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusConnection]:
    with milvus_lite(tmp_path_factory.mktemp("milvus") / "shared.db") as connection:
        yield connection


@pytest.fixture
def opened(milvus: MilvusConnection) -> Callable[..., MilvusIndex]:
    """Open one and the same index; each call is as good as another server."""
    prefix = f"test_{uuid4().hex}"
    return lambda **options: MilvusIndex(milvus, prefix, dimension=DIMENSION, **options)


def page(ids: range, deleted: tuple[int, ...] = (), deletion_id: int = 0) -> LogPage:
    added = tuple(LoggedChunk(id_, "", "", ROWS[id_]) for id_ in ids)
    return LogPage(added, deleted, Cursor(max(ids, default=0), deletion_id or len(deleted)))


def found(index: MilvusIndex, k: int = 400, **options: Any) -> list[int]:
    return sorted(hit.chunk_id for hit in index.search(ROWS[0], k, **options))


def test_what_another_server_applied_is_found_and_not_put_again(
    opened: Callable[..., MilvusIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers that follow the same log put each chunk once between them, and both find all."""
    first, second = opened(), opened()
    put: list[int] = []
    whole = MilvusIndex._put

    def counted(index: MilvusIndex, client: Any, chunks: list[LoggedChunk]) -> None:
        put.extend(chunk.id for chunk in chunks)
        whole(index, client, chunks)

    monkeypatch.setattr(MilvusIndex, "_put", counted)
    first.apply(page(range(1, 101)))
    second.apply(page(range(1, 101)))
    second.apply(page(range(101, 151), (7, 120)))
    first.apply(page(range(101, 151), (7, 120)))

    expected = [id_ for id_ in range(1, 151) if id_ not in (7, 120)]
    assert found(first) == found(second) == expected
    assert first.cursor == second.cursor == opened().cursor == Cursor(150, 2)
    assert sorted(put) == [*range(1, 151)]


def test_server_that_is_behind_takes_only_what_is_new(opened: Callable[..., MilvusIndex]) -> None:
    """A page that another server applied in part is applied for the rest."""
    first, second = opened(), opened()
    first.apply(page(range(1, 50)))
    second.apply(page(range(1, 90), (3,)))

    assert second.cursor == Cursor(89, 1)
    assert found(second) == [id_ for id_ in range(1, 90) if id_ != 3]


def test_chunk_that_a_slow_server_put_too_late_is_never_found(opened: Callable[..., MilvusIndex]) -> None:
    """Deleted by one server and then put by another that had read the log before: k living chunks are found all the same."""
    living = set(range(1, 101))
    late = opened()
    index = opened(living=lambda ids: np.array([id_ for id_ in ids if id_ in living], dtype=np.int64))
    doomed = tuple(hit.chunk_id for hit in _filled(index, 101).search(ROWS[0], 30))
    living -= set(doomed)
    index.apply(LogPage((), doomed, Cursor(100, len(doomed))))
    with late._connection.client() as client:
        late._put(client, [LoggedChunk(id_, "", "", ROWS[id_]) for id_ in doomed])
    assert set(found(opened())) & set(doomed), "they are there to be found"

    hits = index.search(ROWS[0], 20)

    expected = sorted(living, key=lambda id_: -float(ROWS[id_] @ ROWS[0]))[:20]
    assert [hit.chunk_id for hit in hits] == expected
    assert found(index) == sorted(living)
    assert found(opened()) == sorted(living), "they are gone for good"


def _filled(index: MilvusIndex, end: int) -> MilvusIndex:
    index.apply(page(range(1, end)))
    return index


@pytest.mark.parametrize("fails", ["_put", "_delete", "_take_over"])
def test_killed_between_any_two_steps(opened: Callable[..., MilvusIndex], monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Whatever of a page was written before the end, applying it again leaves each chunk once."""
    _filled(opened(), 60)
    dying = opened()
    whole = getattr(MilvusIndex, fails)

    def killed(index: MilvusIndex, *arguments: Any) -> None:
        if fails != "_take_over":
            whole(index, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(MilvusIndex, fails, killed)
        with pytest.raises(KeyboardInterrupt):
            dying.apply(page(range(60, 90), (5, 70)))

    again = opened()
    assert again.cursor == Cursor(59, 0)
    again.apply(page(range(60, 90), (5, 70)))
    assert found(again) == [id_ for id_ in range(1, 90) if id_ not in (5, 70)]
    assert len(again) == 87


def test_index_that_another_server_built_anew(opened: Callable[..., MilvusIndex]) -> None:
    """Whoever still has the old collection gets an error that says to ask again, and never an answer from an empty one."""
    old = _filled(opened(), 100)
    new = opened()
    new.reset()

    for use in (lambda: old.search(ROWS[0], 5), lambda: old.apply(page(range(100, 120))), lambda: len(old)):
        with pytest.raises(IndexUnavailableError, match="built anew by another server; ask again"):
            use()
    assert old.is_gone
    assert found(new) == []
    assert opened().cursor == Cursor()


def test_two_servers_that_build_anew_meet(opened: Callable[..., MilvusIndex]) -> None:
    """The second to begin takes what the first has."""
    first, second = opened(), opened()
    first.reset()
    _filled(first, 40)
    second.reset()

    assert found(second) == found(first) == [*range(1, 40)]
    with first._connection.client() as client:
        assert [name for name in client.list_collections() if name.startswith(first._prefix)] == [first._name]


def test_collection_that_is_half_made_is_completed(opened: Callable[..., MilvusIndex], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server killed after each step of making a collection leaves one that the next completes."""
    for step in ("create_index", "create_partition", "load_collection"):
        with monkeypatch.context() as patched:
            patched.setattr(f"pymilvus.MilvusClient.{step}", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                opened()
    assert found(_filled(opened(), 30)) == [*range(1, 30)]


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_many_rows_and_ids_go_in_portions(opened: Callable[..., MilvusIndex], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than Milvus takes at once is written, deleted and filtered in portions, with the same result."""
    monkeypatch.setattr(milvus_index, "MAX_WRITE_BYTES", 48 * 7)
    monkeypatch.setattr(milvus_index, "MAX_DELETED_IDS", 3)
    monkeypatch.setattr(milvus_index, "MAX_ALLOWED_IDS_AS_TEXT", 11)
    monkeypatch.setattr(milvus_index, "MAX_ROWS", 10)
    index = _filled(opened(), 300)
    index.apply(LogPage((), tuple(range(250, 300)), Cursor(299, 50)))
    allowed = np.arange(2, 400, 3)

    hits = index.search(ROWS[0], 10, allowed=allowed)

    best = sorted((id_ for id_ in allowed.tolist() if id_ < 250), key=lambda id_: -float(ROWS[id_] @ ROWS[0]))[:10]
    assert [hit.chunk_id for hit in hits] == best
    assert index.newest == 249
    assert index.search(ROWS[0], 10, allowed=allowed[:0]) == []


def test_servers_take_the_values_of_a_filter_beside_its_text(
    opened: Callable[..., MilvusIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 2.5 on, ids are sent as values, half a million at a time; before, and to Milvus Lite, as text."""
    connection = MilvusConnection("http://127.0.0.1:1")
    for version, takes in {"v2.4.9": False, "2.3.5-lite": False, "v2.5.0": True, "2.6.11": True, "v3.0.0": True}.items():
        connection._version = version
        assert connection.takes_filter_values is takes, version
    connection._version = "milvus_lite-3.2.2"
    assert not connection.takes_filter_values

    index, asked = opened(), []
    monkeypatch.setattr(MilvusConnection, "takes_filter_values", True)
    client = SimpleNamespace(search=lambda *_, **options: asked.append(options) or [[]])
    index._search(client, ROWS[0], 5, np.array([3, 8]))
    assert (asked[0]["filter"], asked[0]["filter_params"]) == ("id in {ids}", {"ids": [3, 8]})


def test_search_asks_for_what_was_written_and_else_for_whatever_there_is(opened: Callable[..., MilvusIndex]) -> None:
    """With the time of the last write, no search waits for the clock of the server; without it, it asks for everything."""
    index, asked = opened(), []
    client = SimpleNamespace(search=lambda *_, **options: asked.append(options) or [[]])
    for written_at in (0, 4711):
        index._written_at = written_at
        index._search(client, ROWS[0], 5, None)

    assert asked[0]["consistency_level"] == "Strong"
    assert (asked[1]["consistency_level"], asked[1]["guarantee_timestamp"]) == ("Customized", 4711)


CRASHING = """
import sys, numpy as np
from indexers.milvus_connection import MilvusConnection
from indexers.milvus_index import MilvusIndex
from rag_server.types import Cursor, LoggedChunk, LogPage

index = MilvusIndex(MilvusConnection(sys.argv[1]), "crash", dimension=8)
first = index.cursor.chunk_id + 1
print("open", flush=True)
for start in range(first, first + 10_000, 20):
    added = tuple(LoggedChunk(n, "", "", np.full(8, n, np.float32)) for n in range(start, start + 20))
    # Of each page, one chunk of the page before is deleted.
    deleted = (start - 1,) if start > 1 else ()
    index.apply(LogPage(added, deleted, Cursor(start + 19, start // 20)))
    print("applied", flush=True)
    if start % 200 == 1:
        index.save()
"""


@pytest.mark.parametrize("num_pages", [0, 2, 30])
def test_kill_at_any_point_loses_nothing_before_the_cursor(tmp_path: Path, num_pages: int) -> None:
    """After SIGKILL the cursor says what is there: each chunk up to it but for those deleted, whatever is beyond."""
    file = tmp_path / "crash.db"
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", CRASHING, str(file)], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"open\n"
            for _ in range(num_pages):
                assert process.stdout.readline() == b"applied\n"
            # Somewhere in the next page.
            process.send_signal(signal.SIGKILL)
    with milvus_lite(file) as connection:
        index = MilvusIndex(connection, "crash", dimension=DIMENSION)
        cursor = index.cursor
        held = {hit.chunk_id for hit in index.search(np.ones(DIMENSION, np.float32), 16_000)}

    assert cursor.chunk_id % 20 == 0
    assert cursor.chunk_id >= 2 * 20 * num_pages
    deleted = {20 * number for number in range(1, cursor.deletion_id + 1)}
    assert {*range(1, cursor.chunk_id + 1)} - deleted <= held
    assert not held & deleted


def test_file_that_another_process_has_open_is_named(tmp_path: Path) -> None:
    """The error says that the file is in use and what to do; once it is free, it is opened."""
    file = tmp_path / "used.db"
    with subprocess.Popen([sys.executable, "-c", CRASHING, str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(IndexInUseError, match=r"used\.db open, .*end that one, or set RAG_INDEX__URL"):
            MilvusIndex(MilvusConnection(str(file)), "other", dimension=DIMENSION)
        process.kill()
    with milvus_lite(file) as connection:
        assert found(MilvusIndex(connection, "other", dimension=DIMENSION)) == []


def test_unreachable_server_is_named_and_not_waited_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names address and remedy; for some seconds nobody tries again, then the next one does."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        connection = MilvusConnection(f"http://127.0.0.1:{unused.getsockname()[1]}", token="user:secret")
        with pytest.raises(IndexUnavailableError, match="start it, or correct RAG_INDEX__URL") as refused:
            MilvusIndex(connection, "x", dimension=DIMENSION)
        assert connection.url in str(refused.value)
        assert "secret" not in str(refused.value)

        attempts: list[bool] = []
        monkeypatch.setattr(connection, "_connect", lambda: attempts.append(True) or (SimpleNamespace(), "v2.6.0"))
        assert connection.fault() == str(refused.value)
        assert attempts == []
        monkeypatch.setattr(milvus_connection, "RETRY_AFTER_S", 0)
        with connection.client():
            assert attempts == [True]


def test_server_that_goes_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of a server that ended since is an error as well, and so is each within the next seconds."""
    monkeypatch.setattr(milvus_index, "READ_TIMEOUT_S", 0.2)
    with milvus_lite(tmp_path / "ends.db") as connection:
        index = _filled(MilvusIndex(connection, "x", dimension=DIMENSION), 10)
    for _ in range(2):
        with pytest.raises(IndexUnavailableError, match="cannot be used"):
            index.search(ROWS[0], 5)
    assert connection.fault() is not None


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the client, the error is there at the start and names what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="run `pip install pymilvus milvus-lite`"):
        MilvusConnection("x.db")
    with pytest.raises(MissingExtraError, match="run `pip install pymilvus`"):
        MilvusConnection("http://milvus:19530")


EMBEDDER = SimpleNamespace(model_id="m", dimension=DIMENSION, location=None)
WORDS = [f"w{number}" for number in range(DIMENSION)]
IDS = st.sampled_from(["a", "b", "c", "d"])


class Servers(RuleBasedStateMachine):
    """Three servers on one store and one Milvus; the model is a dictionary of the words of each document."""

    milvus: MilvusConnection

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        self.store = factory.open_store(load_settings({}, data_dir=root))
        self.docs = self.store.vector_stores.get_or_create("docs", Access(), EMBEDDER)
        self.file = self.store.files.begin(self.docs, NewFile("/f", "f", 0))
        self.model: dict[str, list[int]] = {}
        self.servers = [self._server() for _ in range(3)]
        self.pages: list[LogPage] = []

    def _server(self) -> CollectionIndexes:
        return CollectionIndexes(Path(self.folder.name) / uuid4().hex, self.store.log, milvus=self.milvus)

    @rule(id_=IDS, words=st.lists(st.integers(0, DIMENSION - 1), min_size=1, max_size=3, unique=True))
    def put(self, id_: str, words: list[int]) -> None:
        text = "".join(f"{WORDS[word]} " for word in words)
        chunks = tuple(Chunk(3 * n, 3 * n + 3) for n in range(len(words)))
        embedded = EmbeddedDocument(Document(id_, "", text), text, chunks, np.eye(DIMENSION, dtype=np.float32)[words])
        self.store.documents.put(self.docs, self.file, [embedded], bytes_read=0)
        self.model[id_] = words

    @rule(kept=st.sets(IDS))
    def keep_only(self, kept: set[str]) -> None:
        self.store.documents.finish(self.docs, self.file, fingerprint="x", keep=kept, error=None)
        self.model = {id_: words for id_, words in self.model.items() if id_ in kept}
        self.file = self.store.files.begin(self.docs, NewFile("/f", "f", 0))

    @rule()
    def slow_server_reads(self) -> None:
        self.pages.append(self.store.log.read(self.docs, Cursor(), 1000))

    @rule(server=st.integers(0, 2))
    def slow_server_writes_what_it_read(self, server: int) -> None:
        """It had read a page, then stood still; all of its writes come now, its cursor last."""
        index = self._index(server)
        if self.pages:
            page = self.pages.pop(0)
            # Another may have built the index anew: then there is nothing left that it could spoil.
            with suppress(CollectionGoneError), self.milvus.client() as client:
                index._put(client, page.added)
                milvus_index.write_cursor(client, index._name, page.cursor, DIMENSION)

    @rule(server=st.integers(0, 2))
    def restart(self, server: int) -> None:
        self.servers[server] = self._server()

    @rule(server=st.integers(0, 2))
    def build_anew(self, server: int) -> None:
        self._index(server).reset()

    @rule(server=st.integers(0, 2))
    def search(self, server: int) -> None:
        for word in range(DIMENSION):
            hits = self._asked(lambda word=word: self.servers[server].vectors(self.docs).search(np.eye(DIMENSION)[word], 100))
            near = [hit for hit in hits if hit.score > 0.5]
            passages = self.store.passages.passages(near, Access())
            assert len(passages) == len(near)
            expected = sorted(id_ for id_, words in self.model.items() if word in words)
            assert sorted(passage.document_id for passage in passages) == expected

    def _index(self, server: int) -> MilvusIndex:
        return self._asked(lambda: self.servers[server].vectors(self.docs))

    @staticmethod
    def _asked(ask: Callable[[], Any]) -> Any:
        """As clients do: those that are told to ask again do so, once."""
        try:
            return ask()
        except IndexUnavailableError:
            return ask()

    def teardown(self) -> None:
        self.servers[0].forget(self.docs.id)
        with self.milvus.client() as client:
            assert [name for name in client.list_collections() if self.docs.id in name] == []
        self.store.database.close()
        self.folder.cleanup()


def test_servers_that_share_a_milvus_always_find_what_is_stored(milvus: MilvusConnection) -> None:
    """Whatever the servers do, in whatever order, each finds exactly what the store has at that time."""
    Servers.milvus = milvus
    machine = Servers.TestCase()
    machine.settings = hypothesis_settings(max_examples=10, stateful_step_count=15, deadline=None)
    machine.runTest()
