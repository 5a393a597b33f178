"""Fixtures: settings in a temporary folder, one embedding model for all tests, a scripted engine and a server over HTTP."""

import contextlib
import importlib.util
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import hypothesis
import pytest
import structlog
import uvicorn

GUARD = Path(__file__).parent / "guard"
CONNECTIONS = Path(tempfile.mkdtemp(prefix="rag-test-")) / "refused-connections"

# Before anything is imported that could read them.
for name in [name for name in os.environ if name.startswith("RAG_")]:
    del os.environ[name]
os.environ["TEST_CONNECTIONS_FILE"] = str(CONNECTIONS)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(GUARD), os.environ.get("PYTHONPATH")]))
os.environ["HF_HUB_OFFLINE"] = "1"
_spec = importlib.util.spec_from_file_location("guard", GUARD / "sitecustomize.py")
assert _spec is not None
assert _spec.loader is not None
_spec.loader.exec_module(importlib.util.module_from_spec(_spec))

# How long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")

from eval.postgresql import Cluster, programs, running_cluster
from indexers.sentence_embedder import SentenceEmbedder
from rag_server import factory
from rag_server.api.app import create_app
from rag_server.commands.indexing import ingest_files
from rag_server.commands.progress import IndexingBar
from rag_server.config import Settings, load_settings
from rag_server.engines.scripted import Script
from rag_server.engines.scripted import create_app as create_scripted_app
from rag_server.jobs.batches.starting import running_batches
from rag_server.protocols import Embedder
from rag_server.services import Services


@pytest.fixture(scope="session", autouse=True)
def no_connection_beyond_loopback() -> Iterator[None]:
    """No test, and no process that a test starts, tries to reach another machine."""
    yield
    refused = CONNECTIONS.read_text() if CONNECTIONS.exists() else ""

    assert refused == ""


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Leave the log to the next test as it was found: commands that are called set it for a whole process."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """The packaged embedding model, loaded once."""
    return SentenceEmbedder()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: Embedder) -> Settings:
    """Settings of a data directory of the test's own; the embedding model is the session's."""
    monkeypatch.setattr(factory, "load_embedder", lambda _: embedder)
    return load_settings({}, data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A PostgreSQL server of the tests' own."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with running_cluster(found) as cluster:
        yield cluster


@pytest.fixture
def postgresql_url(postgresql: Cluster) -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    with postgresql.database() as name:
        yield postgresql.url(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, once of either kind."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return f"sqlite:///{tmp_path / 'store' / 'rag.db'}"


@pytest.fixture
def open_store(database_url: str, tmp_path: Path) -> Iterator[Callable[[], factory.Store]]:
    """Open the truth store on that database; each call is as good as another process."""
    with contextlib.ExitStack() as opened:

        def call() -> factory.Store:
            store = factory.open_store(load_settings({"RAG_DATABASE__URL": database_url}, data_dir=tmp_path / "data"))
            opened.callback(store.database.close)
            return store

        yield call


@contextlib.contextmanager
def served(app: object) -> Iterator[str]:
    """Serve an application on a free loopback port in a thread; give its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def scripted_engine() -> Callable[..., AbstractContextManager[str]]:
    """Start a scripted engine: `with scripted_engine(answer=...) as base_url`; the address ends in /v1."""

    @contextlib.contextmanager
    def start(**script: object) -> Iterator[str]:
        with served(create_scripted_app(Script(**script))) as url:
            yield f"{url}/v1"

    return start


@pytest.fixture
def index(settings: Settings, embedder: Embedder) -> Callable[..., None]:
    """Index texts into a collection: `index("docs", {"a.md": "# A ..."})`."""

    def run(collection: str, texts: dict[str, str]) -> None:
        folder = settings.data_dir.parent / collection
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        store = factory.open_store(settings)
        files = sorted(folder.iterdir())
        report = ingest_files(settings, store, embedder, files, collection=collection, progress=IndexingBar())
        store.database.close()
        assert report.failed == {}

    return run


@pytest.fixture
def server(settings: Settings, scripted_engine: Callable[..., AbstractContextManager[str]]) -> Iterator[httpx.Client]:
    """A client of a server with a scripted engine behind it."""
    with scripted_engine() as base_url, running_server(settings, engine=base_url) as client:
        yield client


@contextlib.contextmanager
def running_server(settings: Settings, *, engine: str) -> Iterator[httpx.Client]:
    """Serve the whole application against the engine at that address; give a client of it."""
    with_engine = settings.model_copy(update={"engine": settings.engine.model_copy(update={"base_url": engine})})
    with (
        served(create_app(Services(with_engine), asking=running_batches)) as url,
        httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client,
    ):
        yield client
