"""What a ranker reads of a passage: its title and its first words, on one line."""

from collections.abc import Sequence
from dataclasses import dataclass

from rag_server.types import Passage
from rag_server.untrusted_text import without_special_tokens


@dataclass(frozen=True, slots=True)
class RankingTexts:
    """One text per passage; `words_cut` of their `words` are left out."""

    texts: tuple[str, ...]
    words: int
    words_cut: int


def ranking_texts(passages: Sequence[Passage], max_words: int) -> RankingTexts:
    """Return the first `max_words` words of each passage, its title before them, without special tokens."""
    words = [f"{passage.title} {passage.text}".split() for passage in passages]
    total = sum(map(len, words))
    kept = [of_passage[:max_words] for of_passage in words]
    texts = tuple(without_special_tokens(" ".join(of_passage)) for of_passage in kept)
    return RankingTexts(texts, total, total - sum(map(len, kept)))


def first_words(text: str, max_words: int) -> str:
    """Return the first words of a text that `ranking_texts` made."""
    return " ".join(text.split(" ")[:max_words])
