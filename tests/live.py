"""A whole server for many tests: its services at hand, uploads indexed in this process, what the engine was sent recorded."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_server import factory
from rag_server.api.app import create_app
from rag_server.commands.indexing import building_ingest
from rag_server.config import Settings, load_settings
from rag_server.engines.scripted import Script
from rag_server.engines.scripted import create_app as create_scripted_app
from rag_server.jobs.batches.starting import running_batches
from rag_server.jobs.worker import index_uploads
from rag_server.protocols import Embedder
from rag_server.services import Services
from tests.conftest import served


class NoWorker:
    """In the place of the worker process: what waits is indexed when a test says so."""

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class Recorded:
    """An application that keeps what it is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.sent: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def recorded() -> Message:
            message = await receive()
            self.sent.append(message.get("body", b""))
            return message

        await self._app(scope, recorded, send)


@dataclass
class Live:
    """A running server. `client` sends no key."""

    settings: Settings
    services: Services
    client: httpx.Client
    engine: Recorded
    index_waiting: Callable[[], None]
    stack: contextlib.ExitStack

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def as_key(self, secret: str) -> httpx.Client:
        """A client that sends this key; it is closed with the server."""
        headers = {"authorization": f"Bearer {secret}"}
        return self.stack.enter_context(
            httpx.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False, verify=False)
        )

    def make_key(self, tenant: str = "", principals: Sequence[str] | None = None) -> str:
        return self.services.store.keys.create("test", tenant=tenant, principals=principals)[1]

    def upload(self, filename: str, content: str | bytes, client: httpx.Client | None = None) -> str:
        """Send a file; return its id."""
        files = {"file": (filename, content.encode() if isinstance(content, str) else content)}
        response = (client or self.client).post("/v1/files", files=files, data={"purpose": "assistants"})
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def attach(self, vector_store: str, file_id: str, client: httpx.Client | None = None, **fields: Any) -> dict[str, Any]:
        """Put an upload into a vector store; return the file."""
        body = {"file_id": file_id, **fields}
        response = (client or self.client).post(f"/v1/vector_stores/{vector_store}/files", json=body)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def create(self, name: str, client: httpx.Client | None = None, **fields: Any) -> str:
        """Make a vector store; return its id."""
        response = (client or self.client).post("/v1/vector_stores", json={"name": name, **fields})
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def file(self, vector_store: str, file_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/vector_stores/{vector_store}/files/{file_id}").json()
        return found

    def search(self, vector_store: str, query: str, client: httpx.Client | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Return the results, by default of words alone: those are there or not, whatever the model makes of them."""
        body = {"query": query, "rag": {"retrieve": "lexical"}, **fields}
        response = (client or self.client).post(f"/v1/vector_stores/{vector_store}/search", json=body)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["data"]
        return found

    def found(self, vector_store: str, query: str, client: httpx.Client | None = None, **fields: Any) -> list[str]:
        """Return the names of the files that a search finds, sorted."""
        return sorted(result["filename"] for result in self.search(vector_store, query, client, **fields))


@contextlib.contextmanager
def live_server(data_dir: Path, embedder: Embedder, *, with_worker: bool = False, **overrides: Any) -> Iterator[Live]:
    """Serve on a data directory; unless `with_worker`, uploads wait for `index_waiting()`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "load_embedder", lambda _: embedder)
        engine = Recorded(create_scripted_app(Script()))
        with served(engine) as engine_url:
            settings = load_settings({}, data_dir=data_dir, engine={"base_url": f"{engine_url}/v1"}, **overrides)
            services = Services(settings)
            if not with_worker:
                services.worker = NoWorker()
            with (
                served(create_app(services, asking=running_batches)) as url,
                building_ingest(settings, services.store) as ingest,
                contextlib.ExitStack() as stack,
            ):
                client = stack.enter_context(httpx.Client(base_url=url, timeout=30.0, trust_env=False))

                def index_waiting() -> None:
                    while (file := services.store.files.lease()) is not None:
                        index_uploads(services.store, file, lambda _: embedder, ingest)

                yield Live(settings, services, client, engine, index_waiting, stack)
