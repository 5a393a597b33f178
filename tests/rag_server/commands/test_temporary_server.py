"""The server that a command starts for the moment."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from rag_server.commands import serving
from rag_server.config import load_settings
from rag_server.errors import RagServerError


# uvicorn ends its thread with SystemExit.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_does_not_start_is_no_endless_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server ends at its start, whoever wanted to ask it is told."""

    def fail(*_: object) -> AbstractAsyncContextManager[None]:
        raise OSError("no room")

    monkeypatch.setattr(serving, "running_batches", fail)
    settings = load_settings({}, data_dir=tmp_path)

    async def ask() -> None:
        async with asyncio.timeout(30), serving.temporary_server(settings, with_engine=False):
            pytest.fail("it started")

    with pytest.raises(RagServerError, match="did not start"):
        asyncio.run(ask())
