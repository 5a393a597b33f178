"""The two forms of a listwise prompt and its answer: the paper's `[3] > [1]`, and the compact one of a token per passage."""

import re
from collections.abc import Sequence
from typing import Protocol

from rag_server.protocols import Json
from rerankers.permutation import Mentions, parse_numbers

_SYSTEM = "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query."
_BRACKETED = re.compile(r"\[(\d+)\]")
_LABEL = re.compile(r"\bPassage (\S+?):")


class ListwiseFormat(Protocol):
    """What a model is asked and how its answer is read. Candidates count from 0."""

    @property
    def max_passages(self) -> int | None:
        """How many passages can be told apart, None for any number."""

    @property
    def separator(self) -> str | None:
        """What stands between two identifiers, None for nothing but a space."""

    def messages(self, query: str, texts: Sequence[str]) -> list[Json]:
        """Return the conversation that asks for a ranking of the texts."""

    def separated(self, index: int) -> str:
        """Return what the model writes for a candidate that comes after another one."""

    def pattern(self, num_passages: int, num_ranked: int) -> str:
        """Return a regular expression of an answer that names `num_ranked` candidates; it cannot forbid repetition."""

    def mentions(self, output: str) -> Mentions:
        """Return the candidates that the model's answer names."""


class PaperFormat:
    """`[3] > [1] > [2]`, for checkpoints trained that way: RankMistral100, RankZephyr, RankVicuna.

    The words are those of RankGPT (arXiv 2304.09542) as Liu et al., "Sliding Windows Are Not the End" (arXiv 2412.14574), use
    them; a trained model expects them to the letter.
    """

    max_passages = None
    separator = ">"

    def messages(self, query: str, texts: Sequence[str]) -> list[Json]:
        """Return the system's and the user's message; what looks like an identifier in them is put in round brackets."""
        query, num = _without_brackets(query), len(texts)
        passages = "\n".join(f"[{number}] {_without_brackets(text)}" for number, text in enumerate(texts, start=1))
        content = (
            f"I will provide you with {num} passages, each indicated by a numerical identifier []. "
            f"Rank the passages based on their relevance to the search query: {query}.\n\n{passages}\n\n"
            f"Search Query: {query}.\n"
            f"Rank the {num} passages above based on their relevance to the search query. All the passages should be included "
            "and listed using identifiers, in descending order of relevance. The output format should be [] > [], e.g., "
            "[4] > [2], Only respond with the ranking results, do not say any word or explain."
        )
        return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": content}]

    def separated(self, index: int) -> str:
        """Return ` > [number]`."""
        return f" > [{index + 1}]"

    def pattern(self, num_passages: int, num_ranked: int) -> str:
        """Return the pattern of so many bracketed numbers."""
        number = rf"\[({'|'.join(str(number) for number in range(1, num_passages + 1))})\]"
        return number if num_ranked == 1 else rf"{number}( > {number}){{{num_ranked - 1}}}"

    def mentions(self, output: str) -> Mentions:
        """Return the candidates of the numbers in the output."""
        return parse_numbers(output)


class CompactFormat:
    """`C A B`: each identifier one token of the model, its space included, and nothing between them.

    100 passages cost 100 output tokens, where the paper's format takes 492. A model has to be trained for it.
    """

    separator = None

    def __init__(self, identifiers: Sequence[str]) -> None:
        """Take the identifiers in the order of the candidates; each is a word that the model writes as one token."""
        self._identifiers = tuple(identifiers)
        self._index = {identifier: index for index, identifier in enumerate(identifiers)}

    @property
    def max_passages(self) -> int:
        """As many as there are identifiers."""
        return len(self._identifiers)

    def messages(self, query: str, texts: Sequence[str]) -> list[Json]:
        """Return one message; what looks like the label of a passage in it loses its colon."""
        named = zip(self._identifiers, texts, strict=False)
        passages = "\n".join(f"Passage {identifier}: {_without_labels(text)}" for identifier, text in named)
        task = "Rank the passages by relevance to the query, best first. Write their labels only."
        return [{"role": "user", "content": f"{task}\n\n{passages}\n\nQuery: {_without_labels(query)}"}]

    def separated(self, index: int) -> str:
        """Return the identifier after a space, which belongs to its token."""
        return f" {self._identifiers[index]}"

    def pattern(self, num_passages: int, num_ranked: int) -> str:
        """Return the pattern of so many identifiers."""
        return rf"( ({'|'.join(self._identifiers[:num_passages])})){{{num_ranked}}}"

    def mentions(self, output: str) -> Mentions:
        """Return the candidates whose identifiers stand in the output as words of their own."""
        words = output.split()
        indices = tuple(self._index[word] for word in words if word in self._index)
        return Mentions(indices, well_formed=bool(words) and len(indices) == len(words))


def _without_brackets(text: str) -> str:
    return _BRACKETED.sub(r"(\1)", text)


def _without_labels(text: str) -> str:
    return _LABEL.sub(r"Passage \1", text)
