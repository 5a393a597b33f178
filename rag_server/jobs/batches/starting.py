"""Puts a runner of batches together from a server's parts."""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from rag_server.jobs.batches.control import Looks
from rag_server.jobs.batches.gate import Gate
from rag_server.jobs.batches.runner import BatchRunner, Parts
from rag_server.jobs.batches.validation import Validation
from rag_server.protocols import Json
from rag_server.services import Services
from rag_server.types import Caller

# What clients call the embedding model that is configured.
DEFAULT_EMBEDDER = "default"


class Application(Protocol):
    """The server's routes, as the API gives them."""

    async def send(self, url: str, body: Json, caller: Caller) -> tuple[int, Json, str]:
        """POST a body as that caller; return status, answer, and the id of the request."""

    def check(self, body: bytes) -> None:
        """Raise InvalidRequestError for JSON that no route would take."""


def running_batches(services: Services, application: Application) -> AbstractAsyncContextManager[None]:
    """Return what works on batches for as long as its context lasts."""

    async def own_models() -> Collection[str]:
        return DEFAULT_EMBEDDER, (await services.embedder()).model_id

    limits = services.settings.limits
    validation = Validation(
        services.store, services.engine, check=application.check, own_models=own_models, max_bytes=limits.max_body_bytes
    )
    gate = Gate(services.live_traffic, limits.batch_running)
    looks = Looks(services.engine_metrics.read, lambda: services.engine.num_asked)
    parts = Parts(services.store, gate, application.send, looks, validation)
    return BatchRunner(parts).running()
