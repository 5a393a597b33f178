"""Filters and permissions in SQL against a brute-force reading of what they mean."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import InvalidFilterError
from rag_server.factory import Store
from rag_server.filters import MAX_COMPARISONS, MAX_VALUES, parse_filter
from rag_server.types import Access, Chunk, Cursor, Document, EmbeddedDocument, Hit, NewFile, Query, VectorStore

EMBEDDER = SimpleNamespace(model_id="m", dimension=2, location=None)
KEYS = ["colour", "year", "é", "page"]
PRINCIPALS = ["ann", "bob", "cy"]
STRINGS = st.one_of(
    st.sampled_from(["", "red", "Red", "é", "z", "10", "9", "2024-02-30", "2024"]),
    st.sampled_from(["2024-05-01", "2024-05-01T12:00:00Z", "2024-05-01T14:00+02:00", "2023-12-31 23:59:59.5", "2024-05-02"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=3),
)
VALUES = st.one_of(STRINGS, st.sampled_from([0, 1, -1, 2024, 0.5, 1.0, 1e300]), st.booleans())
ATTRIBUTES = st.dictionaries(st.sampled_from(KEYS[:3]), VALUES, max_size=3)
FILES = st.lists(
    st.tuples(
        ATTRIBUTES,
        st.none() | st.sets(st.sampled_from(PRINCIPALS), max_size=2),
        st.lists(st.tuples(ATTRIBUTES, st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=3)), max_size=3),
    ),
    min_size=1,
    max_size=5,
)


def comparisons() -> st.SearchStrategy[dict[str, Any]]:
    keys = st.sampled_from([*KEYS, "document_id", "filename"])
    equal = st.builds(lambda t, k, v: {"type": t, "key": k, "value": v}, st.sampled_from(["eq", "ne"]), keys, VALUES)
    ordered = st.builds(
        lambda t, k, v: {"type": t, "key": k, "value": v},
        st.sampled_from(["gt", "gte", "lt", "lte"]),
        keys,
        VALUES.filter(lambda value: not isinstance(value, bool)),
    )
    among = st.builds(
        lambda t, k, v: {"type": t, "key": k, "value": v}, st.sampled_from(["in", "nin"]), keys, st.lists(VALUES, max_size=3)
    )
    return st.one_of(equal, ordered, among)


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.builds(
        lambda t, parts: {"type": t, "filters": parts}, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)


def as_instant(value: str) -> float | None:
    """The seconds since 1970 of what looks like an ISO date, with a time or without."""
    if len(value) < 10 or value[4:5] != "-" or value[7:8] != "-" or not value[:4].isdigit():
        return None
    for text in (value, value.replace("Z", "+00:00")):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def kind(value: object) -> str:
    return "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"


def is_equal(left: object, right: object) -> bool:
    return kind(left) == kind(right) and left == right


def holds(attributes: dict[str, Any], node: dict[str, Any]) -> bool:
    """What a filter means, read off its description."""
    operator = node["type"]
    if operator in ("and", "or"):
        return (all if operator == "and" else any)(holds(attributes, part) for part in node["filters"])
    value, there = node["value"], node["key"] in attributes
    own = attributes.get(node["key"])
    if operator in ("eq", "ne"):
        return (there and is_equal(own, value)) == (operator == "eq")
    if operator in ("in", "nin"):
        return (there and any(is_equal(own, one) for one in value)) == (operator == "in")
    if not there or kind(own) != kind(value):
        return False
    left, right = own, value
    if isinstance(value, str):
        if node["key"] not in ("document_id", "filename") and as_instant(value) is not None:
            left, right = as_instant(own), as_instant(value)
            if left is None:
                return False
        else:
            left, right = own.encode(), value.encode()
    return {"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[operator]


def fill(store: Store, docs: VectorStore, files: list) -> dict[int, tuple[dict[str, Any], set[str] | None]]:
    """Store the files; return of each chunk id everything that a filter sees, and who may read it."""
    known: dict[int, tuple[dict[str, Any], set[str] | None]] = {}
    next_id = 1
    for number, (common, principals, documents) in enumerate(files):
        new = NewFile(
            f"/{number}",
            f"f{number}",
            1,
            attributes=common,
            principals=None if principals is None else tuple(sorted(principals)),
        )
        file = store.files.begin(docs, new)
        for row, (own, pages) in enumerate(documents):
            text = "x" * len(pages)
            chunks = tuple(
                Chunk(start, end, {"page": page})
                for (start, end), page in zip(pairwise(range(len(pages) + 1)), pages, strict=True)
            )
            embedded = EmbeddedDocument(
                Document(f"d{row}", "", text, own), "h", chunks, np.zeros((len(pages), 2), dtype=np.float32)
            )
            store.documents.put(docs, file, [embedded], bytes_read=1)
            for page in pages:
                seen = {**common, **own, "page": page, "document_id": f"d{row}", "filename": f"f{number}"}
                known[next_id] = seen, principals
                next_id += 1
    return known


def check(store: Store, files: list, filter_: dict[str, Any], principals: set[str] | None) -> None:
    docs = store.vector_stores.create("docs", Access(), EMBEDDER)
    try:
        known = fill(store, docs, files)
        ids = {chunk.id: number for number, chunk in zip(known, store.log.read(docs, Cursor(), 10_000).added, strict=True)}
        access = Access("", None if principals is None else frozenset(principals))
        query = Query("q", (docs,), access, parse_filter(filter_))
        visible = {
            number: seen
            for number, (seen, allowed) in known.items()
            if principals is None or allowed is None or allowed & principals
        }
        used = keys_in(filter_) - {"document_id", "filename"}
        there = {key for seen in visible.values() for key in seen} - {"document_id", "filename"}
        if there and not used <= there:
            with pytest.raises(InvalidFilterError, match="there are: "):
                store.selection.chunk_ids(docs, query)
            return
        found = store.selection.chunk_ids(docs, query)
        assert found is not None
        assert [ids[int(id_)] for id_ in found] == [number for number, seen in visible.items() if holds(seen, filter_)]
    finally:
        store.vector_stores.delete(docs)


def keys_in(node: dict[str, Any]) -> set[str]:
    return {node["key"]} if "key" in node else {key for part in node["filters"] for key in keys_in(part)}


@pytest.fixture(scope="module")
def sqlite_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        store = factory.open_store(load_settings({}, data_dir=Path(folder)))
        yield store
        store.database.close()


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(files=FILES, filter_=FILTERS, principals=st.none() | st.sets(st.sampled_from(PRINCIPALS), max_size=2))
def test_sqlite_admits_exactly_what_the_filter_means(
    sqlite_store: Store, files: list, filter_: dict[str, Any], principals: set[str] | None
) -> None:
    """Every chunk that filter and principals admit, and no other, in ascending order."""
    check(sqlite_store, files, filter_, principals)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(files=FILES, filter_=FILTERS, principals=st.none() | st.sets(st.sampled_from(PRINCIPALS), max_size=2))
def test_postgresql_admits_exactly_what_the_filter_means(
    postgresql_url: str, files: list, filter_: dict[str, Any], principals: set[str] | None
) -> None:
    """The same on PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        store = factory.open_store(load_settings({"RAG_DATABASE__URL": postgresql_url}, data_dir=Path(folder)))
        try:
            check(store, files, filter_, principals)
        finally:
            store.database.close()


@pytest.mark.parametrize("key", ["year", "filename"])
@pytest.mark.parametrize("operator", ["in", "nin"])
def test_as_many_values_as_are_taken_are_compared(open_store: Callable[[], Store], key: str, operator: str) -> None:
    """A filter at its bound, of values of every kind, means on either database what a small one means."""
    files: list = [({"year": value}, None, [({}, [1.0])]) for value in (1, "1", True, 0.5, "red", MAX_VALUES, "f1", False)]
    many = [1, "red", True, "f1", *map(str, range(2, MAX_VALUES // 2)), *range(MAX_VALUES // 2, MAX_VALUES - 2)]
    assert len(many) == MAX_VALUES

    check(open_store(), files, {"type": operator, "key": key, "value": many}, None)


def test_as_many_comparisons_as_are_taken_are_made(open_store: Callable[[], Store]) -> None:
    """So does one of as many comparisons as a filter may have, with all values that it may have."""
    files: list = [({"year": value}, None, [({}, [1.0])]) for value in (1, "1", True, 9000, 9990)]
    each = MAX_VALUES // MAX_COMPARISONS
    parts = [
        {"type": "in", "key": "year", "value": list(range(start, start + each))}
        for start in range(0, MAX_COMPARISONS * each, each)
    ]

    check(open_store(), files, {"type": "or", "filters": parts}, None)


def test_a_remembered_selection_is_not_taken_for_another(sqlite_store: Store) -> None:
    """What was admitted for one asker or filter is not handed to the next, nor after a change."""
    docs = sqlite_store.vector_stores.create("memory", Access(), EMBEDDER)
    fill(sqlite_store, docs, [({"n": 1}, {"ann"}, [({}, [1.0])]), ({"n": True}, None, [({}, [2.0])])])

    def admitted(filter_: dict[str, Any] | None, principals: set[str] | None) -> list[float]:
        access = Access("", None if principals is None else frozenset(principals))
        found = sqlite_store.selection.chunk_ids(docs, Query("q", (docs,), access, filter_ and parse_filter(filter_)))
        if found is None:
            return [1.0, 2.0]
        passages = {
            p.id: p.place["page"] for p in sqlite_store.passages.passages([Hit(int(id_), 1.0) for id_ in found], Access())
        }
        return [passages[int(id_)] for id_ in found]

    one, true = ({"type": "eq", "key": "n", "value": value} for value in (1, True))
    assert [admitted(None, None), admitted(None, {"ann"}), admitted(None, {"bob"})] == [[1.0, 2.0], [1.0, 2.0], [2.0]]
    assert [admitted(one, None), admitted(true, None), admitted(one, {"ann"})] == [[1.0], [2.0], [1.0]]
    restricted = next(f for f in sqlite_store.files.readable(docs, Access()) if f.principals is not None)
    sqlite_store.files.set_attributes(docs, restricted, {"n": True})
    assert [admitted(one, {"ann"}), admitted(true, {"ann"})] == [[], [1.0, 2.0]]
    sqlite_store.files.describe(
        docs, NewFile(restricted.source, restricted.filename, 1, attributes={"n": 1}, principals=("bob",))
    )
    assert [admitted(None, {"ann"}), admitted(None, {"bob"})] == [[2.0], [1.0, 2.0]]
