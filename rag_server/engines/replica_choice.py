"""Which replica of an engine gets a request: that of its prompt's beginning, unless others have much less to do."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rag_server.protocols import Json

# A replica is passed over while its queue is longer than the shortest one by more than this share of it and so many requests.
SLACK_SHARE = 0.5
SLACK = 4
# Of the first message, or of a text: what makes two prompts worth one cache is in their beginning.
PREFIX_CHARACTERS = 1024
INSTRUCTING_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Standing:
    """How many requests run or wait at a replica."""

    address: str
    queue: int


def chosen(standings: Sequence[Standing], prefix: bytes | None) -> str:
    """Return the address that gets a request, of at least one.

    Requests of the same prefix get the same address, the one with the highest weight (rendezvous hashing): when a replica
    comes or goes, only its own prefixes move. Without a prefix it is the one with the shortest queue.
    """
    shortest = min(standing.queue for standing in standings)
    if prefix is None:
        return next(standing.address for standing in standings if standing.queue == shortest)
    longest = shortest + SLACK_SHARE * shortest + SLACK
    return max((standing.address for standing in standings if standing.queue <= longest), key=lambda it: _weight(it, prefix))


def prompt_prefix(body: Json | None) -> bytes | None:
    """Return what requests have in common whose prompts begin alike, None where a request has no prompt.

    It ends in the first message that is no instruction: all turns of a conversation share it, and two conversations under
    the same instructions do not, which would all be sent to one replica.
    """
    if body is None:
        return None
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(messages, list) and messages:
        first = next((place for place, message in enumerate(messages) if not _instructs(message)), len(messages) - 1)
        shared = [*messages[:first], _beginning(messages[first])]
    elif isinstance(prompt, str):
        shared = [_beginning(prompt)]
    else:
        return None
    return json.dumps([body.get("model"), shared]).encode()


def _instructs(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") in INSTRUCTING_ROLES


def _beginning(said: object) -> str:
    """Return the beginning of a text, or of a message's content."""
    content = said.get("content") if isinstance(said, dict) else said
    return (content if isinstance(content, str) else json.dumps(content))[:PREFIX_CHARACTERS]


def _weight(address: str, prefix: bytes) -> bytes:
    return hashlib.sha256(address.encode() + b"\n" + prefix).digest()
