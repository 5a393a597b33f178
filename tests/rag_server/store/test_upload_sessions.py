"""Files in parts, in the store itself and on either database: what breaks off is never seen, and is cleared away."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import InvalidRequestError, NotFoundError
from rag_server.factory import Store
from rag_server.store import upload_sessions
from rag_server.store.expiry import remove_expired
from rag_server.store.verification import verify
from rag_server.types import Access, NewUploadSession
from tests.stores import rows

Open = Callable[[], Store]
ME = Access()


def begin(store: Store, num_bytes: int, access: Access = ME) -> str:
    return store.upload_sessions.begin(NewUploadSession("a.txt", "assistants", "text/plain", num_bytes), access).id


def content(store: Store, file_id: str) -> bytes:
    return b"".join(store.uploads.content(file_id))


def test_parts_make_the_file_on_either_database(open_store: Open) -> None:
    """What one process receives another one completes; the file is whole, and the store undamaged before and after."""
    store, other = open_store(), open_store()
    session_id = begin(store, 9)
    last = store.upload_sessions.put_part(session_id, ME, [b"g", b"hi"])
    first = other.upload_sessions.put_part(session_id, ME, [b"abc", b"def"])
    verify(store.database)

    done = other.upload_sessions.complete(session_id, ME, [first.id, last.id], md5=hashlib.md5(b"abcdefghi").hexdigest())

    assert (done.status, first.bytes, last.bytes) == ("completed", 6, 3)
    assert content(store, done.file_id) == b"abcdefghi"
    assert store.uploads.get(done.file_id, ME).bytes == 9
    verify(store.database)


@contextlib.contextmanager
def hanging(store: Store, session_id: str, sent: bytes) -> Iterator[None]:
    """A part of which only these bytes were stored for the length of the context, as of a process that was killed."""
    stored, ended = threading.Event(), threading.Event()

    def breaking() -> Iterator[bytes]:
        yield sent
        stored.set()
        ended.wait(30)
        raise ConnectionError("killed")

    def put() -> None:
        with contextlib.suppress(ConnectionError, InvalidRequestError):
            store.upload_sessions.put_part(session_id, ME, breaking())

    thread = threading.Thread(target=put)
    thread.start()
    try:
        assert stored.wait(30)
        yield
    finally:
        ended.set()
        thread.join()


def test_part_of_a_killed_process_cannot_be_used(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays as one that no file can be made of, takes no room from the others, and goes with its upload."""
    store = open_store()
    session_id = begin(store, 3)
    with hanging(open_store(), session_id, b"abc"), hanging(open_store(), session_id, b"abc"):
        broken = [part for (part,) in rows(store, "SELECT id FROM session_parts")]
        verify(store.database)
        assert len(broken) == 2
        with pytest.raises(InvalidRequestError, match="there is no part"):
            store.upload_sessions.complete(session_id, ME, broken[:1], md5=None)
        whole = store.upload_sessions.put_part(session_id, ME, [b"abc"])
        done = store.upload_sessions.complete(session_id, ME, [whole.id], md5=None)

    assert content(store, done.file_id) == b"abc"
    assert rows(store, "SELECT count(*) FROM upload_parts") == [(1,)]
    assert rows(store, "SELECT count(*) FROM session_parts") == [(0,)]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * 86400)
    assert remove_expired(store.database) == 1
    assert rows(store, "SELECT count(*) FROM upload_sessions") == [(0,)]
    assert content(store, done.file_id) == b"abc"


def test_part_that_breaks_off_leaves_nothing(open_store: Open) -> None:
    """However often parts break off, the upload can be finished; what was stored before stays."""

    def breaking() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionError("gone")

    store = open_store()
    session_id = begin(store, 6)
    first = store.upload_sessions.put_part(session_id, ME, [b"a", b"bc"])
    for _ in range(5):
        with pytest.raises(ConnectionError):
            store.upload_sessions.put_part(session_id, ME, breaking())
    with pytest.raises(InvalidRequestError, match="empty"):
        store.upload_sessions.put_part(session_id, ME, [])

    assert rows(store, "SELECT id FROM session_parts") == [(first.id,)]
    assert rows(store, "SELECT count(*) FROM upload_parts") == [(2,)]
    verify(store.database)
    last = store.upload_sessions.put_part(session_id, ME, [b"def"])
    done = store.upload_sessions.complete(session_id, ME, [first.id, last.id], md5=None)
    assert content(store, done.file_id) == b"abcdef"


def test_room_is_twice_what_was_announced(open_store: Open) -> None:
    """As many bytes may be whole, whatever else is coming in; no part alone may be larger."""
    store = open_store()
    session_id = begin(store, 2)
    put = store.upload_sessions.put_part
    with hanging(open_store(), session_id, b"abcd"):
        with pytest.raises(InvalidRequestError, match="were announced"):
            put(session_id, ME, [b"abcd", b"e"])
        for _ in range(4):
            put(session_id, ME, [b"a"])
        with pytest.raises(InvalidRequestError, match="were announced"):
            put(session_id, ME, [b"a"])


def test_parts_that_come_at_once_are_bounded_together(open_store: Open) -> None:
    """Each fits while the other is not whole yet; the one that is done last is refused."""
    store = open_store()
    session_id = begin(store, 2)

    def slow() -> Iterator[bytes]:
        yield b"ab"
        for _ in range(3):
            store.upload_sessions.put_part(session_id, ME, [b"a"])

    with pytest.raises(InvalidRequestError, match="were announced"):
        store.upload_sessions.put_part(session_id, ME, slow())
    assert rows(store, "SELECT count(*), sum(bytes) FROM session_parts") == [(3, 3)]


def test_upload_that_ends_while_its_sum_is_counted_is_named(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are gone by then; the call says that it is cancelled."""
    store = open_store()
    session_id = begin(store, 3)
    part = store.upload_sessions.put_part(session_id, ME, [b"abc"])
    digest = hashlib.md5

    def cancelling(**options: bool) -> object:
        open_store().upload_sessions.cancel(session_id, ME)
        return digest(**options)

    monkeypatch.setattr(upload_sessions.hashlib, "md5", cancelling)
    with pytest.raises(InvalidRequestError, match="is cancelled"):
        store.upload_sessions.complete(session_id, ME, [part.id], md5="0" * 32)


def test_part_that_comes_too_late_is_refused_between_its_pieces(open_store: Open) -> None:
    """An upload that is cancelled while a part comes in takes no more of it, and keeps nothing."""
    store = open_store()
    session_id = begin(store, 6)

    def cancelling() -> Iterator[bytes]:
        yield b"abc"
        open_store().upload_sessions.cancel(session_id, ME)
        yield b"def"

    with pytest.raises(InvalidRequestError, match="is cancelled"):
        store.upload_sessions.put_part(session_id, ME, cancelling())

    counts = [rows(store, f"SELECT count(*) FROM {table}") for table in ("uploads", "upload_parts", "session_parts")]
    assert counts == [[(0,)]] * 3


def test_number_of_parts_is_limited(open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiny parts are refused at some point."""
    monkeypatch.setattr(upload_sessions, "MAX_PARTS", 2)
    store = open_store()
    session_id = begin(store, 100)
    for _ in range(2):
        store.upload_sessions.put_part(session_id, ME, [b"x"])

    with pytest.raises(InvalidRequestError, match="send larger ones"):
        store.upload_sessions.put_part(session_id, ME, [b"x"])


def test_file_has_the_principals_of_the_key_that_began_it(open_store: Open) -> None:
    """Whoever completes an upload does not open it to others."""
    store = open_store()
    red, blue, full = Access("t", frozenset({"red"})), Access("t", frozenset({"blue"})), Access("t")
    session_id = begin(store, 1, red)
    part = store.upload_sessions.put_part(session_id, full, [b"x"])

    with pytest.raises(NotFoundError):
        store.upload_sessions.complete(session_id, blue, [part.id], md5=None)
    done = store.upload_sessions.complete(session_id, full, [part.id], md5=None)

    assert store.uploads.get(done.file_id, red).bytes == 1
    with pytest.raises(NotFoundError):
        store.uploads.get(done.file_id, blue)


@pytest.fixture
def sqlite_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = factory.open_store(load_settings({}, data_dir=tmp_path_factory.mktemp("sessions")))
    yield store
    store.database.close()


@given(
    parts=st.lists(st.lists(st.binary(min_size=1, max_size=5), min_size=1, max_size=4), min_size=1, max_size=5), data=st.data()
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_choice_of_parts_in_any_order_is_their_concatenation(sqlite_store: Store, parts: list, data: st.DataObject) -> None:
    """The file is the bytes of the named parts in their order, however they arrived and whatever else was sent."""
    chosen = data.draw(st.permutations(range(len(parts))).map(lambda order: order[: len(order) - len(order) // 3]))
    expected = b"".join(b"".join(parts[number]) for number in chosen)
    arrival = data.draw(st.permutations(range(len(parts))))
    # More than twice the announced bytes are refused.
    assume(sum(len(piece) for part in parts for piece in part) <= 2 * len(expected))
    session_id = begin(sqlite_store, len(expected))
    ids = {number: sqlite_store.upload_sessions.put_part(session_id, ME, parts[number]).id for number in arrival}

    done = sqlite_store.upload_sessions.complete(session_id, ME, [ids[number] for number in chosen], md5=None)

    assert content(sqlite_store, done.file_id) == expected
