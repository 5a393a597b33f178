"""What a row asks: which rows are alike, and in which order they are asked so that the engine reads less."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rag_server.batch_types import BatchRow
from rag_server.protocols import Json


@dataclass(frozen=True, slots=True)
class Asked:
    """A row to be asked. Rows with the same `key` have the same answer; None is a row that shares its answer with none.

    `beginning` is what the prompts of several rows may begin with.
    """

    number: int
    url: str
    body: Json
    key: str | None
    beginning: str


def asked(row: BatchRow) -> Asked:
    """Return what a row asks."""
    request = json.loads(row.request)
    body = request["body"]
    return Asked(row.number, request["url"], body, None if _is_sampled(body) else row.key, _beginning(body))


def in_order(rows: Iterable[Asked]) -> list[Asked]:
    """Return the rows with those of the same beginning together, else in the order in which they came."""
    groups: dict[str, list[Asked]] = {}
    for row in rows:
        groups.setdefault(row.beginning, []).append(row)
    return [row for group in groups.values() for row in group]


def _is_sampled(body: Json) -> bool:
    """Return whether each row of that body is to get an answer of its own."""
    temperature = body.get("temperature")
    return isinstance(temperature, int | float) and temperature > 0


def _beginning(body: Json) -> str:
    """Return model, instructions, tools and all but the last message."""
    said: Any = body.get("messages", body.get("input"))
    before = said[:-1] if isinstance(said, list) else []
    return json.dumps([body.get("model"), body.get("instructions"), body.get("tools"), before])
