"""Measures a new model beside the one that it would replace, both on the same data in one run."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from eval.engine import answering_model, engine_of
from eval.qa.datasets import QaDataset, QaQuestion, given_contexts, load_questions, sample_questions
from eval.qa.given_passages import AskedQuestion, answer_all
from eval.ranking.datasets import RerankingDataset, RetrievalDataset
from eval.ranking.measures import measure
from eval.ranking.rankings import Rankings, Run
from eval.ranking.searching import Stages, search_all
from eval.ranking.variants import LISTWISE, build, parse_variants
from eval.run_rerank import rerank_all
from eval.run_retrieval import index_missing, serving
from eval.tuning.gate import RANKING_MEASURES, Measurement, answer_scores, check_complete
from eval.tuning.splits import held_out
from rag_server.config import Settings
from rag_server.errors import ConfigError
from rag_server.learning.splits import is_held_out
from rag_server.protocols import Engine

# The candidates as they are: what a ranker would replace where none is used.
FIRST_STAGE = "first_stage"
Scores = dict[str, Mapping[str, float]]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Served:
    """The engine that both models are asked of: those settings', with these adapters if it is started here."""

    settings: Settings
    adapters: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Asking:
    """How the questions are asked."""

    answer_tokens: int
    concurrency: int


def draw_questions(
    names: Sequence[str], *, num_questions: int, num_passages: int, share: float | None, seed: int
) -> list[QaQuestion]:
    """Return so many questions of each data set, each with the passages to be answered from, their ids with the set's name.

    With a share, only those of passages that were kept from training.

    Raises:
        ConfigError: The data is not there, or nothing of it was kept.
    """
    drawn = []
    for name in names:
        dataset = load_questions(name)
        kept = dataset.questions if share is None else tuple(held_out(dataset.questions, share))
        if not kept:
            raise ConfigError(f"--held-out {share}: nothing of {name} was kept from training; measure with more of it")
        chosen = sample_questions(QaDataset(name, kept, dataset.pool), num_questions, seed)
        for question in chosen:
            contexts = given_contexts(dataset, question, num_passages, seed)
            drawn.append(replace(question, id=f"{name}/{question.id}", contexts=contexts))
    return drawn


async def measure_answerers(
    served: Served, questions: Sequence[QaQuestion], *, new: str, baseline: str | None, asking: Asking
) -> tuple[str, Measurement]:
    """Return the baseline's name (None means what answers now), and what both models' answers are worth.

    Raises:
        ConfigError: The engine does not serve one of the models.
        RagServerError: A question failed.
    """
    async with engine_of(served.settings, adapters=served.adapters) as engine:
        baseline = baseline or await answering_model(engine, served.settings)
        await _check_served(engine, (new, baseline))
        scores = {name: await _answers(engine, served.settings, questions, name, asking) for name in (baseline, new)}
    return baseline, Measurement(scores[new], scores[baseline])


async def measure_rerankers(served: Served, dataset: RerankingDataset, *, kind: str, new: str, baseline: str) -> Measurement:
    """Return what both models' rankings of the candidates are worth; `kind` is a reranker with its options.

    Raises:
        ConfigError: A reranker cannot be set up, or the engine does not serve a model.
        RagServerError: A query failed.
    """
    needed = kind.partition(":")[0] in LISTWISE
    async with engine_of(served.settings, needed=needed, adapters=served.adapters) as engine:
        names = [name for name in (baseline, new) if name != FIRST_STAGE]
        if needed:
            await _check_served(engine, names)
        runs = {name: await _reranked(engine, served.settings, dataset, f"{kind}:model={name}") for name in names}
    first = {id_: {passage.document_id: passage.score for passage in found} for id_, found in dataset.candidates.items()}
    scores = {name: _ranking_scores(dataset, run) for name, run in {FIRST_STAGE: first, **runs}.items()}
    return Measurement(scores[new], scores[baseline])


async def measure_embedders(settings: Settings, dataset: RetrievalDataset, *, new: Path, baseline: str | None) -> Measurement:
    """Return what dense retrieval is worth with both models, each with an index of its own that is thrown away.

    Raises:
        RagServerError: The corpus cannot be indexed, or a query failed.
    """
    scores = []
    for model in (baseline, str(new)):
        with tempfile.TemporaryDirectory() as folder:
            embedder = settings.embedder.model_copy(update={"model": model})
            changed = settings.model_copy(update={"embedder": embedder, "data_dir": Path(folder)})
            rankings = await _searched(changed, dataset)
        check_complete(rankings.faults(model or "the packaged model"), model or "the packaged model")
        scores.append(_measured(measure(dataset.qrels, rankings.run).per_query))
    return Measurement(scores[1], scores[0])


def keep_reranking(dataset: RerankingDataset, share: float | None) -> RerankingDataset:
    """Return the data set with those of its queries that were kept from training."""
    kept = _kept(dataset.queries, dataset.name, share)
    return replace(
        dataset,
        queries=_of(dataset.queries, kept),
        qrels=_of(dataset.qrels, kept),
        candidates=_of(dataset.candidates, kept),
    )


def keep_retrieval(dataset: RetrievalDataset, share: float | None) -> RetrievalDataset:
    """Return the data set with those of its queries that were kept from training."""
    kept = _kept(dataset.queries, dataset.name, share)
    return replace(dataset, queries=_of(dataset.queries, kept), qrels=_of(dataset.qrels, kept))


def questions_data(questions: Sequence[QaQuestion]) -> object:
    """Return all that the answers depend on."""
    return [asdict(question) for question in questions]


def _kept(ids: Mapping[str, str], name: str, share: float | None) -> list[str]:
    kept = [id_ for id_ in ids if share is None or is_held_out(id_, share)]
    if not kept:
        raise ConfigError(f"--held-out {share}: no query of {name} was kept from training; measure with more of it")
    return kept


def _of(values: Mapping[str, Value], ids: Sequence[str]) -> dict[str, Value]:
    return {id_: values[id_] for id_ in ids}


async def _answers(engine: Engine, settings: Settings, questions: Sequence[QaQuestion], model: str, asking: Asking) -> Scores:
    asked = [AskedQuestion(one.id, one.question, one.contexts, settings.reorder.kind) for one in questions]
    limits = {"answer_tokens": asking.answer_tokens, "concurrency": asking.concurrency}
    predictions = await answer_all(engine, asked, model=model, **limits)
    check_complete([f"{one.id}: {one.error}" for one in predictions if one.failed], model)
    return dict(answer_scores(questions, predictions))


async def _reranked(engine: Engine, settings: Settings, dataset: RerankingDataset, variant: str) -> Run:
    (parsed,) = parse_variants(variant, settings)
    named = await build(parsed, engine)
    rankings = await rerank_all(dataset, named.reranker, name=named.name)
    check_complete(rankings.faults(named.name), named.name)
    return rankings.run


async def _searched(settings: Settings, dataset: RetrievalDataset) -> Rankings:
    index_missing(settings, {dataset.name: dataset})
    async with serving(None, settings, with_engine=False) as server, server.client() as client:
        return await search_all(client, dataset, Stages("dense"), collection=dataset.name)


def _ranking_scores(dataset: RerankingDataset, run: Run) -> Scores:
    return _measured(measure(dataset.qrels, run, relevant_from=dataset.relevant_from).per_query)


def _measured(per_query: Mapping[str, Mapping[str, float]]) -> Scores:
    return {name: per_query[name] for name in RANKING_MEASURES}


async def _check_served(engine: Engine, names: Sequence[str]) -> None:
    known = [str(model.get("id")) for model in await engine.models()]
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(
            f"the engine does not serve {' or '.join(missing)}, but {', '.join(known)}; if an adapter was left out, it is said "
            "above why"
        )
