"""An engine behind a tokenizer of our own, and passages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tokenizers import Tokenizer

from rag_server.types import Passage


@dataclass
class TokenizerEngine:
    """In the place of an engine: counts with a real tokenizer, answers what the test says, keeps what it was sent."""

    tokenizer: Tokenizer
    answer: Callable[[dict[str, Any]], str] = lambda _: ""
    context: int = 8192
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def default_model(self) -> str:
        return "test"

    async def context_length(self, _: str) -> int:
        return self.context

    async def tokenize(self, _: str, text: str) -> list[tuple[int, str]]:
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        return list(zip(encoded.ids, encoded.tokens, strict=True))

    async def count_tokens(self, model: str, messages: Sequence[dict[str, Any]]) -> int:
        return sum([len(await self.tokenize(model, message["content"])) for message in messages])

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self.sent.append(body)
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
        return {"choices": [{"message": {"content": self.answer(body)}}], "usage": usage}


@pytest.fixture
def passages() -> Callable[[Sequence[str]], list[Passage]]:
    """Make passages of texts, ranked in their order, ids from 0."""

    def make(texts: Sequence[str], title: str = "") -> list[Passage]:
        return [
            Passage(index, f"d{index}", "f", "a.md", title, text, 0, len(text), score=1 / (index + 1), rank=index + 1)
            for index, text in enumerate(texts)
        ]

    return make
