"""Asks before anything is removed."""

import sys
from collections.abc import Sequence

from rag_server.errors import InvalidRequestError

MAX_SHOWN = 10


def check_can_ask(question: str, *, assume_yes: bool) -> None:
    """Raise InvalidRequestError if there is nobody to ask; called before any work whose end is a question."""
    if not assume_yes and not sys.stdin.isatty():
        raise InvalidRequestError(f"{question} Nobody is there to ask: add --yes")


def confirmed(question: str, items: Sequence[str] = (), *, assume_yes: bool) -> bool:
    """Return whether the person at the terminal agrees; `assume_yes` answers for them.

    Raises:
        InvalidRequestError: There is nobody to ask.
    """
    if assume_yes:
        return True
    check_can_ask(question, assume_yes=assume_yes)
    for item in items[:MAX_SHOWN]:
        print(f"  {item}", file=sys.stderr)
    if len(items) > MAX_SHOWN:
        print(f"  and {len(items) - MAX_SHOWN} more", file=sys.stderr)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
