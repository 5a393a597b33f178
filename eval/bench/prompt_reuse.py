"""How much of each prompt an engine has computed before: as the beginning of another prompt, or passage by passage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag_server.conversation import question_place, text_of
from rag_server.learning.models import text_ids
from rag_server.prompt import FENCE
from rag_server.protocols import Json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BETWEEN = f"\n{FENCE}\n"


class PrefixCache:
    """An engine's prefix cache that never forgets: whole blocks of tokens, each known by every token up to its end."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        # From a place in the tree of prompts, and the block that follows it, to the place behind the block.
        self._known: dict[tuple[int, tuple[int, ...]], int] = {}

    def add(self, ids: Sequence[int]) -> int:
        """Return how many tokens of a prompt were known from its beginning on, and know it. One is always left to compute."""
        place, num_found, is_known = 0, 0, True
        for end in range(self._block_tokens, len(ids) + 1, self._block_tokens):
            step = (place, tuple(ids[end - self._block_tokens : end]))
            is_known = is_known and step in self._known and end < len(ids)
            num_found += self._block_tokens * is_known
            place = self._known.setdefault(step, len(self._known) + 1)
        return num_found


@dataclass(slots=True)
class Reuse:
    """Tokens of prompts in the order asked: in all, and those that an engine had computed, by what it knows them by.

    `same_prefix` stand in a known beginning; `same_text` in a passage that was, byte by byte, in an earlier prompt, whatever
    its place; of `same_tokens` the tokens are the same too. Of the separators written, so many are found among the tokens.
    """

    prompt: int = 0
    in_passages: int = 0
    same_prefix: int = 0
    same_text: int = 0
    same_tokens: int = 0
    separators_written: int = 0
    separators_found: int = 0


class ReuseCounter:
    """Follows prompts of one form, in the tokens of one model."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, separator: str, block_tokens: int) -> None:
        self.reuse = Reuse()
        self._tokenizer = tokenizer
        self._separator = separator
        self._separator_ids = text_ids(tokenizer, separator)
        self._prefixes = PrefixCache(block_tokens)
        self._texts: set[str] = set()
        self._ids: set[tuple[int, ...]] = set()

    def add(self, messages: Sequence[Json]) -> None:
        """Count a prompt."""
        text = str(self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = tuple(encoded["input_ids"]), encoded["offset_mapping"]
        blocks = passage_blocks(messages, self._separator)
        self.reuse.prompt += len(ids)
        self.reuse.same_prefix += self._prefixes.add(ids)
        end = 0
        for block in blocks:
            start = text.index(block, end)
            end = start + len(block)
            self._add_block(block, tuple(id_ for id_, (a, b) in zip(ids, offsets, strict=True) if start <= a and b <= end))
        if self._separator_ids:
            self.reuse.separators_written += 2 * len(blocks)
            self.reuse.separators_found += _occurrences(ids, self._separator_ids)

    def _add_block(self, block: str, ids: tuple[int, ...]) -> None:
        self.reuse.in_passages += len(ids)
        self.reuse.same_text += len(ids) * (block in self._texts)
        self.reuse.same_tokens += len(ids) * (ids in self._ids)
        self._texts.add(block)
        self._ids.add(ids)


def passage_blocks(messages: Sequence[Json], separator: str) -> list[str]:
    """Return each passage of a prompt as it stands there: within its separators, or with its number where there are none."""
    place = question_place(messages)
    content = "" if place is None else text_of(messages[place].get("content"))
    head, tail = f"Passages:{BETWEEN}", f"{BETWEEN[:-1]}\n\nQuestion: "
    passages = content[len(head) : content.rindex(tail)].split(BETWEEN)
    if not separator:
        return passages
    border = f"{separator} "
    return [passage[passage.index(border) + len(border) : -len(border)] for passage in passages]


def _occurrences(ids: tuple[int, ...], wanted: tuple[int, ...]) -> int:
    return sum(ids[start : start + len(wanted)] == wanted for start in range(len(ids) - len(wanted) + 1))
