"""An engine whose prefix cache does not help one measurement with what another one computed."""

import uuid
from collections.abc import AsyncGenerator, Sequence

from rag_server.protocols import Engine, Json


class UncachedEngine:
    """Salts the cache of a vLLM anew at each `forget`; other engines are left alone, since they may refuse the field."""

    def __init__(self, engine: Engine, *, salts: bool) -> None:
        self._engine = engine
        self._salts = salts
        self._salt = uuid.uuid4().hex

    @classmethod
    async def of(cls, engine: Engine) -> "UncachedEngine":
        """Wrap an engine that answers."""
        return cls(engine, salts=all(model.get("owned_by") == "vllm" for model in await engine.models()))

    def forget(self) -> None:
        """Begin a new measurement."""
        self._salt = uuid.uuid4().hex

    async def chat(self, body: Json) -> Json:
        """Return the completion of a chat request."""
        return await self._engine.chat({**body, "cache_salt": self._salt} if self._salts else body)

    def stream_chat(self, body: Json) -> AsyncGenerator[Json, None]:
        """Yield the chunks of a streamed chat request."""
        return self._engine.stream_chat({**body, "cache_salt": self._salt} if self._salts else body)

    async def models(self) -> list[Json]:
        """Return the engine's own model objects."""
        return await self._engine.models()

    async def default_model(self) -> str:
        """Return the id of the model that answers when none is named."""
        return await self._engine.default_model()

    async def count_tokens(self, model: str, messages: Sequence[Json]) -> int:
        """Return the prompt's length in tokens."""
        return await self._engine.count_tokens(model, messages)

    async def tokenize(self, model: str, text: str) -> list[tuple[int, str]]:
        """Return id and string of every token."""
        return await self._engine.tokenize(model, text)

    async def context_length(self, model: str) -> int:
        """Return how many tokens of prompt and answer together fit."""
        return await self._engine.context_length(model)
