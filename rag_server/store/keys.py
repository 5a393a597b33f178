"""API keys: shown once, kept as a hash; each says for whom its bearer asks."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update

from rag_server.errors import NotFoundError
from rag_server.store import schema
from rag_server.store.database import Database
from rag_server.store.seals import seal
from rag_server.types import Access, ApiKey, Scope

PREFIX = "rag-"
table = schema.keys


class Keys:
    """The table of API keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        *,
        tenant: str = "",
        principals: Collection[str] | None = None,
        scopes: Collection[Scope] | None = None,
        expires_at: int | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key; return it with its secret, which cannot be read again. What is None is not limited."""
        secret = f"{PREFIX}{secrets.token_urlsafe(32)}"
        key_id = f"key_{secrets.token_hex(8)}"
        values = {
            "id": key_id,
            "name": name,
            "secret_hash": _hash(secret),
            "tenant": tenant,
            "principals": None if principals is None else sorted(set(principals)),
            "created_at": int(time.time()),
            "expires_at": expires_at,
            "scopes": None if scopes is None else sorted(set(scopes)),
            "limits": dict(limits) if limits else None,
        }
        with self._database.write() as connection:
            connection.execute(insert(table).values(values))
            seal(connection, table, table.c.id == key_id)
        return self.get(key_id), secret

    def list(self) -> list[ApiKey]:
        """Return every key, oldest first, revoked ones included."""
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(select(table).order_by(table.c.created_at, table.c.id))]

    def find(self, secret: str) -> ApiKey | None:
        """Return the key of that secret, None if there is none or it is revoked or expired.

        The look-up is by the hash of the whole secret: how long it takes says nothing about how much of it is right.
        """
        secret_hash = _hash(secret)
        unexpired = table.c.expires_at.is_(None) | (table.c.expires_at > int(time.time()))
        query = select(table).where(table.c.secret_hash == secret_hash, table.c.revoked_at.is_(None), unexpired)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None or not hmac.compare_digest(row.secret_hash, secret_hash) else _key(row)

    def any_unrevoked(self) -> bool:
        """Return whether there is a key that is not revoked; one that expired counts, since time opens no server."""
        with self._database.read() as connection:
            return connection.execute(select(table.c.id).where(table.c.revoked_at.is_(None)).limit(1)).one_or_none() is not None

    def revoke(self, key_id: str) -> None:
        """End a key at once.

        Raises:
            NotFoundError: There is none of that id.
        """
        self.get(key_id)
        with self._database.write() as connection:
            valid = (table.c.id == key_id, table.c.revoked_at.is_(None))
            connection.execute(update(table).where(*valid).values(revoked_at=int(time.time())))
            seal(connection, table, table.c.id == key_id)

    def get(self, key_id: str) -> ApiKey:
        """Return the key of that id.

        Raises:
            NotFoundError: There is none.
        """
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.id == key_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"there is no key {key_id!r}; `rag-server keys list` shows them")
        return _key(row)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _key(row: Row[Any]) -> ApiKey:
    principals = None if row.principals is None else frozenset(row.principals)
    return ApiKey(
        id=row.id,
        name=row.name,
        access=Access(row.tenant, principals),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        expires_at=row.expires_at,
        scopes=None if row.scopes is None else frozenset(row.scopes),
        limits=row.limits or {},
    )
