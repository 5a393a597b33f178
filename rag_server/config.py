"""The settings tree: environment variables `RAG_...`, or the same tree in a YAML file named by `RAG_CONFIG`."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from rag_server.errors import ConfigError

PREFIX = "RAG_"
# Names with our prefix that are not settings of the server: the file with settings, and the evaluation's data folder.
NOT_SETTINGS = {"RAG_CONFIG", "RAG_EVAL_DATA"}

FaissKind = Literal["auto", "flat", "hnsw", "ivf", "ivf_sq8", "ivf_rabitq"]
IndexKind = Literal["faiss", "milvus"]
GpuMode = Literal["replicated", "sharded"]
SegmenterKind = Literal["sentencex", "sat"]
RetrieveKind = Literal["dense", "lexical", "hybrid"]
RerankKind = Literal["none", "cross_encoder", "full_ranking", "sliding_window", "listwise_scorer"]
# Those that compute a score per passage; the other rerankers know an order only.
SCORING: frozenset[RerankKind] = frozenset({"cross_encoder", "listwise_scorer"})
ListwiseFormatKind = Literal["paper", "compact"]
DecodingKind = Literal["permutation", "structured", "free"]
ReorderKind = Literal["none", "sides", "reverse"]
RewriteKind = Literal["none", "engine"]
AnswerCacheKind = Literal["off", "exact", "semantic"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineSettings(_Section):
    """The language model."""

    base_url: str | None = Field(
        None,
        description="An OpenAI-compatible endpoint, such as http://gpu-box:8000/v1, or several that serve the same models, "
        "with commas between them. Unset: vLLM is started here.",
    )
    api_key: SecretStr | None = Field(None, description="Sent to the engine as a bearer token.")
    model: str | None = Field(
        None,
        description="The engine's model to answer with; for a vLLM started here, a model folder. "
        "Unset: the engine's first model, or the packaged SmolLM2.",
    )
    answerer: str | None = Field(
        None,
        description="The engine's model or adapter that answers from collections. Unset: with the packaged SmolLM2 its own "
        "adapter if there is one, else as RAG_ENGINE__MODEL says.",
    )
    context_length: int | None = Field(
        None, gt=0, description="Tokens of prompt and answer together, for an endpoint that does not tell (vLLM does)."
    )
    timeout_s: float = Field(600.0, gt=0, description="Longest wait for the next part of an answer, in seconds.")

    @model_validator(mode="after")
    def _names_addresses(self) -> "EngineSettings":
        if self.base_url is not None and not re.fullmatch(r"\s*https?://[^\s,]+(\s*,\s*https?://[^\s,]+)*\s*", self.base_url):
            raise ValueError(
                "RAG_ENGINE__BASE_URL must be an address such as http://gpu-box:8000/v1, or several with commas between them"
            )
        return self


class DatabaseSettings(_Section):
    """The truth store."""

    url: SecretStr | None = Field(
        None,
        description="A PostgreSQL database, such as postgresql://user:password@host/rag, or a SQLite file, such as "
        "sqlite:////var/lib/rag.db. Unset: rag.db in the data directory.",
    )


class RedisSettings(_Section):
    """The cache."""

    url: str | None = Field(None, description="A Redis or Valkey server. Unset: an embedded Valkey is started.")


class EmbedderSettings(_Section):
    """The embedding model."""

    model: str | None = Field(None, description="A sentence-transformers folder. Unset: the packaged all-MiniLM-L6-v2.")
    device: str | None = Field(None, description="A torch device such as cpu or cuda:0. Unset: a GPU where there is one.")


class ChunkingSettings(_Section):
    """How documents are cut."""

    max_tokens: int = Field(200, ge=16, le=4096, description="Longest chunk, in tokens of the embedding model.")
    overlap_tokens: int = Field(0, ge=0, description="Tokens that a chunk may repeat of the one before it, in whole sentences.")
    segmenter: SegmenterKind = Field(
        "sentencex",
        description="Finds sentences: sentencex by rules, sat by a Segment-any-Text model (`pip install wtpsplit`).",
    )
    segmenter_model: str | None = Field(
        None, description="For sat: a folder with its model and the tokenizer of xlm-roberta-base. Nothing is downloaded."
    )

    @model_validator(mode="after")
    def _overlap_at_most_half(self) -> "ChunkingSettings":
        if self.overlap_tokens > self.max_tokens // 2:
            raise ValueError("overlap_tokens must be at most half of max_tokens")
        return self


class IndexSettings(_Section):
    """The vector index."""

    kind: IndexKind = Field("faiss", description="Where vectors are searched: faiss (in this process) or milvus.")
    url: str | None = Field(
        None,
        description="For milvus: a file whose name ends in .db (Milvus Lite, one process at a time), or a server or cluster, "
        "such as http://milvus:19530.",
    )
    token: SecretStr | None = Field(None, description="For milvus: user:password, or an API key.")
    database: str | None = Field(None, description="For milvus: the database of the server. Unset: its default one.")
    faiss: FaissKind = Field(
        "auto", description="How FAISS organises vectors: flat, hnsw, ivf, ivf_sq8, ivf_rabitq, or auto by their number."
    )
    gpu: GpuMode = Field(
        "replicated", description="Whether GPUs, where there are any, each hold all vectors or a part of them."
    )

    @model_validator(mode="after")
    def _milvus_is_somewhere(self) -> "IndexSettings":
        if self.kind == "milvus" and self.url is None:
            raise ValueError("milvus needs RAG_INDEX__URL: a file ending in .db, or a server such as http://milvus:19530")
        if self.url is not None and not self.url.endswith(".db") and not re.fullmatch(r"https?://[^/@]+/?", self.url):
            raise ValueError(
                "RAG_INDEX__URL must be a file ending in .db, or http://HOST:PORT or https://HOST:PORT; user and password go "
                "into RAG_INDEX__TOKEN"
            )
        return self


class AuthSettings(_Section):
    """Who may ask."""

    required: bool | None = Field(
        None, description="Whether requests need an API key. Unset: as soon as `rag-server keys create` made one."
    )


class LimitsSettings(_Section):
    """What a request and an API key may take."""

    max_body_bytes: int = Field(
        32 * 1024**2, ge=1024, description="Largest JSON body of a request, in bytes; files have limits of their own."
    )
    requests_per_minute: int | None = Field(None, ge=1, description="Requests of an API key per minute. Unset: no limit.")
    tokens_per_minute: int | None = Field(
        None, ge=1, description="Tokens of prompts and answers of an API key per minute. Unset: no limit."
    )
    tokens_per_day: int | None = Field(
        None, ge=1, description="Tokens of prompts and answers of an API key per day (UTC). Unset: no limit."
    )
    upload_bytes_per_day: int | None = Field(
        None, ge=1, description="Bytes that an API key uploads per day (UTC). Unset: no limit."
    )
    generate_running: int = Field(
        256, ge=1, description="Answers of the language model (chat, completions, responses) that run at once."
    )
    generate_waiting: int = Field(256, ge=0, description="Answers that wait for one of these places; more get 503.")
    search_running: int = Field(32, ge=1, description="Searches, rankings and embeddings that run at once.")
    search_waiting: int = Field(128, ge=0, description="Searches, rankings and embeddings that wait; more get 503.")
    upload_running: int = Field(8, ge=1, description="Uploads of files and parts that run at once.")
    upload_waiting: int = Field(64, ge=0, description="Uploads that wait; more get 503.")
    batch_running: int = Field(256, ge=1, description="Rows of batches that are worked on at once, at most.")
    max_wait_s: float = Field(10.0, gt=0, description="Seconds that a request waits for its place before it gets 503.")
    deadline_s: float | None = Field(
        None, gt=0, description="Seconds that an answer or a search may take, with all of its parts. Unset: no limit."
    )
    shutdown_grace_s: float = Field(
        30.0, ge=0, description="Seconds that running requests get when the server is asked to end."
    )
    shutdown_notice_s: float = Field(
        0.0,
        ge=0,
        description="Seconds before that in which /ready says that the server ends, and requests are still taken: for a "
        "balancer that asks for /ready.",
    )


class TracingSettings(_Section):
    """Where traces go."""

    endpoint: str | None = Field(
        None,
        description="Traces go to this OpenTelemetry collector, such as http://localhost:4318 (OTLP over HTTP). "
        "Unset: as OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere.",
    )


class RewriteSettings(_Section):
    """Making follow-up questions searchable."""

    kind: RewriteKind | None = Field(
        None,
        description="Whether the engine turns a follow-up question into one that can be searched for by itself. "
        "Unset: engine, or none for the packaged model.",
    )
    deadline_s: float = Field(
        5.0, gt=0, description="Seconds after which the question is searched for as it was asked; the answer says so."
    )


class RetrieveSettings(_Section):
    """Finding candidates."""

    kind: RetrieveKind = Field("hybrid", description="Dense vectors, lexical BM25, or both fused by reciprocal rank.")
    num_candidates: int = Field(100, ge=1, le=1000, description="Candidates handed to the reranker.")


class RerankSettings(_Section):
    """Ordering the candidates anew."""

    kind: RerankKind = Field(
        "none",
        description="Which reranker is used: cross_encoder (question and passage in pairs), full_ranking (all candidates in "
        "one prompt), sliding_window (20 at a time), listwise_scorer (all in one context, without decoding), or none.",
    )
    model: str | None = Field(
        None,
        description="For full_ranking and sliding_window, a model or adapter that the engine serves; unset: its first. "
        "For cross_encoder and listwise_scorer, a model folder, or the name of a model at RAG_RERANK__BASE_URL.",
    )
    base_url: str | None = Field(
        None, description="For listwise_scorer: an endpoint with /rerank that serves the model. Unset: vLLM is started here."
    )
    format: ListwiseFormatKind = Field(
        "paper",
        description="What full_ranking and sliding_window ask for: paper ([3] > [1] > ...) or compact (one token each).",
    )
    decoding: DecodingKind | None = Field(
        None,
        description="How a ranking is decoded: permutation (each passage once, by a logits processor in vLLM), structured (a "
        "pattern), or free. Unset: permutation with a vLLM that is started here, else free.",
    )
    top_m: int | None = Field(
        None, ge=1, le=1000, description="full_ranking stops after so many passages; the rest keep their order. Unset: all."
    )
    first_token: bool = Field(
        False,
        description="Rank by the probabilities of the identifiers as the first token, one token per prompt; needs compact.",
    )
    passage_words: int = Field(100, ge=10, le=10_000, description="Words of a passage that a listwise prompt holds at most.")
    window: int = Field(20, ge=2, le=200, description="sliding_window: passages in a window.")
    step: int = Field(10, ge=1, le=200, description="sliding_window: how far the window moves.")
    passes: int = Field(1, ge=1, le=10, description="sliding_window: how often the window passes over the candidates.")
    deadline_s: float = Field(
        30.0, gt=0, description="Seconds after which the first stage's order is used instead; the answer says so."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "RerankSettings":
        if self.first_token and self.format != "compact":
            raise ValueError("first_token needs format=compact")
        if self.step > self.window:
            raise ValueError("step must be at most window, or passages between two windows are never read")
        if self.kind == "cross_encoder" and self.model is None:
            raise ValueError("cross_encoder needs RAG_RERANK__MODEL: a folder that CrossEncoder.save() wrote")
        if self.kind == "listwise_scorer" and self.model is None:
            raise ValueError("listwise_scorer needs RAG_RERANK__MODEL: a model folder, or a model at RAG_RERANK__BASE_URL")
        return self


class ReorderSettings(_Section):
    """Placing the passages in the prompt."""

    kind: ReorderKind = Field(
        "sides", description="`sides` puts the best passages at both ends of the prompt, `reverse` the best last."
    )


class PromptSettings(_Section):
    """What the engine is given."""

    num_passages: int | None = Field(
        None,
        ge=1,
        le=200,
        description="Passages put into the prompt if they fit. Unset: 10, or 3 for the packaged model.",
    )
    answer_tokens: int = Field(512, ge=1, description="Tokens kept free for the answer when a request sets no max_tokens.")
    passage_separator: str = Field(
        "",
        max_length=64,
        description="Put on both sides of each passage, for an engine that finds computed passages again by it anywhere in a "
        "prompt (LMCache's LMCACHE_BLEND_SPECIAL_STR).",
    )


class CacheSettings(_Section):
    """What is remembered of answers."""

    answers: AnswerCacheKind = Field(
        "exact",
        description="Which answers from vector stores are remembered, of requests with temperature 0: exact (the same request "
        "again), semantic (also one whose question is nearly the same), or off.",
    )
    answer_ttl_s: int = Field(3600, ge=1, description="Seconds for which an answer is remembered.")
    semantic_threshold: float = Field(
        0.97, gt=0, le=1, description="Cosine of two questions' vectors from which on they count as the same."
    )


class Settings(_Section):
    """Everything that can be set. Defaults run on a laptop."""

    data_dir: Path = Field(default_factory=lambda: user_data_path("rag-server"), description="Where everything is kept.")
    host: str = Field("127.0.0.1", description="Address to listen on. Make API keys before it is anything but loopback.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    engine: EngineSettings = EngineSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    index: IndexSettings = IndexSettings()
    rewrite: RewriteSettings = RewriteSettings()
    retrieve: RetrieveSettings = RetrieveSettings()
    rerank: RerankSettings = RerankSettings()
    reorder: ReorderSettings = ReorderSettings()
    prompt: PromptSettings = PromptSettings()
    cache: CacheSettings = CacheSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitsSettings = LimitsSettings()
    tracing: TracingSettings = TracingSettings()


def load_settings(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Return the settings of the YAML file, overridden by the environment, overridden by `overrides` that are not None.

    Raises:
        ConfigError: A key is unknown, a value does not fit, or the file cannot be read; every fault is named.
    """
    tree = _read_yaml(environ["RAG_CONFIG"]) if environ.get("RAG_CONFIG") else {}
    for name, value in environ.items():
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            _put(tree, name.removeprefix(PREFIX).lower().split("__"), value)
    tree.update({key: value for key, value in overrides.items() if value is not None})
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(fault) for fault in error.errors())) from None
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})


def settings_environment(settings: BaseModel, prefix: str = PREFIX) -> dict[str, str]:
    """Return the environment variables that give a child process these settings, secrets included."""
    environment: dict[str, str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, _Section):
            environment |= settings_environment(value, f"{prefix}{name.upper()}__")
        elif value is not None:
            secret = value.get_secret_value() if isinstance(value, SecretStr) else value
            environment[f"{prefix}{name.upper()}"] = str(secret)
    return environment


def setting_names(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[tuple[str, Any, str]]:
    """Yield (environment variable, default, description) of every setting, for the documentation and for hints."""
    for name, info in model.model_fields.items():
        if isinstance(info.default, _Section):
            yield from setting_names(type(info.default), f"{prefix}{name.upper()}__")
        else:
            default = "the user's data folder" if name == "data_dir" else info.default
            yield f"{prefix}{name.upper()}", default, info.description or ""


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"RAG_CONFIG: cannot read {path}: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"RAG_CONFIG: {path} must hold a mapping of settings, such as `port: 8000`")
    return tree


def _put(tree: dict[str, Any], path: list[str], value: str) -> None:
    for key in path[:-1]:
        branch = tree.setdefault(key, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"{_env_name(path)}: {key} is not a group of settings")
        tree = branch
    tree[path[-1]] = value


def _env_name(path: list[str]) -> str:
    return PREFIX + "__".join(path).upper()


def _explain(fault: Mapping[str, Any]) -> str:
    name = _env_name([str(part) for part in fault["loc"]])
    if fault["type"] == "extra_forbidden":
        known = [known_name for known_name, _, _ in setting_names()]
        return f"{name}: there is no such setting; known are {', '.join(known)}"
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"
