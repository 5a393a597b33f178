"""Answers the questions of a data set from passages given with each, through the served query flow, and grades the answers.

python -m eval.run_qa --dataset xquad-en --questions 50

With --predictions it grades a file of answers instead: what `rag-server batch` writes, or JSON Lines with `id` and `answer`,
and perhaps `rag`, the API's object. With --export it writes the passages and the questions for that.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from eval.command import run_command
from eval.engine import answering_model, engine_of
from eval.qa.arguments import add_asking_arguments, at_least_one
from eval.qa.datasets import QA_DATASETS, QaQuestion, given_contexts, load_questions, sample_questions
from eval.qa.export import PASSAGES, QUESTIONS, export
from eval.qa.given_passages import AskedQuestion, answer_all
from eval.qa.grading import Share, check_same_questions, compare, costs, count_shares, interval_of, score
from eval.qa.predictions import Prediction, read_predictions, write_predictions
from eval.report import Cell, Table, as_text, write_report
from eval.significance import wilson_interval
from rag_server.config import ReorderKind, Settings, load_settings

NOTES = (
    "Exact match, token F1 and substring match: mean over the answerable questions; a failed question scores 0.",
    "Mark precision and recall: mean over the answerable questions with a gold passage; mark [n] is what the model wrote.",
    "Citation precision and recall: likewise, with the sentences without a mark that were matched to a passage by their words.",
    "Quote literalness, refusal precision, refusal recall: shares of n quotes, n refusals, n unanswerable questions.",
    "Refusals are told by a list of phrases in English, German and Chinese (eval/qa/measures.py).",
    "Intervals are at 95%: Wilson's for shares, by bootstrap over the questions for other means.",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Which questions are asked, and from how many passages each is answered."""

    dataset: str
    num_questions: int
    num_passages: int
    seed: int


def draw(sample: Sample) -> list[QaQuestion]:
    """Return the questions, each with the passages it is to be answered from, best first.

    Raises:
        ConfigError: The data is not there, or holds too few passages.
    """
    dataset = load_questions(sample.dataset)
    return [
        replace(question, contexts=given_contexts(dataset, question, sample.num_passages, sample.seed))
        for question in sample_questions(dataset, sample.num_questions, sample.seed)
    ]


async def ask(
    settings: Settings, questions: Sequence[QaQuestion], *, reorder: ReorderKind, answer_tokens: int, concurrency: int
) -> tuple[str, list[Prediction]]:
    """Return the model's name and what came of each question."""
    asked = [AskedQuestion(question.id, question.question, question.contexts, reorder) for question in questions]
    async with engine_of(settings) as engine:
        model = await answering_model(engine, settings)
        return model, await answer_all(engine, asked, answer_tokens=answer_tokens, concurrency=concurrency, model=model)


def measures_table(
    title: str, questions: Sequence[QaQuestion], predictions: Sequence[Prediction], baseline: Sequence[Prediction] | None
) -> Table:
    """Return the table of all measures, with the paired p-value against the baseline's answers if there are any.

    Raises:
        ConfigError: The answers, or the baseline's, are to other questions.
    """
    scores = score(questions, predictions)
    rows: list[tuple[Cell, ...]] = []
    for name, values in scores.items():
        interval = interval_of(list(values.values()))
        rows.append((name, interval.mean, interval.low, interval.high, len(values)))
    for name, share in count_shares(questions, predictions).items():
        rows.append((name, *_interval_cells(share), share.trials))
    rows.append(("failed", sum(prediction.failed for prediction in predictions), None, None, len(predictions)))
    rows += [(name, mean, None, None, number) for name, (mean, number) in costs(predictions).items()]
    columns = ("measure", "value", "low", "high", "n")
    if baseline is None:
        return Table(title, columns, tuple(rows))
    p_values = compare(scores, score(questions, baseline))
    return Table(title, (*columns, "p"), tuple((*row, p_values.get(str(row[0]))) for row in rows))


def _interval_cells(share: Share) -> tuple[float | None, ...]:
    if not share.trials:
        return None, None, None
    interval = wilson_interval(share.successes, share.trials)
    return interval.mean, interval.low, interval.high


def report(
    folder: Path,
    questions: Sequence[QaQuestion],
    predictions: Sequence[Prediction],
    *,
    baseline: Sequence[Prediction] | None,
    command: str,
    settings: Mapping[str, object],
) -> bool:
    """Print the table, write it, the answers and each question's scores into the folder; return whether none failed."""
    title = f"{settings['dataset']}: {len(questions)} questions, {settings['passages']} passages each"
    table = measures_table(title, questions, predictions, baseline)
    print(as_text(table))
    failures = [f"failed: {prediction.id}: {prediction.error}" for prediction in predictions if prediction.failed]
    for line in failures:
        print(line, file=sys.stderr)
    write_predictions(folder / "predictions.jsonl", predictions)
    measures = {
        "table": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
        "scores": score(questions, predictions),
    }
    (folder / "measures.json").write_text(json.dumps(measures, indent=2) + "\n", encoding="utf-8")
    notes = [*NOTES, *failures]
    path = write_report(
        folder, title=f"Answers: {title}", command=command, settings=settings, tables=[table], plots=[], notes=notes
    )
    print(f"written: {path}")
    return not failures


def run(arguments: argparse.Namespace, command: str) -> bool:
    """Ask, or read the answers that there are, and report; return whether no question failed."""
    if arguments.export is not None:
        dataset = load_questions(arguments.dataset)
        sample = sample_questions(dataset, arguments.questions, arguments.seed)
        export(arguments.export, dataset, sample, max_tokens=arguments.answer_tokens)
        print(f"written: {arguments.export / PASSAGES}, {arguments.export / QUESTIONS}")
        return True
    settings = load_settings()
    reorder: ReorderKind = arguments.reorder or settings.reorder.kind
    questions = draw(Sample(arguments.dataset, arguments.questions, arguments.passages, arguments.seed))
    known: dict[str, object] = {"dataset": arguments.dataset, "passages": arguments.passages, "seed": arguments.seed}
    baseline = None if arguments.baseline is None else _read(arguments.baseline, questions)
    if arguments.predictions is not None:
        predictions = _read(arguments.predictions, questions)
        name = f"qa-{arguments.dataset}-{arguments.predictions.stem}"
        known["predictions"] = arguments.predictions
    else:
        limits = {"answer_tokens": arguments.answer_tokens, "concurrency": arguments.concurrency}
        model, predictions = asyncio.run(ask(settings, questions, reorder=reorder, **limits))
        name = f"qa-{arguments.dataset}-{reorder}"
        known |= {"model": model, "reorder": reorder, **limits}
    return report(arguments.out / name, questions, predictions, baseline=baseline, command=command, settings=known)


def _read(path: Path, questions: Sequence[QaQuestion]) -> list[Prediction]:
    predictions = read_predictions(path)
    check_same_questions(questions, predictions, str(path))
    return predictions


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset", required=True, choices=QA_DATASETS, metavar="NAME", help=f"one of {', '.join(QA_DATASETS)}"
    )
    parser.add_argument("--passages", type=at_least_one, default=5, help="passages each is answered from (default: 5)")
    parser.add_argument("--reorder", choices=get_args(ReorderKind), help="placing the passages (default: the settings')")
    parser.add_argument(
        "--export", type=Path, metavar="FOLDER", help="write the passages and the questions for `rag-server index` and `batch`"
    )
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="grade these answers instead of asking")
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="answers to compare with, question by question")
    add_asking_arguments(parser, questions=50, answer_tokens=128)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 if a question failed."""
    return run_command("run_qa", _parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
