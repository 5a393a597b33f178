"""Gives an evaluation the configured engine, ready to answer: an endpoint, or a vLLM that lives as long as it is used."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from rag_server import factory
from rag_server.config import Settings
from rag_server.errors import EngineUnavailableError
from rag_server.protocols import Engine

# Converting the packaged weights, once, and two attempts to start.
START_TIMEOUT_S = 1200.0


@contextlib.asynccontextmanager
async def engine_of(
    settings: Settings, *, needed: bool = True, adapters: Mapping[str, Path] | None = None
) -> AsyncIterator[Engine]:
    """Give a client of the engine once it answers; a vLLM that was started for it ends with the context.

    With `needed` false nothing is started or waited for; the client is for what takes one and does not ask it. A vLLM that is
    started serves these adapters too.

    Raises:
        EngineUnavailableError: The endpoint does not answer, or vLLM does not come up; the message says why.
        MissingExtraError: vLLM has to be started and is not installed.
    """
    child = factory.build_engine_child(settings, adapters) if needed else None
    engine = factory.build_engine(settings, child)
    try:
        if child is not None:
            child.check_installed()
            print("starting vLLM (RAG_ENGINE__BASE_URL names an engine that is running)", file=sys.stderr)
            child.start()
            try:
                await asyncio.wait_for(child.wait_ready(), START_TIMEOUT_S)
            except TimeoutError:
                raise EngineUnavailableError(f"the engine does not come up: {child.detail}") from None
        if needed:
            await engine.models()
        yield engine
    finally:
        await engine.aclose()
        if child is not None:
            await child.stop()


async def answering_model(engine: Engine, settings: Settings) -> str:
    """Return which of the engine's models answers from collections."""
    return factory.answerer_of(settings) or await engine.default_model()
