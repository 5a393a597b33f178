"""The parts of a running server and their life: opened at once where that is quick, in the background where it is not."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import structlog

from rag_server import factory
from rag_server.config import Settings
from rag_server.errors import RagServerError
from rag_server.pipeline import RagOptions, RagPipeline
from rag_server.protocols import Embedder

log = structlog.get_logger()

# How a command finds the server that is running on its data directory.
ADDRESS_FILE = "server.json"


class Services:
    """Everything that the API needs. `pipeline()` waits for the embedding model; the store is there from the start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = factory.open_store(settings)
        self.indexes = factory.open_indexes(settings, self.store)
        self.engine_child = factory.build_engine_child(settings)
        self.engine = factory.build_engine(settings, self.engine_child)
        self.cache, self.cache_child = factory.build_cache(settings)
        self.default_options: RagOptions = factory.default_options(settings)
        # What is still going on before the server is as good as it gets, by name, for /ready.
        self.pending: dict[str, str] = {}
        self._embedder: asyncio.Future[Embedder] | None = None
        self._pipeline: RagPipeline | None = None

    @contextlib.asynccontextmanager
    async def running(
        self, *, with_engine: bool = True, background: "Callable[[Services], Awaitable[None]] | None" = None
    ) -> AsyncIterator[None]:
        """Start what runs in the background, and end it at the end."""
        if self.cache_child is not None:
            self.cache_child.start()
        if self.engine_child is not None and with_engine:
            self.engine_child.start()
        self._embedder = asyncio.ensure_future(asyncio.to_thread(factory.load_embedder, self.settings))
        self._embedder.add_done_callback(_log_failure)
        task = asyncio.ensure_future(background(self)) if background is not None else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            await self._stop()

    async def embedder(self) -> Embedder:
        """Return the embedding model once it is loaded.

        Raises:
            ConfigError: It cannot be loaded.
        """
        if self._embedder is None:
            raise RuntimeError("Services.running() is not entered")
        return await asyncio.shield(self._embedder)

    async def pipeline(self) -> RagPipeline:
        """Return the query flow once its parts are loaded."""
        embedder = await self.embedder()
        if self._pipeline is None:
            self._pipeline = factory.build_pipeline(
                self.settings,
                store=self.store,
                embedder=embedder,
                indexes=self.indexes,
                engine=self.engine,
                cache=self.cache,
            )
        return self._pipeline

    async def missing(self) -> dict[str, str]:
        """Return what is not ready, each with a sentence that says why; empty means that questions are answered."""
        missing = dict(self.pending)
        if self._embedder is None or not self._embedder.done():
            missing["embedder"] = "loading the embedding model"
        elif (error := self._embedder.exception()) is not None:
            missing["embedder"] = str(error)
        if self.engine_child is not None:
            if not self.engine_child.ready:
                missing["engine"] = self.engine_child.detail
        else:
            try:
                await self.engine.models()
            except RagServerError as error:
                missing["engine"] = str(error)
        return missing

    async def _stop(self) -> None:
        if self.engine_child is not None:
            await self.engine_child.stop()
        await self.engine.aclose()
        await self.cache.aclose()
        if self.cache_child is not None:
            await asyncio.to_thread(self.cache_child.stop)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self.indexes.save)
        self.store.database.close()


def write_address(data_dir: Path, url: str) -> None:
    """Record where the server of this data directory listens."""
    (data_dir / ADDRESS_FILE).write_text(json.dumps({"url": url, "pid": os.getpid()}))


def read_address(data_dir: Path) -> str | None:
    """Return the address that the last server of this data directory recorded; it may have ended since."""
    try:
        return str(json.loads((data_dir / ADDRESS_FILE).read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log_failure(loading: "asyncio.Future[Embedder]") -> None:
    if not loading.cancelled() and loading.exception() is not None:
        log.error("the embedding model cannot be loaded", reason=str(loading.exception()))
