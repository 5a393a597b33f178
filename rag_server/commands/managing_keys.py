"""`rag-server keys`: make, list and revoke API keys."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import get_args

from pydantic import ValidationError

from rag_server import factory
from rag_server.commands.confirmation import confirmed
from rag_server.config import LimitsSettings, Settings
from rag_server.errors import InvalidRequestError
from rag_server.protocols import Json
from rag_server.types import ApiKey, Scope

SCOPES: tuple[Scope, ...] = get_args(Scope)
UNITS_S = {"d": 86_400, "h": 3_600, "m": 60}
MAX_UNITS = 100_000
# What is counted for each key; the other limits are the server's.
KEY_LIMITS = tuple(name for name in LimitsSettings.model_fields if "_per_" in name)


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What a key may do, as the command line says it; what is empty or None is not limited."""

    tenant: str = ""
    principals: Sequence[str] = ()
    scopes: Sequence[str] = ()
    expires: str | None = None
    limits: Sequence[str] = ()


def create_key(settings: Settings, *, name: str, options: KeyOptions, as_json: bool) -> None:
    """Make a key and print its secret, which is shown only now."""
    scopes, limits = parse_scopes(options.scopes), parse_limits(options.limits)
    expires_at = None if options.expires is None else int(time.time()) + parse_duration(options.expires)
    store = factory.open_store(settings)
    key, secret = store.keys.create(
        name,
        tenant=options.tenant,
        principals=options.principals or None,
        scopes=scopes or None,
        expires_at=expires_at,
        limits=limits,
    )
    store.database.close()
    if as_json:
        print(json.dumps({**_key_object(key), "secret": secret}, indent=2))
        return
    print(secret)
    print("Keep it: it is not shown again. Every request needs a key from now on.", file=sys.stderr)


def parse_scopes(options: Sequence[str]) -> list[Scope]:
    """Return the scopes of that name.

    Raises:
        InvalidRequestError: There is none of one of the names.
    """
    unknown = set(options) - set(SCOPES)
    if unknown:
        raise InvalidRequestError(f"--scope {min(unknown)!r}: the scopes are {', '.join(SCOPES)}")
    return [scope for scope in SCOPES if scope in options]


def parse_duration(option: str) -> int:
    """Return the seconds of a duration such as 30d, 12h or 15m.

    Raises:
        InvalidRequestError: It is none.
    """
    unit, number = UNITS_S.get(option[-1:]), option[:-1]
    if unit is None or not number.isdecimal() or not 0 < int(number) <= MAX_UNITS:
        raise InvalidRequestError(f"--expires {option!r}: write it as 30d, 12h or 15m")
    return int(number) * unit


def parse_limits(options: Sequence[str]) -> dict[str, int]:
    """Return the limits of options such as requests_per_minute=60, by their names in LimitsSettings.

    Raises:
        InvalidRequestError: There is no such limit of a key, or the value is none for it.
    """
    limits: dict[str, int] = {}
    for option in options:
        name, _, value = option.partition("=")
        if name not in KEY_LIMITS:
            raise InvalidRequestError(f"--limit {option!r}: write it as NAME=NUMBER; the names are {', '.join(KEY_LIMITS)}")
        try:
            limits[name] = getattr(LimitsSettings.model_validate({name: value}), name)
        except ValidationError as error:
            raise InvalidRequestError(f"--limit {option!r}: {error.errors()[0]['msg']}") from None
    return limits


def list_keys(settings: Settings, *, as_json: bool) -> None:
    """Print the keys without their secrets."""
    store = factory.open_store(settings)
    keys = store.keys.list()
    store.database.close()
    if as_json:
        print(json.dumps([_key_object(key) for key in keys], indent=2))
        return
    for key in keys:
        files = "every file" if key.access.principals is None else ", ".join(sorted(key.access.principals))
        scopes = "all scopes" if key.scopes is None else ", ".join(sorted(key.scopes))
        limits = "".join(f"  {name}={value}" for name, value in sorted(key.limits.items()))
        print(
            f"{key.id}  {key.name}  tenant {key.access.tenant or '(default)'}  {files}  {scopes}{limits}  "
            f"{_day(key.created_at)}  {_state(key)}"
        )
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
        "expires_at": key.expires_at,
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "limits": dict(key.limits),
    }


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is None:
        return "valid"
    return f"{'expired' if key.expires_at <= time.time() else 'valid until'} {_day(key.expires_at)}"


def _day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, tz=UTC).date().isoformat()
