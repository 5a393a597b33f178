"""The engine that an evaluation is given."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from eval.engine import engine_of
from rag_server.config import load_settings
from rag_server.errors import EngineUnavailableError

DOWN = "http://127.0.0.1:9/v1"


async def test_configured_endpoint_is_given(scripted_engine: Callable[..., AbstractContextManager[str]]) -> None:
    """An endpoint that answers is ready to be asked."""
    with scripted_engine() as base_url:
        async with engine_of(load_settings({"RAG_ENGINE__BASE_URL": base_url})) as engine:
            assert await engine.default_model() == "scripted"


async def test_endpoint_that_is_down_is_named_at_once() -> None:
    """An evaluation ends before its first query, not with a failure per query."""
    with pytest.raises(EngineUnavailableError):
        async with engine_of(load_settings({"RAG_ENGINE__BASE_URL": DOWN})):
            pytest.fail("the engine does not answer")


@pytest.mark.parametrize("environment", [{}, {"RAG_ENGINE__BASE_URL": DOWN}])
async def test_engine_that_is_not_needed_is_not_waited_for(environment: dict[str, str]) -> None:
    """Nothing is started and nothing asked; whoever asks all the same is told that there is no engine."""
    async with engine_of(load_settings(environment), needed=False) as engine:
        with pytest.raises(EngineUnavailableError):
            await engine.models()
