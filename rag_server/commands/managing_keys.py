"""`rag-server keys`: make, list and revoke API keys."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from rag_server import factory
from rag_server.commands.confirmation import confirmed
from rag_server.config import Settings
from rag_server.protocols import Json
from rag_server.types import ApiKey


def create_key(settings: Settings, *, name: str, tenant: str, principals: Sequence[str], as_json: bool) -> None:
    """Make a key and print its secret, which is shown only now."""
    store = factory.open_store(settings)
    key, secret = store.keys.create(name, tenant=tenant, principals=principals or None)
    store.database.close()
    if as_json:
        print(json.dumps({**_key_object(key), "secret": secret}, indent=2))
        return
    print(secret)
    print("Keep it: it is not shown again. Every request needs a key from now on.", file=sys.stderr)


def list_keys(settings: Settings, *, as_json: bool) -> None:
    """Print the keys without their secrets."""
    store = factory.open_store(settings)
    keys = store.keys.list()
    store.database.close()
    if as_json:
        print(json.dumps([_key_object(key) for key in keys], indent=2))
        return
    for key in keys:
        limits = "every file" if key.access.principals is None else ", ".join(sorted(key.access.principals))
        state = "valid" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"
        print(f"{key.id}  {key.name}  tenant {key.access.tenant or '(default)'}  {limits}  {_day(key.created_at)}  {state}")
    if not keys:
        print("there is no key; `rag-server keys create NAME` makes one", file=sys.stderr)


def revoke_key(settings: Settings, key_id: str, *, assume_yes: bool) -> None:
    """End a key at once."""
    store = factory.open_store(settings)
    key = store.keys.get(key_id)
    if confirmed(f"Revoke {key_id} ({key.name})? Whoever uses it is locked out at once.", assume_yes=assume_yes):
        store.keys.revoke(key_id)
        print(f"{key_id} is revoked")
    store.database.close()


def _key_object(key: ApiKey) -> Json:
    principals = key.access.principals
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.access.tenant,
        "principals": None if principals is None else sorted(principals),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


def _day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, tz=UTC).date().isoformat()
