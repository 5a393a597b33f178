"""Places ranked passages in the prompt; answers "where", never "which is better"."""

from collections.abc import Sequence
from typing import TypeVar

from rag_server.config import ReorderKind

Item = TypeVar("Item")


def reorder(ranked: Sequence[Item], kind: ReorderKind) -> list[Item]:
    """Return every item once: `none` keeps best first, `reverse` puts the best last, `sides` best first, second last.

    `sides` is the retrieval reordering of Jin et al., "Long-Context LLMs Meet RAG" (arXiv 2410.05983), section 4.1: models
    attend best to the beginning and the end of a long prompt. It is defined alike for even and odd lengths.
    """
    if kind == "sides":
        return [*ranked[0::2], *ranked[1::2][::-1]]
    return list(ranked[::-1]) if kind == "reverse" else list(ranked)
