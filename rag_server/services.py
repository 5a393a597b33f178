"""The parts of a running server and their life: opened at once where that is quick, in the background where it is not."""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from rag_server import factory
from rag_server.coalescing import SharedReads
from rag_server.config import RerankKind, Settings
from rag_server.engines.probe import EngineProbe, all_faults
from rag_server.errors import IndexUnavailableError, RagServerError, StoreDamagedError, StoreError
from rag_server.live_traffic import LiveTraffic
from rag_server.loopback import is_loopback
from rag_server.pipeline import RagOptions, RagPipeline
from rag_server.protocols import Embedder, Embedders, Reranker
from rag_server.store.expiry import remove_expired
from rag_server.store.verification import verify
from rag_server.task_end import end_tasks
from rag_server.types import Access, ApiKey, Caller, VectorStore
from rag_server.worker_process import WorkerProcess

log = structlog.get_logger()
R = TypeVar("R")

# How a command finds the server that is running on its data directory.
ADDRESS_FILE = "server.json"
# What is lost of the derived indexes by a kill has to be replayed at the next start.
SAVE_INDEXES_EVERY_S = 60.0
# What has expired is out of sight at once; this removes it, and writes down which vector stores were used.
TIDY_EVERY_S = 60.0
# Of many collections, most are not asked for.
MAX_OPENED_AT_START = 8


class Services:
    """Everything that the API needs. `pipeline()` waits for the embedding model; the store is there from the start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = factory.open_store(settings)
        self.indexes = factory.open_indexes(settings, self.store)
        self.engine_child = factory.build_engine_child(settings)
        self.engine = factory.build_engine(settings, self.engine_child)
        self._engine_probe = EngineProbe(self.engine)
        self.engine_metrics = factory.build_engine_metrics(settings, self.engine_child)
        self.scorer_child = factory.build_scorer_child(settings)
        self.scorer = factory.build_scorer(settings, self.scorer_child)
        self.cache, self.cache_child = factory.build_cache(settings)
        self.rate_limiter = factory.build_rate_limiter(settings, self.cache_child)
        self.tracer = factory.build_tracer(settings)
        self.worker = WorkerProcess(settings, self.store.files)
        self.live_traffic = LiveTraffic()
        self.default_options: RagOptions = factory.default_options(settings)
        # Lets the commands of this machine in, whoever else needs a key.
        self.local_secret = secrets.token_urlsafe(32)
        # Threads of their own: whoever is refused does not wait for the searches of others.
        self._key_reads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="keys")
        self._key_by_secret = SharedReads[str, ApiKey | None](partial(self._read_keys, self.store.keys.find))
        self._any_key = SharedReads[None, bool](lambda _: self._read_keys(self.store.keys.any_unrevoked))
        self._used_stores = SharedReads[tuple[str, Access], VectorStore](self._use)
        # First /ready says so; once it is shutting down nothing new is begun, and what runs is finished.
        self.leaving = self.shutting_down = False
        # What is still going on before the server is as good as it gets, by name, for /ready.
        self.pending: dict[str, str] = {}
        self._embedder: asyncio.Future[Embedder] | None = None
        self._rerankers: asyncio.Future[dict[RerankKind, Reranker]] | None = None
        self._embedders: Embedders | None = None
        self._pipeline: RagPipeline | None = None

    @contextlib.asynccontextmanager
    async def running(
        self, *, with_engine: bool = True, background: "Callable[[Services], Awaitable[None]] | None" = None
    ) -> AsyncIterator[None]:
        """Start what runs in the background, and end it at the end."""
        if self.cache_child is not None:
            self.cache_child.start()
        for child in (self.engine_child, self.scorer_child):
            if child is not None and with_engine:
                child.start()
        self._embedder = asyncio.ensure_future(asyncio.to_thread(factory.load_embedder, self.settings))
        self._embedder.add_done_callback(partial(_log_failure, "the embedding model"))
        self._rerankers = asyncio.ensure_future(self._build_rerankers(self._embedder))
        self._rerankers.add_done_callback(partial(_log_failure, "the reranker"))
        self.worker.start()
        work = (self._open_indexes(), self._verify(), self._save_indexes(), self._tidy())
        tasks = [asyncio.ensure_future(part) for part in work]
        if self.cache_child is not None:
            tasks.append(asyncio.ensure_future(self.cache_child.supervise()))
        if background is not None:
            tasks.append(asyncio.ensure_future(background(self)))
        try:
            yield
        finally:
            await end_tasks(*tasks)
            await self._stop()

    async def embedder(self) -> Embedder:
        """Return the embedding model once it is loaded.

        Raises:
            ConfigError: It cannot be loaded.
        """
        if self._embedder is None:
            raise RuntimeError("Services.running() is not entered")
        return await asyncio.shield(self._embedder)

    @property
    def loaded_embedder(self) -> Embedder | None:
        """The embedding model, None while it is not there."""
        loading = self._embedder
        if loading is None or not loading.done() or loading.cancelled() or loading.exception() is not None:
            return None
        return loading.result()

    async def embedders(self) -> Embedders:
        """Return the embedding models of all vector stores once the configured one is loaded."""
        configured = await self.embedder()
        if self._embedders is None:
            self._embedders = factory.build_embedders(self.settings, configured)
        return self._embedders

    async def bearer(self, secret: str) -> Caller | None:
        """Return who the bearer of `secret` is, None if it is no valid key."""
        if secrets.compare_digest(secret.encode(), self.local_secret.encode()):
            return Caller()
        key = await self._key_by_secret.result(secret)
        return None if key is None else Caller(key.access, key.id, key.scopes, key.limits, key.name)

    async def needs_key(self) -> bool:
        """Return whether nobody is let in without a key: as the settings say, or once there is one.

        A server that other machines reach is never opened by revoking its last key.
        """
        if self.settings.auth.required is not None:
            return self.settings.auth.required
        if not is_loopback(self.settings.host):
            return True
        return await self._any_key.result(None)

    async def vector_store(self, name_or_id: str, access: Access) -> VectorStore:
        """Return the tenant's vector store of that id or name, to search it, which puts off its expiry.

        Raises:
            NotFoundError: There is none.
            ExpiredError: It was not used for longer than it may be.
        """
        return await self._used_stores.result((name_or_id, access))

    async def _use(self, asked: tuple[str, Access]) -> VectorStore:
        return await asyncio.to_thread(self.store.vector_stores.use, *asked)

    async def _read_keys(self, read: Callable[..., R], *asked: str) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._key_reads, read, *asked)

    async def pipeline(self) -> RagPipeline:
        """Return the query flow once its parts are loaded.

        Raises:
            ConfigError: A model cannot be loaded.
        """
        embedders = await self.embedders()
        if self._rerankers is None:
            raise RuntimeError("Services.running() is not entered")
        rerankers = await asyncio.shield(self._rerankers)
        if self._pipeline is None:
            self._pipeline = factory.build_pipeline(
                self.settings,
                store=self.store,
                embedders=embedders,
                indexes=self.indexes,
                engine=self.engine,
                cache=self.cache,
                rerankers=rerankers,
            )
        return self._pipeline

    async def missing(self) -> dict[str, str]:
        """Return what is not ready, each with a sentence that says why; empty means that questions are answered."""
        missing = dict(self.pending)
        if self.store.database.damage is not None:
            missing["store"] = "the store is damaged; `rag-server doctor` says where, the server's log what to do"
        parts = {"embedder": ("the embedding model", self._embedder), "reranker": ("the reranker", self._rerankers)}
        for name, (what, loading) in parts.items():
            if loading is None or not loading.done():
                missing[name] = f"loading {what}"
            elif loading.exception() is not None:
                missing[name] = f"{what} cannot be loaded; the server's log says why, `rag-server doctor` what to do"
        if await asyncio.to_thread(self.indexes.fault) is not None:
            missing["vector_index"] = "it cannot be used; the server's log says why, `rag-server doctor` what to do"
        if self.scorer_child is not None and not self.scorer_child.ready:
            missing["reranker"] = self.scorer_child.detail
        if None not in (faults := await self.engine_faults()):
            missing["engine"] = all_faults(faults)
        return missing

    async def engine_faults(self) -> list[str | None]:
        """Return, of each replica of the engine, why it does not answer now, None where it does."""
        if self.engine_child is None:
            return await self._engine_probe.faults()
        return [None if self.engine_child.ready else self.engine_child.detail]

    async def _build_rerankers(self, embedder: "asyncio.Future[Embedder]") -> dict[RerankKind, Reranker]:
        # Two models at a time would import the same libraries in two threads, and neither would be there sooner.
        await asyncio.wait([embedder])
        return await asyncio.to_thread(factory.build_rerankers, self.settings, self.engine, self.scorer)

    async def _verify(self) -> None:
        """Read the whole store once; a damaged one is not served."""
        self.pending["store"] = "checking what is stored"
        try:
            # Nothing is searched before the embedding model is there, and the two would only slow each other down.
            await asyncio.wait([asyncio.ensure_future(self.embedder())])
            await asyncio.to_thread(verify, self.store.database)
        except StoreDamagedError as error:
            log.error("the store is damaged", reason=str(error))
            self.store.database.damage = str(error)
        except Exception as error:  # noqa: BLE001 - nobody else would hear of a check that did not take place
            log.error("the store could not be checked", reason=f"{type(error).__name__}: {error}")
        finally:
            del self.pending["store"]

    async def _open_indexes(self) -> None:
        """Open the indexes while the embedding model is loaded, so that the first search need not."""
        for store in await asyncio.to_thread(self.store.vector_stores.newest, MAX_OPENED_AT_START):
            try:
                await asyncio.to_thread(self.indexes.vectors, store)
                await asyncio.to_thread(self.indexes.lexical, store)
            except RagServerError as error:
                log.error("an index cannot be opened", collection=store.name, reason=str(error))

    async def _save_indexes(self) -> None:
        while True:
            await asyncio.sleep(SAVE_INDEXES_EVERY_S)
            try:
                await asyncio.to_thread(self.indexes.save)
            except Exception as error:  # noqa: BLE001 - it is to go on after whatever failed once
                reason = f"{type(error).__name__}: {error}"
                log.error("the indexes cannot be saved; they are replayed at the next start", reason=reason)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            try:
                await asyncio.to_thread(self.tidy)
            except Exception as error:  # noqa: BLE001 - it is to go on after whatever failed once
                log.error("what has expired cannot be removed; it is tried again", reason=f"{type(error).__name__}: {error}")

    def tidy(self) -> None:
        """Write down which vector stores were used, and remove what has expired."""
        self.store.vector_stores.note_activity()
        while remove_expired(self.store.database):
            continue

    async def _stop(self) -> None:
        await self.worker.stop()
        for child in (self.engine_child, self.scorer_child):
            if child is not None:
                await child.stop()
        await self.engine.aclose()
        await self.engine_metrics.aclose()
        if self.scorer is not None:
            await self.scorer.aclose()
        await self.cache.aclose()
        await self.rate_limiter.aclose()
        if self.cache_child is not None:
            await asyncio.to_thread(self.cache_child.stop)
        try:
            await asyncio.to_thread(self.indexes.save)
        except (StoreError, IndexUnavailableError, OSError) as error:
            log.error("the indexes cannot be saved; they are replayed at the next start", reason=str(error))
        try:
            await asyncio.to_thread(self.store.vector_stores.note_activity)
        except StoreError as error:
            log.error("which vector stores were used last is lost", reason=str(error))
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.shutdown)
        self._key_reads.shutdown()
        self.store.database.close()


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and what lets the commands of its machine in."""

    url: str
    secret: str


def write_address(data_dir: Path, address: Address) -> None:
    """Record where the server of this data directory listens, for its owner's eyes only."""
    temporary = data_dir / f"{ADDRESS_FILE}.{os.getpid()}"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps({"url": address.url, "secret": address.secret}))
    temporary.replace(data_dir / ADDRESS_FILE)


def read_address(data_dir: Path) -> Address | None:
    """Return the address that the last server of this data directory recorded; it may have ended since."""
    try:
        found = json.loads((data_dir / ADDRESS_FILE).read_text())
        return Address(str(found["url"]), str(found["secret"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log_failure(what: str, loading: "asyncio.Future[Any]") -> None:
    if not loading.cancelled() and loading.exception() is not None:
        log.error(f"{what} cannot be loaded", reason=str(loading.exception()))
