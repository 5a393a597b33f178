"""Measures a trained model beside the one that it would replace, and writes what `rag-server models add` asks for.

python -m eval.run_gate answerer --new FOLDER --dataset xquad-en --questions 100 --held-out .3 --out evaluation.json
python -m eval.run_gate ranker --new FOLDER --data FOLDER --first-stage bm25 --out evaluation.json
python -m eval.run_gate embedder --new FOLDER --dataset scifact --out evaluation.json
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from eval.command import run_command
from eval.qa.arguments import at_least_one, share
from eval.ranking.datasets import load_beir, load_reranking
from eval.report import as_text
from eval.tuning import measuring
from eval.tuning.gate import Basis, Measurement, as_table, evaluation_of, hash_of
from rag_server.config import Settings, load_settings
from rag_server.engines.adapters import is_adapter, packaged_adapters
from rag_server.engines.smollm2_weights import MODEL_NAME
from rag_server.errors import ConfigError, WorseModelError
from rag_server.model_evaluation import MeasuredModel, ModelKind, check_not_worse
from rag_server.model_folders import check_model, fingerprint_of
from rag_server.model_registry import ModelRegistry

# What a vLLM that is started here serves the new adapter as: no added model can be called so.
SERVED_AS = "new.model"
Compared = tuple[Measurement, MeasuredModel, str, str]


def run(arguments: argparse.Namespace, command: str) -> None:
    """Measure both models, print the table and write the evaluation."""
    settings, kind = load_settings(), arguments.kind
    check_model(arguments.new, kind)
    measurement, baseline, dataset, dataset_hash = _COMPARE[kind](settings, arguments)
    fingerprint = fingerprint_of(arguments.new)
    evaluation = evaluation_of(
        kind,
        measurement,
        new=MeasuredModel(name=arguments.new.resolve().name, fingerprint=fingerprint),
        baseline=baseline,
        basis=Basis(dataset, dataset_hash, arguments.held_out, command),
    )
    print(as_text(as_table(evaluation)))
    try:
        check_not_worse(evaluation, kind, fingerprint)
    except WorseModelError as error:
        print(error)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(evaluation.model_dump_json(indent=2) + "\n", encoding="utf-8")
    print(f"written: {arguments.out}")


def _compare_answerers(settings: Settings, arguments: argparse.Namespace) -> Compared:
    questions = measuring.draw_questions(
        arguments.dataset.split(","),
        num_questions=arguments.questions,
        num_passages=arguments.passages,
        share=arguments.held_out,
        seed=arguments.seed,
    )
    served, new = _served(settings, arguments)
    asking = measuring.Asking(arguments.answer_tokens, arguments.concurrency)
    measured = measuring.measure_answerers(served, questions, new=new, baseline=arguments.baseline, asking=asking)
    baseline, measurement = asyncio.run(measured)
    return measurement, _known(settings, baseline), arguments.dataset, hash_of(measuring.questions_data(questions))


def _compare_rerankers(settings: Settings, arguments: argparse.Namespace) -> Compared:
    loaded = load_reranking(
        arguments.data,
        first_stage=arguments.first_stage,
        num_queries=arguments.queries,
        num_candidates=arguments.candidates,
    )
    dataset = measuring.keep_reranking(loaded, arguments.held_out)
    if arguments.kind == "cross_encoder":
        served, new, kind = measuring.Served(settings, {}), str(arguments.new), "cross_encoder"
    else:
        (served, new), kind = _served(settings, arguments), arguments.reranker
    measured = measuring.measure_rerankers(served, dataset, kind=kind, new=new, baseline=arguments.baseline)
    measurement = asyncio.run(measured)
    data = [dataset.queries, dataset.qrels, {id_: [one.text for one in found] for id_, found in dataset.candidates.items()}]
    return measurement, _known(settings, arguments.baseline), f"{dataset.name} after {dataset.first_stage}", hash_of(data)


def _compare_embedders(settings: Settings, arguments: argparse.Namespace) -> Compared:
    dataset = measuring.keep_retrieval(load_beir(arguments.dataset, num_queries=arguments.queries), arguments.held_out)
    location = arguments.baseline or settings.embedder.model
    measurement = asyncio.run(measuring.measure_embedders(settings, dataset, new=arguments.new, baseline=location))
    baseline = (
        _known(settings, location) if location is not None else MeasuredModel(name="the packaged model", fingerprint=None)
    )
    return measurement, baseline, dataset.name, hash_of([dataset.queries, dataset.qrels])


def _served(settings: Settings, arguments: argparse.Namespace) -> tuple[measuring.Served, str]:
    """Return the engine that serves both models, and the new one's name there."""
    if settings.engine.base_url is not None:
        if arguments.served_as is None:
            raise ConfigError("--served-as: say under which name RAG_ENGINE__BASE_URL serves the new model")
        return measuring.Served(settings, {}), arguments.served_as
    if not is_adapter(arguments.new):
        raise ConfigError(
            f"{arguments.new} is no adapter, and one vLLM serves one model: let RAG_ENGINE__BASE_URL name an endpoint that "
            "serves both, and --served-as the new one's name there"
        )
    return measuring.Served(settings, {SERVED_AS: arguments.new.resolve()}), SERVED_AS


def _known(settings: Settings, name: str) -> MeasuredModel:
    """Return the model of that name, or in that folder, with its fingerprint where its files are here."""
    registry = ModelRegistry(settings.data_dir)
    folders = {MODEL_NAME: registry.folder(MODEL_NAME), **packaged_adapters(), **registry.adapters()}
    if settings.engine.model is not None:
        folder = Path(settings.engine.model).expanduser().resolve()
        folders[folder.name] = folder
    here = folders.get(name, Path(name))
    return MeasuredModel(name=name, fingerprint=fingerprint_of(here) if here.is_dir() else None)


_COMPARE = {
    "answerer": _compare_answerers,
    "ranker": _compare_rerankers,
    "cross_encoder": _compare_rerankers,
    "embedder": _compare_embedders,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in get_args(ModelKind):
        of_kind = kinds.add_parser(kind)
        of_kind.add_argument("--new", type=Path, required=True, help="folder of the new model, with safetensors")
        of_kind.add_argument("--held-out", type=share, help="only questions of this share, which was kept from training")
        of_kind.add_argument("--out", type=Path, default=Path("evaluation.json"), help="file for the evaluation")
        _ADD[kind](of_kind)
    return parser


def _add_answerer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, help="sets of eval.run_qa, separated by commas, such as xquad-en")
    parser.add_argument("--baseline", help="the engine's name of the model that it would replace (default: what answers now)")
    numbers = {"--questions": (100, "of each set"), "--passages": (5, "that each is answered from")}
    numbers |= {"--answer-tokens": (128, "longest answer"), "--concurrency": (4, "questions asked at a time")}
    for name, (default, meaning) in numbers.items():
        parser.add_argument(name, type=at_least_one, default=default, help=f"{meaning} (default: {default})")
    parser.add_argument("--seed", type=int, default=0, help="for everything drawn at random (default: 0)")
    _add_served_as(parser)


def _add_ranker(parser: argparse.ArgumentParser) -> None:
    _add_candidates(parser, "the engine's name of the model that it would replace")
    parser.add_argument("--reranker", default="full_ranking", help="with options: full_ranking:format=compact")
    _add_served_as(parser)


def _add_cross_encoder(parser: argparse.ArgumentParser) -> None:
    _add_candidates(parser, "folder of the model that it would replace")


def _add_embedder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, help="folder below RAG_EVAL_DATA, such as scifact")
    parser.add_argument("--baseline", help="folder of the model that it would replace (default: the configured one)")
    parser.add_argument("--queries", type=at_least_one, help="only the first so many, by id")


def _add_candidates(parser: argparse.ArgumentParser, baseline: str) -> None:
    parser.add_argument("--data", type=Path, required=True, help="a folder with corpus, queries, judgments and runs")
    parser.add_argument("--first-stage", required=True, help="the run whose candidates are reranked, such as bm25")
    help_text = f"{baseline}, or {measuring.FIRST_STAGE} (default), the candidates as they are"
    parser.add_argument("--baseline", default=measuring.FIRST_STAGE, help=help_text)
    parser.add_argument("--queries", type=at_least_one, help="only the first so many, by id")
    parser.add_argument("--candidates", type=at_least_one, default=100, help="of each query (default: 100)")


def _add_served_as(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--served-as", metavar="NAME", help="what RAG_ENGINE__BASE_URL, if it is set, calls the new model")


_ADD = {
    "answerer": _add_answerer,
    "ranker": _add_ranker,
    "cross_encoder": _add_cross_encoder,
    "embedder": _add_embedder,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    return run_command("run_gate", _parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
