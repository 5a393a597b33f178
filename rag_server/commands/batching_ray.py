"""`rag-server batch --ray`: this process holds the batch and records, the cluster's workers answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial

from rag_server import factory
from rag_server.api.app import create_app
from rag_server.api.inside import Inside
from rag_server.batch_types import Batch
from rag_server.config import Settings, load_settings, settings_environment
from rag_server.jobs.batches.answering import Send
from rag_server.jobs.batches.on_ray import record_answers
from rag_server.services import Services
from rag_server.store.batch_leases import LEASE_S


@contextlib.asynccontextmanager
async def answering_on_ray(
    settings: Settings, store: factory.Store, batch: Batch, address: str
) -> AsyncIterator[Callable[[], Awaitable[str | None]]]:
    """Have the batch answered on the cluster for as long as the context lasts; give what raises the error that ended it.

    Raises:
        LeaseLostError: A server works on the batch.
    """
    await asyncio.to_thread(store.batches.take, batch)
    open_application = partial(opened_application, settings_environment(settings))
    renewing = asyncio.ensure_future(_renew(store, batch))
    answering = asyncio.ensure_future(asyncio.to_thread(_answer, store, batch, open_application, address))

    async def look() -> str | None:
        if answering.done():
            await answering
        return None

    try:
        yield look
        await answering
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, answering, return_exceptions=True)
        await asyncio.to_thread(store.batches.release, batch)


@contextlib.asynccontextmanager
async def opened_application(environment: Mapping[str, str]) -> AsyncIterator[Send]:
    """Give what sends to a server's routes; its data is that of all others, its engine is its own unless one is configured."""
    services = Services(load_settings(environment))
    app = create_app(services)
    async with app.router.lifespan_context(app):
        yield Inside(app, services).send


def _answer(
    store: factory.Store,
    batch: Batch,
    open_application: Callable[[], contextlib.AbstractAsyncContextManager[Send]],
    address: str,
) -> None:
    batch = store.batches.fresh(batch)
    if batch.status == "in_progress":
        record_answers(store.batches, batch, open_application, address)
        batch = store.batches.finalize(batch)
    store.batches.finish(batch, "completed" if batch.status == "finalizing" else "cancelled")


async def _renew(store: factory.Store, batch: Batch) -> None:
    while True:
        await asyncio.sleep(LEASE_S / 3)
        await asyncio.to_thread(store.batches.renew, batch)
