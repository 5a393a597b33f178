"""Has files read, cut and embedded by Ray Data, streamed: whatever waits on its way is bounded."""

import contextlib
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from rag_server.config import Settings, settings_environment
from rag_server.errors import ClusterUnavailableError
from rag_server.jobs.batches.on_ray import connect, ray_modules
from rag_server.jobs.indexing_on_ray.parts import FileToRead, Parts
from rag_server.jobs.indexing_on_ray.workers import EmbeddingWorker, ReadingWorker, pack, unpack

# What a worker is handed at a time.
FILES_TOGETHER = 32
# From so many bytes on, what is done is handed on.
BLOCK_BYTES = 512 * 1024
# Shares of a core. They add up to one: a cluster of one core needs room for one of each.
READING_CPUS = 0.25
EMBEDDING_CPUS = 0.75
# Embedding on a core takes many times as long as reading.
CPUS_PER_READER = 4
CONNECT_TIMEOUT_S = 5.0
# The last line of a traceback.
RAISED = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception): .+)")
# The addresses that name no host.
NAMED = ("local", "auto")


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to the cluster at that address (`local`: one of this machine, for as long as the context lasts).

    Raises:
        ClusterUnavailableError: There is none.
        MissingExtraError: Ray is not installed.
    """
    ray = ray_modules()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if address not in NAMED:
        _check_reachable(address)
    try:
        connect(ray, address, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unavailable(address, error) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def work_on(ray: Any, settings: Settings, model_id: str, files: Sequence[FileToRead]) -> Iterator[Parts]:
    """Yield the parts of the files as the workers are done with them.

    Raises:
        ClusterUnavailableError: The cluster, or what has to be on each of its machines, failed.
    """
    if not files:
        return
    try:
        for rows in _parts(ray, settings, model_id, files).iter_batches(batch_size=None):
            yield from map(unpack, rows["packed"])
    except ray.exceptions.RayError as error:
        raise ClusterUnavailableError(
            f"the Ray cluster failed; run it again to go on where it stopped: {_said(error)}"
        ) from error


def _parts(ray: Any, settings: Settings, model_id: str, files: Sequence[FileToRead]) -> Any:
    """Return the data set of the files' parts, of which nothing is computed before it is read."""
    context = ray.data.DataContext.get_current()
    # The bar of the command shows how far it is.
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    resources = ray.cluster_resources()
    cores, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    device = settings.embedder.device
    if device is not None and not device.startswith("cuda"):
        gpus = 0
    readers, embedders = (cores, gpus) if gpus else (cores // CPUS_PER_READER, cores)
    items = [{"packed": pack(files[start : start + FILES_TOGETHER])} for start in range(0, len(files), FILES_TOGETHER)]
    return (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(
            ReadingWorker,
            fn_constructor_args=(_environment(settings, "cpu"),),
            batch_size=1,
            num_cpus=READING_CPUS,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, readers)),
        )
        .map_batches(
            EmbeddingWorker,
            # Of the GPUs a worker sees its own, whatever its number.
            fn_constructor_args=(_environment(settings, "cuda" if gpus else device), model_id),
            batch_size=1,
            num_cpus=EMBEDDING_CPUS,
            num_gpus=1 if gpus else None,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, embedders)),
        )
    )


def _environment(settings: Settings, device: str | None) -> dict[str, str]:
    """Return the settings that a worker needs, none of which is secret."""
    embedder = settings.embedder.model_copy(update={"device": device})
    return {
        "RAG_DATA_DIR": str(settings.data_dir),
        **settings_environment(embedder, "RAG_EMBEDDER__"),
        **settings_environment(settings.chunking, "RAG_CHUNKING__"),
    }


def _said(error: Exception) -> str:
    """Return the worker's own error out of all that Ray says of it: where it was raised, and what could be set otherwise."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    raised = [found[1] for line in lines if (found := RAISED.match(line)) is not None]
    return raised[-1] if raised else lines[0]


def _check_reachable(address: str) -> None:
    """Raise ClusterUnavailableError unless somebody listens there: Ray would try for a minute, and then end this process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterUnavailableError(f"--ray {address}: name a cluster as HOST:PORT, or auto, or local")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise _unavailable(address, error) from None


def _unavailable(address: str, error: Exception) -> ClusterUnavailableError:
    return ClusterUnavailableError(
        f"there is no Ray cluster at {address} ({error}); look with `ray status` there, or name `local` for one of this machine"
    )
