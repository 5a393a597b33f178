"""The attributes that filters search: written with documents and chunks, read as SQL conditions on chunks."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, false, insert, not_, or_, select, true
from sqlalchemy.sql.selectable import Select

from rag_server.filters import instant
from rag_server.store import schema
from rag_server.types import Comparison, Filter, FilterValue, VectorStore

table = schema.attributes.c
Condition = ColumnElement[bool]

ORDERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
# What every document has without anyone setting it.
BUILT_IN = ("document_id", "filename", "file_id")
_PARENTS = schema.documents.join(schema.files)
_BUILT_IN_COLUMNS = {
    "document_id": schema.documents.c.document_id,
    "filename": schema.files.c.filename,
    "file_id": schema.files.c.id,
}


def insert_attributes(
    connection: Connection, vector_store_id: str, rows: Iterable[tuple[int, int | None, Mapping[str, FilterValue]]]
) -> None:
    """Insert the attributes of documents and chunks; each row is (document key, chunk id or None, attributes)."""
    values = [
        {"vector_store_id": vector_store_id, "document_key": document_key, "chunk_id": chunk_id, "name": name, **typed(value)}
        for document_key, chunk_id, attributes in rows
        for name, value in attributes.items()
    ]
    if values:
        connection.execute(insert(schema.attributes), values)


def condition(vector_store: VectorStore, filter_: Filter) -> Condition:
    """Return the condition on `chunks` that holds where the filter holds."""
    if isinstance(filter_, Comparison):
        return _comparison(vector_store, filter_)
    parts = [condition(vector_store, part) for part in filter_.filters]
    return and_(true(), *parts) if filter_.operator == "and" else or_(false(), *parts)


def keys_of(filter_: Filter) -> Iterator[str]:
    """Yield every attribute that the filter compares with."""
    if isinstance(filter_, Comparison):
        yield filter_.key
    else:
        for part in filter_.filters:
            yield from keys_of(part)


def _comparison(vector_store: VectorStore, comparison: Comparison) -> Condition:
    value = comparison.value
    if comparison.operator in ("ne", "nin"):
        opposite = Comparison("eq" if comparison.operator == "ne" else "in", comparison.key, value)
        return not_(_comparison(vector_store, opposite))
    chunks, values = schema.chunks.c, value if isinstance(value, tuple) else (value,)
    if comparison.key in BUILT_IN:
        return chunks.document_key.in_(_built_in(vector_store, comparison.key, comparison.operator, values))
    rows = (table.vector_store_id == vector_store.id, table.name == comparison.key, _matches(comparison.operator, values))
    of_documents = select(table.document_key).where(*rows, table.chunk_id.is_(None))
    of_chunks = select(table.chunk_id).where(*rows, table.chunk_id.is_not(None))
    return or_(chunks.document_key.in_(of_documents), chunks.id.in_(of_chunks))


def _matches(relation: str, values: Sequence[FilterValue]) -> Condition:
    if relation in ORDERS:
        return _is_beyond(relation, values[0])
    by_kind: dict[str, list[str | float]] = {}
    for value in values:
        by_kind.setdefault(typed(value)["kind"], []).append(value if isinstance(value, str) else float(value))
    columns = {"string": table.text, "number": table.number, "boolean": table.number}
    # One condition per kind: databases bound how many may be combined.
    return or_(false(), *(and_(table.kind == kind, columns[kind].in_(among)) for kind, among in by_kind.items()))


def _is_beyond(order: str, value: FilterValue) -> Condition:
    columns = typed(value)
    is_text = isinstance(value, str) and columns["number"] is None
    column = table.text if is_text else table.number
    beyond = ORDERS[order](column, value if is_text else columns["number"])
    return and_(table.kind == columns["kind"], column.is_not(None), beyond)


def _built_in(vector_store: VectorStore, key: str, relation: str, values: Sequence[FilterValue]) -> Select[tuple[int]]:
    query = select(schema.documents.c.id).select_from(_PARENTS).where(schema.documents.c.vector_store_id == vector_store.id)
    column, strings = _BUILT_IN_COLUMNS[key], [value for value in values if isinstance(value, str)]
    if not strings:
        return query.where(false())
    return query.where(ORDERS[relation](column, strings[0]) if relation in ORDERS else column.in_(strings))


def typed(value: FilterValue) -> dict[str, Any]:
    """Return the columns of an attribute: kind, text, number."""
    if isinstance(value, bool):
        return {"kind": "boolean", "text": None, "number": float(value)}
    if isinstance(value, str):
        return {"kind": "string", "text": value, "number": instant(value)}
    return {"kind": "number", "text": None, "number": float(value)}
