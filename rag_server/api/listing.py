"""OpenAI's lists: what a request says about the page, and the list object."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Depends, Query

from rag_server.protocols import Json
from rag_server.types import Page


def _page(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=200)] = None,
    before: Annotated[str | None, Query(max_length=200)] = None,
) -> Page:
    return Page(limit, order, after, before)


PageDep = Annotated[Page, Depends(_page)]


def list_object(data: Sequence[Json], *, has_more: bool = False) -> Json:
    """Return a list of objects that have ids."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
