"""Keeps an indexing process running for as long as uploads wait, so that neither memory nor computing is the server's."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import structlog

from rag_server.child_process import ChildProcess, last_lines
from rag_server.config import PREFIX, Settings, settings_environment
from rag_server.errors import StoreError
from rag_server.store.files import Files

log = structlog.get_logger()

POLL_S = 0.5
# After a child that died at once; a broken installation would otherwise be started twice a second.
DELAY_AFTER_FAILURE_S = 5.0


class WorkerProcess:
    """Starts `rag-server worker` when there is something to do; it ends by itself when there is nothing more."""

    def __init__(self, settings: Settings, files: Files) -> None:
        self._settings = settings
        self._files = files
        self._child: ChildProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self.detail = "idle"

    def start(self) -> None:
        """Begin to watch the queue, in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the child; what it was indexing is taken up again by the next one."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._child is not None:
            await asyncio.to_thread(self._child.stop)

    async def _run(self) -> None:
        while True:
            try:
                waiting = await asyncio.to_thread(self._files.num_waiting)
                if waiting and self._child is None:
                    self._child = ChildProcess(_command(), log_path=self._log_path, env=self._environment())
                    self.detail = "indexing"
            except (StoreError, OSError) as error:
                log.error("uploads cannot be indexed", reason=str(error))
                await asyncio.sleep(DELAY_AFTER_FAILURE_S)
            await asyncio.sleep(POLL_S)
            await self._look_after()

    async def _look_after(self) -> None:
        status = None if self._child is None else self._child.exit_status()
        if status is None:
            return
        self._child = None
        self.detail = "idle"
        if status != 0:
            log.error("the indexing process died", status=status, log=str(self._log_path), end=last_lines(self._log_path))
            self.detail = f"the indexing process died; its log is {self._log_path}"
            await asyncio.sleep(DELAY_AFTER_FAILURE_S)

    @property
    def _log_path(self) -> Path:
        return self._settings.data_dir / "logs" / "worker.log"

    def _environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return {**others, **settings_environment(self._settings)}


def _command() -> list[str]:
    return [sys.executable, "-m", "rag_server.cli", "worker"]
