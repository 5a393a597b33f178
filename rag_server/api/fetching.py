"""A file that a request names by its URL: fetched from public addresses only, and charged like one that is sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from indexers.loaders.fetch import Fetched, fetch
from rag_server.api.queues import WorkQueue
from rag_server.api.rate_limits import NO_KEY, UPLOADS, limits_of
from rag_server.api.schemas_stores import MAX_FILE_BYTES
from rag_server.services import Services
from rag_server.types import Caller

TIMEOUT_S = 60.0
MAX_FETCHES = 4
# Each also holds one of the places for uploads; slow servers do not take those of files that are sent.
_FETCHES = WorkQueue("fetch", max_running=MAX_FETCHES, max_waiting=0, max_wait_s=0.0)


@asynccontextmanager
async def fetched_file(url: str, services: Services, caller: Caller) -> AsyncIterator[Fetched]:
    """Give the document at a URL for as long as the context lasts.

    Raises:
        FetchError: It cannot be fetched, or may not be.
        OverloadedError: As many as may be are being fetched.
    """
    async with _FETCHES.place():
        fetched = await fetch(url, max_bytes=MAX_FILE_BYTES, timeout_s=TIMEOUT_S)
    with fetched.file:
        # What the request itself sent was counted before; its answer is longer than that.
        limits = [limit for limit in limits_of(caller, services.settings.limits) if limit.name == UPLOADS]
        services.rate_limiter.charge(caller.key_id or NO_KEY, [(limit, fetched.num_bytes) for limit in limits])
        yield fetched
