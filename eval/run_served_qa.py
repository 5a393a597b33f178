"""Asks the server itself, over HTTP, questions with their gold passage among five, once of each of two models.

python -m eval.run_served_qa --dataset xquad-en --questions 100 --held-out 0.3 \
    --baseline smollm2-135m-instruct --model smollm2-135m-rag

The set is indexed in the collection `qa-` and its name; a filter leaves each question its own five passages, and all of their
chunks are in the prompt.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.command import run_command
from eval.qa.arguments import add_asking_arguments, at_least_one, share
from eval.qa.datasets import QA_DATASETS, QaQuestion, load_questions
from eval.qa.export import PASSAGES, write_passages
from eval.qa.predictions import Prediction, write_predictions
from eval.qa.served import Served, answer_served
from eval.ranking.searching import wait_for_engine
from eval.report import as_text
from eval.run_retrieval import serving
from eval.tuning.gate import Basis, Measurement, answer_scores, as_table, check_complete, evaluation_of, hash_of
from eval.tuning.measuring import draw_questions, questions_data
from rag_server.commands.indexing import FileOptions, run_index
from rag_server.config import Settings, load_settings
from rag_server.errors import RagServerError
from rag_server.model_evaluation import MeasuredModel


async def ask_both(
    settings: Settings, questions: Sequence[QaQuestion], ids: dict[str, str], given: argparse.Namespace
) -> list[list[Prediction]]:
    """Return what came of each question, of the baseline and of the model.

    Raises:
        RagServerError: The server does not come up, or a question failed.
    """
    answers = []
    async with serving(None, settings, with_engine=True) as server, server.client() as client:
        await wait_for_engine(client)
        collection = str((await client.get(f"/v1/vector_stores/{_collection(given)}")).json()["id"])
        served = Served(client, collection, ids)
        for model in (given.baseline, given.model):
            limits = {"answer_tokens": given.answer_tokens, "concurrency": given.concurrency}
            answers.append(await answer_served(served, questions, model=model, **limits))
            check_complete([f"{one.id}: {one.error}" for one in answers[-1] if one.failed], model)
    return answers


def _collection(given: argparse.Namespace) -> str:
    return f"qa-{given.dataset}"


def _index(settings: Settings, passages: Path, collection: str) -> None:
    options = FileOptions()
    if not run_index(settings, [passages], collection=collection, options=options, prune=False, assume_yes=True, as_json=False):
        raise RagServerError(f"{passages} could not be indexed; correct what is named above")


def run(given: argparse.Namespace, command: str) -> None:
    """Index, ask, print the comparison, and write the answers and it."""
    settings, out = load_settings(), given.out / f"served-{given.dataset}"
    limits = {"num_questions": given.questions, "num_passages": given.passages, "seed": given.seed}
    questions = draw_questions([given.dataset], share=given.held_out, **limits)
    out.mkdir(parents=True, exist_ok=True)
    ids = write_passages(out / PASSAGES, load_questions(given.dataset))
    _index(settings, out / PASSAGES, _collection(given))
    answers = asyncio.run(ask_both(settings, questions, ids, given))
    baseline, new = (answer_scores(questions, predictions) for predictions in answers)
    names = (given.baseline, given.model)
    evaluation = evaluation_of(
        "answerer",
        Measurement(new, baseline),
        new=MeasuredModel(name=given.model, fingerprint=None),
        baseline=MeasuredModel(name=given.baseline, fingerprint=None),
        basis=Basis(given.dataset, hash_of(questions_data(questions)), given.held_out, command),
    )
    print(as_text(as_table(evaluation)))
    for name, predictions in zip(names, answers, strict=True):
        write_predictions(out / f"{name}.jsonl", predictions)
    (out / "comparison.json").write_text(evaluation.model_dump_json(indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=QA_DATASETS, metavar="NAME", help="a set of eval.run_qa")
    parser.add_argument("--baseline", required=True, help="the engine's name of the model that is compared with")
    parser.add_argument("--model", required=True, help="the engine's name of the other")
    parser.add_argument("--passages", type=at_least_one, default=5, help="passages each is answered from (default: 5)")
    parser.add_argument("--held-out", type=share, help="only questions of this share, which was kept from training")
    add_asking_arguments(parser, questions=100, answer_tokens=64)
    return run_command("run_served_qa", parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
