"""Responses and conversations in the store, on SQLite and PostgreSQL: what is kept together, in which order, and for whom."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from rag_server.errors import InvalidRequestError, NotFoundError, PreviousResponseNotFoundError
from rag_server.factory import Store
from rag_server.store.verification import verify
from rag_server.types import Access, Page
from tests.stores import rows

Open = Callable[[], Store]
ME, OTHER = Access(), Access("other")
Json = dict[str, Any]


def response(number: int, *, after: int | None = None, status: str = "completed", output: int = 1) -> Json:
    return {
        "id": f"resp_{number}",
        "created_at": number,
        "status": status,
        "background": True,
        "previous_response_id": None if after is None else f"resp_{after}",
        "output": [{"id": f"out_{number}_{index}"} for index in range(output)],
    }


def inputs(number: int, count: int = 2) -> list[Json]:
    return [{"id": f"in_{number}_{index}"} for index in range(count)]


def ids(items: list[Json]) -> list[str]:
    return [item["id"] for item in items]


def test_history_is_the_chain_in_its_order(open_store: Open) -> None:
    """Input and output of each response that one follows come once, the oldest first, whatever else was kept meanwhile."""
    store = open_store().responses
    for number, after in ((1, None), (2, None), (3, 1), (4, 2), (5, 3)):
        store.add(response(number, after=after), inputs(number), ME)

    expected = [f"{kind}_{number}_{index}" for number in (1, 3, 5) for kind, index in (("in", 0), ("in", 1), ("out", 0))]
    assert ids(store.history("resp_5", ME)) == expected
    assert ids(store.history("resp_2", ME)) == ["in_2_0", "in_2_1", "out_2_0"]


def test_chain_with_a_gap_or_in_a_circle_is_refused(open_store: Open) -> None:
    """A deleted response is not passed over in silence, and what follows itself does not run for ever."""
    opened = open_store()
    store = opened.responses
    for number in (1, 2, 3):
        store.add(response(number, after=number - 1 or None), inputs(number), ME)
    store.delete("resp_2", ME)

    with pytest.raises(PreviousResponseNotFoundError, match="resp_2"):
        store.history("resp_3", ME)
    with opened.database.write() as connection:
        connection.exec_driver_sql("UPDATE responses SET previous_response_id = 'resp_3' WHERE id = 'resp_3'")
    with pytest.raises(InvalidRequestError, match="at most"):
        store.history("resp_3", ME)


def test_nobody_else_finds_a_response_or_its_items(open_store: Open) -> None:
    """Every way to an object of another tenant ends as if it were not there."""
    opened = open_store()
    store = opened.responses
    store.add(response(1), inputs(1), ME)
    opened.conversations.create({}, [{"id": "msg_1"}], ME)
    calls: list[Callable[[], object]] = [
        lambda: store.get("resp_1", OTHER),
        lambda: store.cancel("resp_1", OTHER),
        lambda: store.delete("resp_1", OTHER),
        lambda: store.input_page("resp_1", OTHER, Page()),
        lambda: store.events("resp_1", OTHER),
    ]

    for call in calls:
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(PreviousResponseNotFoundError):
        store.history("resp_1", OTHER)
    wanted = ["in_1_0", "out_1_0", "msg_1"]
    assert store.find_items(wanted, OTHER) == {}
    assert set(store.find_items(wanted, ME)) == set(wanted)


def test_response_and_its_items_in_the_conversation_come_together(open_store: Open) -> None:
    """A conversation that takes no more leaves nothing of the response either."""
    opened = open_store()
    conversation = opened.conversations.create({}, [{"id": "first"}], ME)
    opened.responses.add_to_conversation(response(1), inputs(1), conversation.id, ME, keep=True)

    assert ids(opened.conversations.items(conversation.id, ME)) == ["first", "in_1_0", "in_1_1", "out_1_0"]
    with pytest.raises(InvalidRequestError, match="at most"):
        opened.responses.add_to_conversation(response(2), inputs(2, 10_000), conversation.id, ME, keep=True)
    with pytest.raises(NotFoundError):
        opened.responses.get("resp_2", ME)
    opened.conversations.delete(conversation.id, ME)
    with pytest.raises(NotFoundError, match="conversation"):
        opened.responses.add_to_conversation(response(3), inputs(3), conversation.id, ME, keep=True)
    with pytest.raises(NotFoundError):
        opened.responses.get("resp_3", ME)
    verify(opened.database)


def test_background_response_ends_once(open_store: Open) -> None:
    """Of finishing, cancelling and giving up at the same time one wins, and the others leave it as it is."""
    opened = open_store()
    store = opened.responses
    for number in range(1, 9):
        store.add(response(number, status="queued", output=0), inputs(number), ME, lease_until=time.time() + 60)
        assert store.begin(f"resp_{number}")
        won: list[str] = []

        def finish(number: int = number, won: list[str] = won) -> None:
            if store.finish(response(number)):
                won.append("completed")

        def cancel(number: int = number, won: list[str] = won) -> None:
            if store.cancel(f"resp_{number}", ME)["status"] == "cancelled":
                won.append("cancelled")

        threads = [threading.Thread(target=target) for target in (finish, cancel, finish)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = store.get(f"resp_{number}", ME)

        assert won == [found["status"]]
        assert len(found["output"]) == (found["status"] == "completed")
    verify(opened.database)


def test_lease_that_ran_out_fails_the_response(open_store: Open) -> None:
    """It is failed from the first look at it on; a renewed one is not."""
    store = open_store().responses
    now = time.time()
    for number, lease in ((1, now - 1), (2, now - 1), (3, now + 60)):
        store.add(response(number, status="in_progress", output=0), inputs(number), ME, lease_until=lease)

    assert store.renew(["resp_2", "resp_3", "resp_none"], now + 60) == {"resp_2", "resp_3"}
    assert [store.get(f"resp_{number}", ME)["status"] for number in (1, 2, 3)] == ["failed", "in_progress", "in_progress"]
    assert not store.begin("resp_1")
    assert not store.finish(response(1))
    assert store.renew(["resp_1"], now + 60) == set()


def test_response_whose_process_has_ended_can_be_followed(open_store: Open) -> None:
    """Nobody waits for what nobody works on any more; one whose lease lasts is not done yet."""
    store = open_store().responses
    now = time.time()
    for number, status, lease in ((1, "queued", now - 1), (2, "in_progress", now - 1), (3, "in_progress", now + 60)):
        store.add(response(number, status=status, output=0), inputs(number), ME, lease_until=lease)

    assert ids(store.history("resp_1", ME)) == ["in_1_0", "in_1_1"]
    assert ids(store.history("resp_2", ME)) == ["in_2_0", "in_2_1"]
    with pytest.raises(InvalidRequestError, match="not done yet"):
        store.history("resp_3", ME)


def test_end_of_a_response_comes_with_its_events(open_store: Open) -> None:
    """Both or neither: a conversation that is gone leaves no events, and saving them again replaces them."""
    opened = open_store()
    store, conversation = opened.responses, opened.conversations.create({}, [], ME)
    for number in (1, 2):
        store.add(response(number, status="queued", output=0), [], ME, lease_until=time.time() + 60)
    opened.conversations.delete(conversation.id, ME)

    assert store.finish(response(1), events=[{"n": 1}])
    with pytest.raises(NotFoundError):
        store.finish(response(2), conversation_id=conversation.id, events=[{"n": 2}])
    assert not store.finish(response(1), events=[{"n": 3}])
    assert (store.events("resp_1", ME), store.events("resp_2", ME)) == ([{"n": 1}], None)
    store.save_events("resp_1", [{"n": 1}, {"n": 4}])
    assert store.events("resp_1", ME) == [{"n": 1}, {"n": 4}]


def test_deleted_response_leaves_nothing(open_store: Open) -> None:
    """Items and events go with it; its items in a conversation stay there."""
    opened = open_store()
    store, conversation = opened.responses, opened.conversations.create({}, [], ME)
    store.add_to_conversation(response(1), inputs(1), conversation.id, ME, keep=True)
    store.save_events("resp_1", [{"type": "x"}])
    assert store.events("resp_1", ME) == [{"type": "x"}]

    store.delete("resp_1", ME)
    store.save_events("resp_1", [{"type": "late"}])

    for table in ("responses", "response_items", "response_events"):
        assert rows(opened, f"SELECT * FROM {table}") == []
    assert len(opened.conversations.items(conversation.id, ME)) == 3


def test_text_that_no_database_stores_is_refused_whole(open_store: Open) -> None:
    """Odd characters come back as they are, or nothing is kept."""
    opened = open_store()
    text = "\u0000 \U0001f600 \ufeff \u2028 'x' \"y\""
    conversation = opened.conversations.create({}, [{"id": "a", "text": text}], ME)

    assert opened.conversations.items(conversation.id, ME) == [{"id": "a", "text": text}]
    with pytest.raises(InvalidRequestError):
        opened.conversations.add(conversation.id, [{"id": "b"}, {"id": "\ud800", "text": "x"}], ME)
    assert len(opened.conversations.items(conversation.id, ME)) == 1
