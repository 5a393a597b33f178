"""Builds the parts from the settings: the only file that names concrete classes, imported where they are needed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rag_server.config import RetrieveKind, Settings
from rag_server.errors import EngineUnavailableError
from rag_server.pipeline import RagOptions, RagPipeline
from rag_server.protocols import Cache, Embedder, Indexes, Retriever
from rag_server.store.database import Database
from rag_server.store.files import Files
from rag_server.store.reading import Passages, SqlChunkLog
from rag_server.store.vector_stores import VectorStores

if TYPE_CHECKING:
    from indexers.collection_indexes import CollectionIndexes
    from rag_server.cache.redis_cache import RedisCache
    from rag_server.cache.valkey_process import ValkeyProcess
    from rag_server.engines.openai_http import OpenAIHttpEngine
    from rag_server.engines.vllm_process import VllmProcess

# A started engine needs about this long; a client that asks earlier is told to come back then.
ENGINE_START_RETRY_S = 10


@dataclass(frozen=True, slots=True)
class Store:
    """The truth store, by what is done with it."""

    database: Database
    vector_stores: VectorStores
    files: Files
    log: SqlChunkLog
    passages: Passages


def open_store(settings: Settings) -> Store:
    """Open the truth store, made on the spot if need be."""
    database = Database(settings.database.url or f"sqlite:///{settings.data_dir / 'rag.db'}")
    return Store(database, VectorStores(database), Files(database), SqlChunkLog(database), Passages(database))


def load_embedder(settings: Settings) -> Embedder:
    """Load the embedding model; takes seconds."""
    from indexers.sentence_embedder import SentenceEmbedder

    return SentenceEmbedder(settings.embedder.model, device=settings.embedder.device)


def open_indexes(settings: Settings, store: Store) -> "CollectionIndexes":
    """Return the derived indexes in the data directory; each is opened on its first use."""
    from indexers.collection_indexes import CollectionIndexes

    return CollectionIndexes(settings.data_dir / "indexes", store.log)


def build_engine_child(settings: Settings) -> "VllmProcess | None":
    """Return the supervisor of a vLLM child, not started yet, or None where an endpoint is configured."""
    if settings.engine.base_url is not None:
        return None
    from rag_server.engines.vllm_process import VllmProcess

    model = None if settings.engine.model is None else Path(settings.engine.model).expanduser()
    return VllmProcess(settings.data_dir, model=model)


def build_engine(settings: Settings, child: "VllmProcess | None") -> "OpenAIHttpEngine":
    """Return the client of the configured endpoint or of the child."""
    from rag_server.engines.openai_http import OpenAIHttpEngine
    from rag_server.engines.smollm2_weights import REQUEST_DEFAULTS

    key = settings.engine.api_key
    return OpenAIHttpEngine(
        _base_url(settings, child),
        api_key=None if key is None else key.get_secret_value(),
        timeout_s=settings.engine.timeout_s,
        context_length=settings.engine.context_length,
        # For a child, the setting names a folder and the child serves it under the folder's name.
        model=settings.engine.model if child is None else None,
        request_defaults=REQUEST_DEFAULTS if uses_packaged_model(settings) else None,
    )


def uses_packaged_model(settings: Settings) -> bool:
    """Return whether answers come from the packaged SmolLM2, which loses itself in prompts that others read with ease."""
    return settings.engine.base_url is None and settings.engine.model is None


def build_cache(settings: Settings) -> "tuple[RedisCache, ValkeyProcess | None]":
    """Return the cache, and the embedded server behind it, not started yet, where none is configured."""
    from rag_server.cache.redis_cache import RedisCache
    from rag_server.cache.valkey_process import ValkeyProcess

    if settings.redis.url is not None:
        return RedisCache(lambda: settings.redis.url), None
    child = ValkeyProcess(settings.data_dir)
    return RedisCache(lambda: child.url), child


def build_retriever(kind: RetrieveKind, embedder: Embedder, indexes: Indexes) -> Retriever:
    """Return the retriever of that kind."""
    if kind == "dense":
        from retrievers.dense import DenseRetriever

        return DenseRetriever(embedder, indexes)
    if kind == "lexical":
        from retrievers.lexical import LexicalRetriever

        return LexicalRetriever(indexes)
    from retrievers.hybrid import HybridRetriever

    return HybridRetriever([build_retriever(part, embedder, indexes) for part in ("dense", "lexical")])


def build_pipeline(
    settings: Settings, *, store: Store, embedder: Embedder, indexes: Indexes, engine: "OpenAIHttpEngine", cache: Cache
) -> RagPipeline:
    """Return the query flow."""
    from indexers.chunking import sentence_spans
    from rag_server.cache.keys import cache_key
    from rerankers.first_stage import FirstStageOrder
    from rerankers.reorder import reorder
    from retrievers.cached import CachedRetriever

    kinds: tuple[RetrieveKind, ...] = ("dense", "lexical", "hybrid")
    retrievers = {
        kind: CachedRetriever(
            build_retriever(kind, embedder, indexes),
            cache=cache,
            key=cache_key,
            log=store.log,
            name=f"{kind}:{embedder.model_id}",
        )
        for kind in kinds
    }
    return RagPipeline(
        retrievers=retrievers,
        rerankers={"none": FirstStageOrder()},
        passages=store.passages,
        place={"none": partial(reorder, kind="none"), "sides": partial(reorder, kind="sides")},
        engine=engine,
        sentences=sentence_spans,
        answer_tokens=settings.prompt.answer_tokens,
    )


def default_options(settings: Settings) -> RagOptions:
    """Return how passages are found and placed where a request says nothing."""
    return RagOptions(
        retrieve=settings.retrieve.kind,
        num_candidates=settings.retrieve.num_candidates,
        rerank=settings.rerank.kind,
        reorder=settings.reorder.kind,
        num_passages=settings.prompt.num_passages or (3 if uses_packaged_model(settings) else 10),
    )


def _base_url(settings: Settings, child: "VllmProcess | None") -> Callable[[], str]:
    configured = settings.engine.base_url

    def base_url() -> str:
        if configured is not None:
            return configured
        if child is None or not child.ready:
            detail = "not started" if child is None else child.detail
            raise EngineUnavailableError(f"the engine is not ready: {detail}", retry_after_s=ENGINE_START_RETRY_S)
        return child.base_url

    return base_url
