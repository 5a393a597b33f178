"""`rag-server serve`: everything in one process, with the engine and the cache as its children."""

import asyncio
import contextlib
import ctypes
import gc
import resource
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog
import uvicorn

from rag_server.api.app import Background, create_app
from rag_server.commands.draining import DrainingServer
from rag_server.config import Settings
from rag_server.errors import ConfigError, RagServerError
from rag_server.jobs.batches.starting import running_batches
from rag_server.jobs.worker import NoProgress
from rag_server.loopback import is_loopback
from rag_server.services import Address, Services, write_address

log = structlog.get_logger()

# glibc's number for the option, in malloc.h.
M_ARENA_MAX = -8
MAX_ARENAS = 2
START_POLL_S = 0.05
OPEN_TO_THIS_MACHINE = (
    "There is no API key: it listens on this machine only, and every user of the machine may ask. `rag-server keys create` "
    "makes one."
)
OPEN_TO_ALL = "RAG_AUTH__REQUIRED is false: whoever reaches it may read, change and delete everything."


def run_server(settings: Settings, *, index: Sequence[Path], collection: str) -> None:
    """Serve until the process is asked to end.

    Raises:
        ConfigError: The address is in use or not this machine's, or other machines reach it and there is no key.
    """
    _share_memory_between_threads()
    _open_many_files()
    with contextlib.closing(_listen(settings)) as listener:
        services = Services(settings)
        is_open = _is_open(services)
        url = _url(listener)
        write_address(settings.data_dir, Address(url, services.local_secret))
        server = _server(services, background=_beginning(_indexing(index, collection) if index else None))
        print(
            f"rag-server is at {url} (data in {settings.data_dir}); it answers questions once {url}/ready says so",
            file=sys.stderr,
        )
        if is_open:
            print(OPEN_TO_ALL if settings.auth.required is False else OPEN_TO_THIS_MACHINE, file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def _is_open(services: Services) -> bool:
    """Return whether the server lets in whoever has no key.

    Raises:
        ConfigError: Other machines reach it, and nobody said that they may.
    """
    settings = services.settings
    if settings.auth.required is not None:
        return not settings.auth.required
    if services.store.keys.any_unrevoked():
        return False
    if not is_loopback(settings.host):
        services.store.database.close()
        raise ConfigError(
            f"RAG_HOST: other machines reach {settings.host}, and there is no API key: make one with `rag-server keys create "
            "NAME`, or set RAG_AUTH__REQUIRED=false if everyone who reaches it may read, change and delete everything"
        )
    return True


@contextlib.asynccontextmanager
async def temporary_server(settings: Settings, *, with_engine: bool) -> AsyncIterator[Address]:
    """Serve on a free loopback port for as long as the context lasts; give the address once it answers.

    Raises:
        RagServerError: The server ended instead; its log says why.
    """
    local = settings.model_copy(update={"host": "127.0.0.1", "port": 0})
    with contextlib.closing(_listen(local)) as listener:
        services = Services(local)
        server = _server(services, with_engine=with_engine)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RagServerError("the server for the moment did not start; its log above says why")
                await asyncio.sleep(START_POLL_S)
            yield Address(_url(listener), services.local_secret)
        finally:
            server.should_exit = True
            await asyncio.to_thread(thread.join)


def _server(services: Services, *, with_engine: bool = True, background: Background | None = None) -> uvicorn.Server:
    app = create_app(services, with_engine=with_engine, background=background, asking=running_batches)
    config = uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, server_header=False)
    return DrainingServer(config, services, lambda: app.state.background_runs.num_running)


def _beginning(indexing: Background | None) -> Background:
    """Return what is done once the server answers."""

    async def background(services: Services) -> None:
        works = [_settle] if indexing is None else [_settle, indexing]
        await asyncio.gather(*(work(services) for work in works))

    return background


async def _settle(services: Services) -> None:
    """Once the models are loaded, keep the garbage collector from looking through them and all libraries again and again.

    Such a look takes a third of a second, in which nobody is answered.
    """
    with contextlib.suppress(RagServerError):
        await services.pipeline()
    gc.collect()
    gc.freeze()


def _indexing(paths: Sequence[Path], collection: str) -> Background:
    """Return the work of indexing the paths once the embedding model is loaded."""

    async def background(services: Services) -> None:
        services.pending["index"] = "indexing a first collection"
        try:
            await _index(services, paths, collection)
        except RagServerError as error:
            log.error("indexing failed", collection=collection, reason=str(error))
        finally:
            del services.pending["index"]

    return background


async def _index(services: Services, paths: Sequence[Path], collection: str) -> None:
    from indexers.loaders.dispatch import find_files
    from rag_server.commands.indexing import ingest_files

    embedder = await services.embedder()
    report = await asyncio.to_thread(
        ingest_files,
        services.settings,
        services.store,
        embedder,
        find_files(paths),
        collection=collection,
        progress=NoProgress(),
    )
    for reasons in report.failed.values():
        log.warning("not indexed", reasons=reasons)
    log.info("indexed", collection=collection, files=len(report.indexed), unchanged=len(report.unchanged))


def _open_many_files() -> None:
    """Take as many file descriptors as this process may have: a stream needs two, and many systems give 1,024 at first."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _share_memory_between_threads() -> None:
    """Have glibc keep few arenas: each keeps what the BM25 writers of its threads free, 20 MB more with every 100 uploads."""
    # Other C libraries have no such function, and no such arenas.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, MAX_ARENAS)


def _listen(settings: Settings) -> socket.socket:
    """Return a bound socket, so that a port in use is an error before anything is started."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; end what uses the port, "
            "or choose another with --port or RAG_PORT"
        ) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"
