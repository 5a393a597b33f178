"""Pages of lists: whatever the list, the order and the size of a page, every object comes once and in its place."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    select,
)
from sqlalchemy.pool import StaticPool

from rag_server.errors import InvalidRequestError
from rag_server.factory import Store
from rag_server.store.paging import page_of
from rag_server.types import Access, NewFile, Page
from tests.stores import MODEL

OBJECTS = Table(
    "objects",
    MetaData(),
    Column("id", String, primary_key=True),
    Column("tenant", String),
    Column("created_at", BigInteger),
)
# Few instants, so that many objects share one.
objects = st.lists(
    st.tuples(st.text("abcdef0123456789", min_size=1, max_size=4), st.sampled_from("tu"), st.integers(0, 3)),
    max_size=25,
    unique_by=lambda row: row[0],
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    OBJECTS.metadata.create_all(engine)
    yield engine
    engine.dispose()


def page(connection: Connection, request: Page, *where: ColumnElement[bool]) -> tuple[list[str], bool]:
    """The ids on a page of the list of tenant t."""
    query, position = (
        select(OBJECTS.c.id, OBJECTS.c.created_at).where(OBJECTS.c.tenant == "t"),
        [OBJECTS.c.created_at, OBJECTS.c.id],
    )
    rows, has_more = page_of(connection, query, request, id_=OBJECTS.c.id, position=position, where=where)
    return [row.id for row in rows], has_more


def fill(connection: Connection, rows: Sequence[tuple[str, str, int]]) -> None:
    connection.execute(OBJECTS.delete())
    if rows:
        connection.execute(insert(OBJECTS), [dict(zip(("id", "tenant", "created_at"), row, strict=True)) for row in rows])


@given(rows=objects, limit=st.integers(1, 7), order=st.sampled_from(["asc", "desc"]))
def test_pages_forwards_make_the_sorted_list(engine: Engine, rows: list, limit: int, order: str) -> None:
    """One page after the other, by the id of the last object, gives the sorted list, each object once."""
    expected = [id_ for _, id_ in sorted(((at, id_) for id_, tenant, at in rows if tenant == "t"), reverse=order == "desc")]
    with engine.begin() as connection:
        fill(connection, rows)
        read: list[str] = []
        has_more = True
        while has_more:
            ids, has_more = page(connection, Page(limit, order, after=read[-1] if read else None))
            assert len(ids) == min(limit, len(expected) - len(read))
            read += ids

    assert read == expected


@given(rows=objects, limit=st.integers(1, 7), order=st.sampled_from(["asc", "desc"]))
def test_pages_backwards_make_the_same_list(engine: Engine, rows: list, limit: int, order: str) -> None:
    """From the last object on, each page before the first one seen gives the rest, in the order of the list."""
    expected = [id_ for _, id_ in sorted(((at, id_) for id_, tenant, at in rows if tenant == "t"), reverse=order == "desc")]
    with engine.begin() as connection:
        fill(connection, rows)
        read = expected[-1:]
        has_more = bool(expected)
        while has_more:
            ids, has_more = page(connection, Page(limit, order, before=read[0]))
            assert len(ids) == min(limit, len(expected) - len(read))
            read = ids + read

    assert read == expected


@given(rows=objects, data=st.data(), limit=st.integers(1, 7), order=st.sampled_from(["asc", "desc"]))
def test_page_between_two_objects(engine: Engine, rows: list, data: st.DataObject, limit: int, order: str) -> None:
    """With both ends the page begins after the one and stops before the other."""
    expected = [id_ for _, id_ in sorted(((at, id_) for id_, tenant, at in rows if tenant == "t"), reverse=order == "desc")]
    if len(expected) < 2:
        return
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(expected) - 1)] * 2)))
    between = expected[first + 1 : last]
    with engine.begin() as connection:
        fill(connection, rows)
        found = page(connection, Page(limit, order, after=expected[first], before=expected[last]))

    assert found == (between[:limit], len(between) > limit)


@pytest.mark.parametrize("end", ["after", "before"])
def test_object_that_the_caller_does_not_see_is_no_place(engine: Engine, end: str) -> None:
    """Another tenant's object is as unknown as one that does not exist, and the field is named."""
    with engine.begin() as connection:
        fill(connection, [("a", "t", 1), ("b", "u", 2)])
        for id_ in ("b", "none"):
            with pytest.raises(InvalidRequestError, match="there is no object") as raised:
                page(connection, Page(**{end: id_}))
            assert raised.value.param == end


@pytest.mark.parametrize(("ends", "found"), [({"after": "b"}, ["c", "e"]), ({"before": "d"}, ["a", "c"])])
def test_page_begins_at_an_object_that_its_condition_leaves_out(engine: Engine, ends: dict, found: list[str]) -> None:
    """An object that has changed since its page was read is still a place, though no page shows it any more."""
    with engine.begin() as connection:
        fill(connection, [(id_, "t", number) for number, id_ in enumerate("abcde")])

        assert page(connection, Page(5, "asc", **ends), OBJECTS.c.id.in_(["a", "c", "e"])) == (found, False)


def test_condition_of_a_page_opens_nothing(engine: Engine) -> None:
    """Another tenant's object is no place, whether the condition holds for it or not."""
    with engine.begin() as connection:
        fill(connection, [("a", "t", 1), ("b", "u", 2)])
        for wanted in ("a", "b"):
            with pytest.raises(InvalidRequestError, match="there is no object"):
                page(connection, Page(after="b"), OBJECTS.c.id == wanted)


def test_lists_are_walked_while_what_they_are_narrowed_by_changes(open_store: Callable[[], Store]) -> None:
    """Files that are indexed, and completions whose metadata change, from one page to the next."""
    store, me = open_store(), Access()
    docs = store.vector_stores.create("docs", me, MODEL)
    new = [NewFile(f"/{number}", f"{number}", 1) for number in range(3)]
    batch = store.file_batches.create(docs, new, me)
    for number in range(3):
        completion = {"id": f"chatcmpl-{number}", "created": number, "model": "m"}
        store.chat_completions.add(completion, [], {"a": "b"}, me)
    queued, metadata = ("queued",), {"a": "b"}
    walks: list[Callable[[Page], tuple[list, bool]]] = [
        lambda page: store.files.page(docs, me, page, statuses=queued),
        lambda page: store.file_batches.page(batch, me, page, statuses=queued),
    ]

    (first,), _ = walks[0](Page(1, "asc"))
    store.files.cancel(first)
    store.chat_completions.set_metadata("chatcmpl-0", {}, me)

    for walk in walks:
        assert [file.filename for file in walk(Page(5, "asc", after=first.id))[0]] == ["1", "2"]
    found, _ = store.chat_completions.page(me, Page(5, "asc", after="chatcmpl-0"), metadata=metadata)
    assert [one["id"] for one in found] == ["chatcmpl-1", "chatcmpl-2"]
