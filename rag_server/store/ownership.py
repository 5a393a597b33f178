"""Who may see an object that a key made and that is nobody else's: a response, a conversation, a stored completion."""

import json

from sqlalchemy import ColumnElement, Table

from rag_server.types import Access


def owner_of(access: Access) -> str:
    """Return what the column `owner` holds: the principals of the key, empty for a key without a list."""
    return "" if access.principals is None else json.dumps(sorted(access.principals), ensure_ascii=False)


def owned(table: Table, access: Access) -> ColumnElement[bool]:
    """Return the condition that holds for the objects of `access`.

    A key without principals sees all of its tenant; one with principals sees what keys with the very same list made.
    """
    of_tenant: ColumnElement[bool] = table.c.tenant == access.tenant
    return of_tenant if access.principals is None else of_tenant & (table.c.owner == owner_of(access))
