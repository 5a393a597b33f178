"""Ids of stored objects: nobody guesses them, and they sort in the order in which they were made."""

import secrets
import time


def new_id(prefix: str) -> str:
    """Return an id that no other object has: the microsecond, so that equal seconds keep their order, and 64 random bits."""
    return f"{prefix}{int(time.time() * 1e6):014x}{secrets.token_hex(8)}"
