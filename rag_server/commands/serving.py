"""`rag-server serve`: everything in one process, with the engine and the cache as its children."""

import asyncio
import contextlib
import ctypes
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog
import uvicorn

from rag_server.api.app import Background, create_app
from rag_server.config import Settings
from rag_server.errors import ConfigError, RagServerError
from rag_server.jobs.worker import NoProgress
from rag_server.services import Address, Services, write_address

log = structlog.get_logger()

# Streams that are still running when the server is asked to end get this long.
SHUTDOWN_GRACE_S = 10
# glibc's number for the option, in malloc.h.
M_ARENA_MAX = -8
MAX_ARENAS = 2
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run_server(settings: Settings, *, index: Sequence[Path], collection: str) -> None:
    """Serve until the process is asked to end.

    Raises:
        ConfigError: The address is in use or not this machine's.
    """
    _share_memory_between_threads()
    listener = _listen(settings)
    url = _url(listener)
    services = Services(settings)
    if settings.host not in LOOPBACK and not services.store.keys.any_valid() and not settings.auth.required:
        log.warning(
            "everyone who reaches this address can read every document: make a key with `rag-server keys create`",
            host=settings.host,
        )
    write_address(settings.data_dir, Address(url, services.local_secret))
    background = _indexing(index, collection) if index else None
    server = _server(services, background=background)
    print(
        f"rag-server is at {url} (data in {settings.data_dir}); it answers questions once {url}/ready says so", file=sys.stderr
    )
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


@contextlib.asynccontextmanager
async def temporary_server(settings: Settings, *, with_engine: bool) -> AsyncIterator[Address]:
    """Serve on a free loopback port for as long as the context lasts; give the address."""
    local = settings.model_copy(update={"host": "127.0.0.1", "port": 0})
    listener = _listen(local)
    services = Services(local)
    server = _server(services, with_engine=with_engine)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Address(_url(listener), services.local_secret)
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join)


def _server(services: Services, *, with_engine: bool = True, background: Background | None = None) -> uvicorn.Server:
    app = create_app(services, with_engine=with_engine, background=background)
    return uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=SHUTDOWN_GRACE_S, server_header=False
        )
    )


def _indexing(paths: Sequence[Path], collection: str) -> Background:
    """Return the work of indexing the paths once the embedding model is loaded."""

    async def background(services: Services) -> None:
        services.pending["index"] = f"indexing {', '.join(str(path) for path in paths)} into {collection!r}"
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
