"""Which examples are trained on and which are kept for measuring, by a hash, and the proof that none is in both."""

import hashlib
from collections.abc import Iterable

from rag_server.errors import TrainingDataError


def is_held_out(example_id: str, share: float) -> bool:
    """Return whether an example is kept for measuring: always the same ones, about that share of all."""
    return int.from_bytes(hashlib.sha256(example_id.encode()).digest()[:8]) < share * 2**64


def content_hash(text: str) -> str:
    """Return a hash of a text that does not depend on case or white space."""
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()


def check_no_leak(trained: Iterable[str], measured: Iterable[str], *, what: str) -> None:
    """Make sure that no text is in both.

    Raises:
        TrainingDataError: One is.
    """
    hashes = {content_hash(text) for text in trained}
    shared = next((text for text in measured if content_hash(text) in hashes), None)
    if shared is not None:
        raise TrainingDataError(
            f"the {what} {shared[:80]!r} is both trained on and measured with: split by what they have in common, such as the "
            "document"
        )
