"""What doctor says of several engines: it names the address of each."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from rag_server.commands.diagnosis import _engine
from rag_server.config import load_settings
from rag_server.errors import EngineUnavailableError

StartEngine = Callable[..., AbstractContextManager[str]]


async def test_engines_are_named_by_their_addresses(scripted_engine: StartEngine) -> None:
    """All of them and what they serve; where one is away, that one and why, without its password."""
    with scripted_engine() as one, scripted_engine() as two:
        told = await _engine(load_settings({"RAG_ENGINE__BASE_URL": f"{one},{two}"}))
        with pytest.raises(EngineUnavailableError) as caught:
            await _engine(load_settings({"RAG_ENGINE__BASE_URL": f"{one},http://user:secret@127.0.0.1:9/v1"}))

    assert told == f"{one}, {two} serve scripted"
    assert str(caught.value).startswith("http://127.0.0.1:9/v1: the engine cannot be reached")
