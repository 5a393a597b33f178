"""Places ranked passages in the prompt; answers "where", never "which is better"."""

from collections.abc import Sequence
from typing import Literal, TypeVar

Item = TypeVar("Item")


def reorder(ranked: Sequence[Item], kind: Literal["none", "sides"]) -> list[Item]:
    """Return every item once: `none` keeps best first, `sides` puts the best first and the second best last.

    `sides` is the retrieval reordering of Jin et al., "Long-Context LLMs Meet RAG" (arXiv 2410.05983), section 4.1: models
    attend best to the beginning and the end of a long prompt. It is defined alike for even and odd lengths.
    """
    return [*ranked[0::2], *ranked[1::2][::-1]] if kind == "sides" else list(ranked)
