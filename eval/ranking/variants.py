"""Reads which rerankers are compared, `full_ranking:format=compact:top_m=10`, and builds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from eval.ranking.embedding_reranker import EmbeddingReranker
from rag_server import factory
from rag_server.config import RerankKind, RerankSettings, Settings
from rag_server.errors import ConfigError
from rag_server.protocols import Engine, Reranker

EMBEDDING = "embedding"
# They ask the engine's model, which is one and the same for both.
LISTWISE = ("full_ranking", "sliding_window")
KINDS = (*get_args(RerankKind), EMBEDDING)
# What is measured is the reranker, not how often it is given up on; RAG_RERANK__DEADLINE_S, or the variant, sets another.
DEADLINE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Variant:
    """A reranker with options of its own; `name` is how it was written, `settings` are those with the options in them."""

    name: str
    kind: str
    settings: Settings

    @property
    def asks_engine(self) -> bool:
        """Whether it needs the engine."""
        return self.kind in LISTWISE


@dataclass(frozen=True, slots=True)
class NamedReranker:
    """A reranker to be measured, the model that it uses, and the settings that made it."""

    name: str
    reranker: Reranker
    model: str | None
    settings: Mapping[str, object]


def parse_variants(text: str, settings: Settings) -> list[Variant]:
    """Return the variants that the text names, separated by commas: a kind and, after colons, options of RAG_RERANK__*.

    An option without a value is true: `full_ranking:format=compact:first_token`. RAG_RERANK__MODEL is for rerankers of
    RAG_RERANK__KIND; others name theirs, `cross_encoder:model=FOLDER`.

    Raises:
        ConfigError: A kind is unknown, is named twice with the same options, or an option is unknown or does not fit.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"the reranker {twice} is named twice; name it once")
    return [_variant(name, settings) for name in names]


async def build(variant: Variant, engine: Engine) -> NamedReranker:
    """Return the variant's reranker, its model loaded.

    Raises:
        ConfigError: It cannot be set up here.
    """
    settings = variant.settings
    if variant.kind == EMBEDDING:
        embedder = factory.load_embedder(settings)
        made = settings.embedder.model_dump(mode="json")
        return NamedReranker(variant.name, EmbeddingReranker(embedder), embedder.model_id, {"embedder": made})
    scorer = None if settings.rerank.base_url is None else factory.build_scorer(settings, None)
    rerankers = factory.build_rerankers(settings, engine, scorer)
    if settings.rerank.kind not in rerankers:
        known = ", ".join(sorted(rerankers))
        raise ConfigError(f"the reranker {variant.name} is not set up; known are {known}, and listwise_scorer with base_url")
    model = settings.rerank.model
    if variant.asks_engine:
        model = model or await engine.default_model()
    made = {name: getattr(settings, name).model_dump(mode="json") for name in ("rerank", "engine")}
    return NamedReranker(variant.name, rerankers[settings.rerank.kind], model, made)


def _variant(name: str, settings: Settings) -> Variant:
    kind, *options = name.split(":")
    if kind not in KINDS:
        raise ConfigError(f"{name}: there is no such reranker; known are {', '.join(KINDS)}")
    if kind == EMBEDDING:
        if options:
            raise ConfigError(f"{name}: embedding takes no options; RAG_EMBEDDER__MODEL names its model")
        return Variant(name, kind, settings)
    given = settings.rerank.model_dump(exclude_unset=True)
    if kind != settings.rerank.kind and not {kind, settings.rerank.kind} <= set(LISTWISE):
        given.pop("model", None)
    pairs = [option.partition("=") for option in options]
    own = {key: value if equals else True for key, equals, value in pairs}
    try:
        rerank = RerankSettings.model_validate({"deadline_s": DEADLINE_S, **given, "kind": kind, **own})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))} {fault['msg']}".strip() for fault in error.errors())
        raise ConfigError(f"{name}: {faults}; options are written as {kind}:NAME=VALUE") from None
    return Variant(name, kind, settings.model_copy(update={"rerank": rerank}))
