"""What a cluster is asked for, with a stand-in for Ray, which is in no lock of the server."""

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.crash.work import HashEmbedder
from indexers.loaders import parser_process
from indexers.loaders.dispatch import load
from rag_server import factory
from rag_server.config import Settings, load_settings
from rag_server.errors import ClusterUnavailableError, MissingExtraError
from rag_server.jobs.indexing_on_ray import cluster
from rag_server.jobs.indexing_on_ray.cluster import connected, work_on
from rag_server.jobs.indexing_on_ray.parts import End, FileToRead


class RayError(Exception):
    """Of Ray."""


class Cluster:
    """Does what is used of Ray in this process, with one worker of each kind."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, **resources: float) -> None:
        self.data = self
        self.context = SimpleNamespace()
        self.DataContext = SimpleNamespace(get_current=lambda: self.context)
        self.ActorPoolStrategy = SimpleNamespace
        self.resources = resources
        self.asked: list[dict[str, Any]] = []
        self.environments: list[dict[str, str]] = []
        self.fails: Exception | None = None
        self.is_up = False

    def init(self, *, address: str, **_: object) -> None:
        if self.fails is not None:
            raise self.fails
        self.is_up = True

    def shutdown(self) -> None:
        self.is_up = False

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def from_items(self, items: list[dict[str, bytes]], *, override_num_blocks: int) -> "Cluster":
        assert override_num_blocks == len(items)
        self.rows = [{"packed": [item["packed"]]} for item in items]
        return self

    def map_batches(
        self, worker: Callable[..., Any], *, fn_constructor_args: tuple, batch_size: int, **asked: object
    ) -> "Cluster":
        assert batch_size == 1
        self.asked.append(asked)
        self.environments.append(fn_constructor_args[0])
        made = worker(*fn_constructor_args)
        told = [made(row) for row in self.rows]
        self.rows = [row for rows in told for row in ([rows] if isinstance(rows, dict) else rows)]
        return self

    def iter_batches(self, **_: object) -> Iterator[dict[str, list[bytes]]]:
        yield from self.rows
        if self.fails is not None:
            raise self.fails


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(factory, "load_embedder", lambda _: HashEmbedder("a"))
    # The real one reads in processes of its own, which end with the worker's.
    monkeypatch.setattr(parser_process, "ParserPool", lambda: SimpleNamespace(parse=load))
    return load_settings({"RAG_DATABASE__URL": "sqlite:////secret/rag.db"}, data_dir=tmp_path / "data")


def files(settings: Settings, folder: Path, number: int) -> list[FileToRead]:
    for name in range(number):
        (folder / f"{name}.txt").write_text(f"Note {name}.")
    return [FileToRead(name, folder / f"{name}.txt", settings.chunking) for name in range(number)]


def test_every_file_comes_back_once(settings: Settings, tmp_path: Path) -> None:
    """However many workers there are: a document and an end of each."""
    ray = Cluster(CPU=2)

    parts = [part for some in work_on(ray, settings, "hash-a", files(settings, tmp_path, 70)) for part in some]

    assert sorted(number for number, part in parts if isinstance(part, End)) == list(range(70))
    assert len(parts) == 140


@pytest.mark.parametrize(
    ("resources", "device", "readers", "embedders", "gpus", "devices"),
    [
        ({"CPU": 1}, None, 1, 1, None, ("cpu", None)),
        ({"CPU": 16}, None, 4, 16, None, ("cpu", None)),
        ({"CPU": 16, "GPU": 2}, None, 16, 2, 1, ("cpu", "cuda")),
        ({"CPU": 16, "GPU": 2}, "cuda:1", 16, 2, 1, ("cpu", "cuda")),
        ({"CPU": 16, "GPU": 2}, "cpu", 4, 16, None, ("cpu", "cpu")),
    ],
)
def test_workers_fit_into_the_cluster(
    settings: Settings,
    tmp_path: Path,
    resources: dict[str, float],
    device: str | None,
    readers: int,
    embedders: int,
    gpus: int | None,
    devices: tuple[str | None, str | None],
) -> None:
    """A worker that embeds has a GPU of its own where there are some, unless the settings say otherwise."""
    ray = Cluster(**resources)
    on = settings.model_copy(update={"embedder": settings.embedder.model_copy(update={"device": device})})

    list(work_on(ray, on, "hash-a", files(settings, tmp_path, 1)))

    reading, embedding = ray.asked
    assert reading["compute"] == SimpleNamespace(min_size=1, max_size=readers)
    assert embedding["compute"] == SimpleNamespace(min_size=1, max_size=embedders)
    assert (reading.get("num_gpus"), embedding["num_gpus"]) == (None, gpus)
    assert tuple(environment.get("RAG_EMBEDDER__DEVICE") for environment in ray.environments) == devices
    assert readers * reading["num_cpus"] + embedders * embedding["num_cpus"] <= resources["CPU"]


def test_workers_get_no_secret(settings: Settings, tmp_path: Path) -> None:
    """They open no store, so they are not told where it is."""
    ray = Cluster(CPU=2)

    list(work_on(ray, settings, "hash-a", files(settings, tmp_path, 1)))

    assert not [name for environment in ray.environments for name in environment if "DATABASE" in name]


def test_nothing_is_asked_for_no_files(settings: Settings) -> None:
    """Where all is unchanged, no worker is started."""
    ray = Cluster(CPU=2)

    assert list(work_on(ray, settings, "hash-a", [])) == []
    assert ray.asked == []


RAISED = """Failed to apply UDF transform. Original error:
Traceback (most recent call last):
  File "x.py", line 1, in __init__
rag_server.errors.ConfigError: RAG_EMBEDDER__MODEL: put it there
To change retry attempts, configure something."""


@pytest.mark.parametrize(
    ("error", "said"),
    [("out of memory", "out of memory"), (RAISED, "ConfigError: RAG_EMBEDDER__MODEL: put it there"), ("", "RayError")],
)
def test_a_cluster_that_fails_is_named(settings: Settings, tmp_path: Path, error: str, said: str) -> None:
    """In one line, a worker's own error by itself; what comes before is still given."""
    ray = Cluster(CPU=2)
    ray.fails = RayError(error)
    given = []

    with pytest.raises(ClusterUnavailableError, match=f"run it again to go on where it stopped: {said}$"):
        given.extend(work_on(ray, settings, "hash-a", files(settings, tmp_path, 2)))
    assert len(given) == 1


def test_the_cluster_is_left_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the work breaks off."""
    ray = Cluster()
    monkeypatch.setattr(cluster, "ray_modules", lambda: ray)

    with pytest.raises(KeyboardInterrupt), connected("local"):
        assert ray.is_up
        raise KeyboardInterrupt

    assert not ray.is_up


@pytest.mark.parametrize("error", [ConnectionError("no cluster"), ValueError("odd"), RuntimeError("other version")])
def test_a_cluster_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever Ray says of it."""
    ray = Cluster()
    ray.fails = error
    monkeypatch.setattr(cluster, "ray_modules", lambda: ray)

    with pytest.raises(ClusterUnavailableError, match=rf"there is no Ray cluster at auto \({error}\)"), connected("auto"):
        pass


def test_an_address_where_nobody_listens_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself is not asked: it would end this process."""
    monkeypatch.setattr(cluster, "ray_modules", SimpleNamespace)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        with pytest.raises(ClusterUnavailableError, match=f"there is no Ray cluster at {address}"), connected(address):
            pass


@pytest.mark.parametrize("address", ["", "head", "head:", ":6379", "head:port", "127.0.0.1:99999999"])
def test_an_address_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """It is neither looked up nor given to Ray."""
    monkeypatch.setattr(cluster, "ray_modules", SimpleNamespace)

    with pytest.raises(ClusterUnavailableError), connected(address):
        pass


def test_ray_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingExtraError, match=r'pip install "ray\[data\]"'), connected("local"):
        pass
