"""Builds the parts from the settings: the only file that names concrete classes, imported where they are needed."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rag_server import __version__
from rag_server.answer_cache import AnswerCache
from rag_server.config import SCORING, ReorderKind, RerankKind, RetrieveKind, Settings
from rag_server.errors import EngineUnavailableError, StoreError
from rag_server.pipeline import RagOptions, RagPipeline
from rag_server.protocols import (
    Cache,
    Embedder,
    Embedders,
    Engine,
    Indexes,
    Json,
    ListwiseScorer,
    QueryVectors,
    Reranker,
    Retriever,
)
from rag_server.rewriting import QueryRewriter
from rag_server.spans import Tracer
from rag_server.store.batches import Batches
from rag_server.store.chat_completions import ChatCompletions
from rag_server.store.conversations import Conversations
from rag_server.store.database import Database
from rag_server.store.documents import Documents
from rag_server.store.file_batches import FileBatches
from rag_server.store.files import Files
from rag_server.store.keys import Keys
from rag_server.store.log import SqlChunkLog
from rag_server.store.model_change import ModelChange
from rag_server.store.reading import Passages
from rag_server.store.responses import Responses
from rag_server.store.selection import Selection
from rag_server.store.upload_sessions import UploadSessions
from rag_server.store.uploads import Uploads
from rag_server.store.vector_stores import VectorStores
from rag_server.types import Chunk

if TYPE_CHECKING:
    from indexers.collection_indexes import CollectionIndexes
    from rag_server.cache.rate_limiter import RateLimiter
    from rag_server.cache.redis_cache import RedisCache
    from rag_server.cache.valkey_process import ValkeyProcess
    from rag_server.engines.engine_load import EngineMetrics
    from rag_server.engines.openai_http import OpenAIHttpEngine
    from rag_server.engines.scoring_http import ScoringHttpEngine
    from rag_server.engines.vllm_process import VllmProcess
    from rerankers.listwise_model import ListwiseModel

# A started engine needs about this long; a client that asks earlier is told to come back then.
ENGINE_START_RETRY_S = 10


@dataclass(frozen=True, slots=True)
class Store:
    """The truth store, by what is done with it."""

    database: Database
    vector_stores: VectorStores
    files: Files
    documents: Documents
    uploads: Uploads
    upload_sessions: UploadSessions
    file_batches: FileBatches
    chat_completions: ChatCompletions
    responses: Responses
    conversations: Conversations
    batches: Batches
    keys: Keys
    log: SqlChunkLog
    selection: Selection
    passages: Passages
    model_change: ModelChange


def open_store(settings: Settings) -> Store:
    """Open the truth store, made on the spot if need be."""
    try:
        # What people index is theirs alone.
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot create the data directory: {error}; set RAG_DATA_DIR to a folder that can be written"
        ) from None
    url = settings.database.url
    database = Database(f"sqlite:///{settings.data_dir / 'rag.db'}" if url is None else url.get_secret_value())
    files = Files(database)
    return Store(
        database=database,
        vector_stores=VectorStores(database),
        files=files,
        documents=Documents(database, files.owner),
        uploads=Uploads(database),
        upload_sessions=UploadSessions(database),
        file_batches=FileBatches(database),
        chat_completions=ChatCompletions(database),
        responses=Responses(database),
        conversations=Conversations(database),
        batches=Batches(database),
        keys=Keys(database),
        log=SqlChunkLog(database),
        selection=Selection(database),
        passages=Passages(database),
        model_change=ModelChange(database),
    )


def load_embedder(settings: Settings) -> Embedder:
    """Load the configured embedding model; takes seconds."""
    from indexers.sentence_embedder import SentenceEmbedder

    return SentenceEmbedder(settings.embedder.model, device=settings.embedder.device, speeds=_speeds(settings))


def build_embedders(settings: Settings, configured: Embedder) -> Embedders:
    """Return the embedding models of all vector stores, those beside the configured one loaded on their first use."""
    from indexers.embedders import StoreEmbedders
    from indexers.sentence_embedder import SentenceEmbedder

    device, speeds = settings.embedder.device, _speeds(settings)
    return StoreEmbedders(configured, lambda location: SentenceEmbedder(location, device=device, speeds=speeds))


def _speeds(settings: Settings) -> Path:
    return settings.data_dir / "embedding-speed.json"


def build_chunker(settings: Settings) -> Callable[..., list[Chunk]]:
    """Return what cuts a document's text, with the configured sentence segmenter."""
    from indexers.chunking import chunk_text

    if settings.chunking.segmenter == "sentencex":
        return chunk_text
    from indexers.sat_segmenter import SatSegmenter

    return partial(chunk_text, sentences=SatSegmenter(settings.chunking.segmenter_model))


def open_indexes(settings: Settings, store: Store) -> "CollectionIndexes":
    """Return the derived indexes in the data directory, those of vectors where the settings say; opened on their first use.

    Raises:
        MissingExtraError: The settings name Milvus, and its client is not installed.
    """
    from indexers.collection_indexes import CollectionIndexes
    from indexers.milvus_connection import MilvusConnection

    index = settings.index
    milvus = None
    if index.kind == "milvus" and index.url is not None:
        token = None if index.token is None else index.token.get_secret_value()
        milvus = MilvusConnection(index.url, token=token, database=index.database)
    return CollectionIndexes(settings.data_dir / "indexes", store.log, kind=index.faiss, gpu=index.gpu, milvus=milvus)


def build_engine_child(settings: Settings, adapters: Mapping[str, Path] | None = None) -> "VllmProcess | None":
    """Return the supervisor of a vLLM child, not started yet, or None where an endpoint is configured.

    Beside its model it serves the adapters that came with it, those that were added, and these.

    Raises:
        ConfigError: The configured model is none, or the list of added models is damaged.
    """
    if settings.engine.base_url is not None:
        return None
    from rag_server.engines.adapters import packaged_adapters
    from rag_server.engines.vllm_process import VllmProcess
    from rag_server.model_registry import ModelRegistry

    model = None if settings.engine.model is None else Path(settings.engine.model).expanduser()
    packaged = packaged_adapters() if uses_packaged_model(settings) else {}
    served = {**packaged, **ModelRegistry(settings.data_dir).adapters(), **(adapters or {})}
    return VllmProcess(settings.data_dir, model=model, adapters=served)


def build_engine(settings: Settings, child: "VllmProcess | None") -> "OpenAIHttpEngine":
    """Return the client of the configured endpoint or of the child."""
    from rag_server.engines.openai_http import OpenAIHttpEngine
    from rag_server.engines.smollm2_weights import REQUEST_DEFAULTS

    key = settings.engine.api_key
    return OpenAIHttpEngine(
        _base_url(settings.engine.base_url, child),
        api_key=None if key is None else key.get_secret_value(),
        timeout_s=settings.engine.timeout_s,
        context_length=settings.engine.context_length,
        # For a child, the setting names a folder and the child serves it under the folder's name.
        model=settings.engine.model if child is None else None,
        request_defaults=REQUEST_DEFAULTS if uses_packaged_model(settings) else None,
        takes_priority=child is not None,
    )


def build_engine_metrics(settings: Settings, child: "VllmProcess | None") -> "EngineMetrics":
    """Return what reads how busy the engine is."""
    from rag_server.engines.engine_load import EngineMetrics

    return EngineMetrics(_base_url(settings.engine.base_url, child))


def uses_packaged_model(settings: Settings) -> bool:
    """Return whether answers come from the packaged SmolLM2, which loses itself in prompts that others read with ease."""
    return settings.engine.base_url is None and settings.engine.model is None


def answerer_of(settings: Settings) -> str | None:
    """Return which of the engine's models answers from collections, None for its default."""
    from rag_server.engines.adapters import packaged_answerer

    if settings.engine.answerer is not None or not uses_packaged_model(settings):
        return settings.engine.answerer
    return packaged_answerer()


def build_cache(settings: Settings) -> "tuple[RedisCache, ValkeyProcess | None]":
    """Return the cache, and the embedded server behind it, not started yet, where none is configured."""
    from rag_server.cache.redis_cache import RedisCache
    from rag_server.cache.valkey_process import ValkeyProcess

    if settings.redis.url is not None:
        return RedisCache(lambda: settings.redis.url), None
    child = ValkeyProcess(settings.data_dir)
    return RedisCache(lambda: child.url), child


def build_rate_limiter(settings: Settings, cache_child: "ValkeyProcess | None") -> "RateLimiter":
    """Return what counts the use of API keys, in the server of the cache."""
    from rag_server.cache.rate_limiter import RateLimiter

    return RateLimiter(lambda: settings.redis.url if cache_child is None else cache_child.url)


def build_tracer(settings: Settings, environ: Mapping[str, str] = os.environ) -> Tracer | None:
    """Return what sends traces, None where nobody said where to."""
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} & set(environ)
    if settings.tracing.endpoint is None and not named:
        return None
    from rag_server.tracing import build_tracer

    return build_tracer(settings.tracing.endpoint)


def build_retriever(kind: RetrieveKind, query_vectors: QueryVectors, indexes: Indexes, selection: Selection) -> Retriever:
    """Return the retriever of that kind."""
    if kind == "dense":
        from retrievers.dense import DenseRetriever

        return DenseRetriever(query_vectors, indexes, selection)
    if kind == "lexical":
        from retrievers.lexical import LexicalRetriever

        return LexicalRetriever(indexes, selection)
    from retrievers.hybrid import HybridRetriever

    parts: tuple[RetrieveKind, ...] = ("dense", "lexical")
    return HybridRetriever({part: build_retriever(part, query_vectors, indexes, selection) for part in parts})


def build_scorer_child(settings: Settings) -> "VllmProcess | None":
    """Return the supervisor of a second vLLM that scores passages, not started yet, or None where none is needed."""
    rerank = settings.rerank
    if rerank.kind != "listwise_scorer" or rerank.model is None or rerank.base_url is not None:
        return None
    from rag_server.engines.vllm_process import VllmProcess
    from rag_server.engines.vllm_tasks import RERANK

    return VllmProcess(settings.data_dir, model=Path(rerank.model).expanduser(), task=RERANK)


def build_scorer(settings: Settings, child: "VllmProcess | None") -> "ScoringHttpEngine | None":
    """Return the client of the model that scores passages, at the configured endpoint or in the child; None without one."""
    rerank = settings.rerank
    if rerank.kind != "listwise_scorer" or rerank.model is None:
        return None
    from rag_server.engines.scoring_http import ScoringHttpEngine

    # The child serves it under its folder's name.
    model = rerank.model if child is None else Path(rerank.model).expanduser().resolve().name
    return ScoringHttpEngine(_base_url(rerank.base_url, child), model=model, timeout_s=settings.engine.timeout_s)


def reranker_kinds(settings: Settings) -> list[RerankKind]:
    """Return which rerankers requests may name, before any of them is loaded."""
    rerank = settings.rerank
    loaded = [kind for kind in SCORING if kind == rerank.kind and rerank.model is not None]
    return ["none", "full_ranking", "sliding_window", *loaded]


def build_rerankers(settings: Settings, engine: Engine, scorer: ListwiseScorer | None = None) -> dict[RerankKind, Reranker]:
    """Return the rerankers that requests may name; a cross-encoder is loaded, which takes seconds.

    Raises:
        ConfigError: The configured model cannot be loaded.
    """
    from rerankers.first_stage import FirstStageOrder
    from rerankers.full_ranking import FullRankingReranker
    from rerankers.sliding_window import SlidingWindowReranker
    from rerankers.within_deadline import WithinDeadline

    rerank = settings.rerank
    rerankers: dict[RerankKind, Reranker] = {
        "full_ranking": FullRankingReranker(_listwise_model(settings, engine, top_m=rerank.top_m)),
        "sliding_window": SlidingWindowReranker(
            _listwise_model(settings, engine, top_m=None), window=rerank.window, step=rerank.step, passes=rerank.passes
        ),
    }
    if rerank.kind == "cross_encoder" and rerank.model is not None:
        from rerankers.cross_encoder import CrossEncoderReranker

        rerankers["cross_encoder"] = CrossEncoderReranker(rerank.model, device=settings.embedder.device)
    if scorer is not None:
        from rerankers.listwise_scorer import ListwiseScorerReranker

        rerankers["listwise_scorer"] = ListwiseScorerReranker(scorer, passage_words=rerank.passage_words)
    guarded: dict[RerankKind, Reranker] = {
        kind: WithinDeadline(reranker, deadline_s=rerank.deadline_s) for kind, reranker in rerankers.items()
    }
    return {"none": FirstStageOrder(), **guarded}


def _listwise_model(settings: Settings, engine: Engine, *, top_m: int | None) -> "ListwiseModel":
    from rerankers.listwise_model import ListwiseModel, ListwiseOptions

    rerank = settings.rerank
    options = ListwiseOptions(
        format=rerank.format,
        # Only a vLLM that is started here is known to have the logits processor.
        decoding=rerank.decoding or ("permutation" if settings.engine.base_url is None else "free"),
        top_m=top_m,
        first_token=rerank.first_token,
        passage_words=rerank.passage_words,
    )
    model = rerank.model if rerank.kind in {"full_ranking", "sliding_window"} else None
    return ListwiseModel(engine, options, model=model)


def build_pipeline(
    settings: Settings,
    *,
    store: Store,
    embedders: Embedders,
    indexes: Indexes,
    engine: Engine,
    cache: Cache,
    rerankers: Mapping[RerankKind, Reranker],
) -> RagPipeline:
    """Return the query flow."""
    from indexers.chunking import sentence_spans
    from rag_server.cache.keys import cache_key
    from rerankers.reorder import reorder
    from retrievers.cached import CachedRetriever
    from retrievers.query_vectors import CachedQueryVectors

    query_vectors = CachedQueryVectors(embedders, cache=cache, key=cache_key)
    kinds: tuple[RetrieveKind, ...] = ("dense", "lexical", "hybrid")
    retrievers = {
        kind: CachedRetriever(
            build_retriever(kind, query_vectors, indexes, store.selection),
            cache=cache,
            key=cache_key,
            log=store.log,
            name=f"{kind} {_vector_index(settings)} {__version__}",
        )
        for kind in kinds
    }
    return RagPipeline(
        rewriter=QueryRewriter(engine, deadline_s=settings.rewrite.deadline_s),
        retrievers=retrievers,
        rerankers=rerankers,
        passages=store.passages,
        place={kind: partial(reorder, kind=kind) for kind in get_args(ReorderKind)},
        engine=engine,
        sentences=sentence_spans,
        answer_tokens=settings.prompt.answer_tokens,
        passage_separator=settings.prompt.passage_separator,
        answerer=answerer_of(settings),
        answers=AnswerCache(
            settings.cache.answers,
            cache=cache,
            key=cache_key,
            log=store.log,
            query_vectors=query_vectors,
            settings=_answering(settings),
            ttl_s=settings.cache.answer_ttl_s,
            threshold=settings.cache.semantic_threshold,
        ),
    )


def _vector_index(settings: Settings) -> str:
    """Return what tells vector indexes apart that may find different passages."""
    return settings.index.kind if settings.index.kind == "milvus" else settings.index.faiss


def _answering(settings: Settings) -> Json:
    """Return the settings that change answers and that no request can see."""
    return {
        "engine": [settings.engine.base_url, settings.engine.model],
        "index": _vector_index(settings),
        "rerank": settings.rerank.model_dump(mode="json"),
        "prompt": settings.prompt.model_dump(mode="json"),
    }


def default_options(settings: Settings) -> RagOptions:
    """Return how passages are found and placed where a request says nothing."""
    return RagOptions(
        retrieve=settings.retrieve.kind,
        num_candidates=settings.retrieve.num_candidates,
        rerank=settings.rerank.kind,
        reorder=settings.reorder.kind,
        num_passages=settings.prompt.num_passages or (3 if uses_packaged_model(settings) else 10),
        rewrite=(settings.rewrite.kind or ("none" if uses_packaged_model(settings) else "engine")) == "engine",
    )


def _base_url(configured: str | None, child: "VllmProcess | None") -> Callable[[], str]:
    def base_url() -> str:
        if configured is not None:
            return configured
        if child is None or not child.ready:
            detail = "not started" if child is None else child.detail
            raise EngineUnavailableError(f"the engine is not ready: {detail}", retry_after_s=ENGINE_START_RETRY_S)
        return child.base_url

    return base_url
