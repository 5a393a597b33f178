"""One page of a list, as OpenAI's lists are paged: by the id of the last object seen."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, tuple_

from rag_server.errors import InvalidRequestError
from rag_server.types import Page


def page_of(
    connection: Connection,
    query: Select[Any],
    page: Page,
    *,
    id_: ColumnElement[Any],
    position: Sequence[ColumnElement[Any]],
    where: Sequence[ColumnElement[bool]] = (),
) -> tuple[list[Row[Any]], bool]:
    """Return the rows of the page, and whether more follow in the direction of reading.

    `query` is what the caller may see, without an order; `position` are columns of it that order it and are unique together.
    Of the rows of the page `where` holds, but not of `after` and `before`: an object may change while its list is walked.

    Raises:
        InvalidRequestError: The caller sees no object with the id `after` or `before`.
    """
    place = tuple_(*position)
    descending = page.order == "desc"
    stretch = query.where(*where)
    if page.after is not None:
        cursor = tuple_(*_position(connection, query, page.after, id_, position, "after"))
        stretch = stretch.where(place < cursor if descending else place > cursor)
    if page.before is not None:
        cursor = tuple_(*_position(connection, query, page.before, id_, position, "before"))
        stretch = stretch.where(place > cursor if descending else place < cursor)
    # The page before an object ends at it, so it is read backwards from there.
    backwards = page.before is not None and page.after is None
    ordered = [column.desc() if descending != backwards else column.asc() for column in position]
    rows = list(connection.execute(stretch.order_by(*ordered).limit(page.limit + 1)))
    found = rows[: page.limit]
    return (found[::-1] if backwards else found), len(rows) > page.limit


def _position(
    connection: Connection,
    query: Select[Any],
    object_id: str | int,
    id_: ColumnElement[Any],
    position: Sequence[ColumnElement[Any]],
    param: str,
) -> tuple[Any, ...]:
    row = connection.execute(query.with_only_columns(*position, maintain_column_froms=True).where(id_ == object_id)).first()
    if row is None:
        raise InvalidRequestError(f"there is no object {object_id!r} in this list", param)
    return tuple(row)
