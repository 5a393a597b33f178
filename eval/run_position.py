"""Measures how accuracy depends on the place of the gold passage, on the number of passages, and on their order in the prompt.

python -m eval.run_position --data FOLDER/lost-in-the-middle --questions 20

After Liu et al., Lost in the Middle (arXiv 2307.03172), and, for orders and hard negatives, Jin et al., Long-Context LLMs Meet
RAG (arXiv 2410.05983). An answer is right if one of the question's answers stands in it. Prompts are the server's own.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from eval.command import run_command
from eval.engine import answering_model, engine_of
from eval.qa.arguments import add_asking_arguments, at_least_one
from eval.qa.datasets import QaDataset, QaQuestion, load_lost_in_the_middle, sample_questions
from eval.qa.given_passages import AskedQuestion, answer_all
from eval.qa.grading import costs
from eval.qa.measures import substring_match
from eval.qa.position_trials import ORDERS, Condition, Negatives, ask_under, cut_passages, number_conditions, place_conditions
from eval.qa.predictions import Prediction
from eval.ranking.datasets import evaluation_folder
from eval.report import Plot, Series, Table, as_text, write_report
from eval.significance import Interval, mcnemar_p_value, wilson_interval
from rag_server.config import Settings, load_settings

NOTES = (
    "Accuracy: the share of questions with one of their answers in what was said; failed ones are wrong (Wilson, 95%).",
    "Place: the gold passage at this place of the prompt, the other passages in retrieval order.",
    "Order: the gold passage has a rank drawn with probability in proportion to 1 / rank, the same for every order.",
    "Order `random`: the ranking shuffled. p: exact McNemar test of an order against `none` on the same questions.",
    "Negatives: `hard` are the question's own distractors in retrieval order, `random` are passages of other questions.",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """A question asked under a condition, and what came of it."""

    condition: Condition
    question: QaQuestion
    asked: AskedQuestion
    prediction: Prediction

    @property
    def correct(self) -> bool:
        """Whether one of the question's answers stands in the answer."""
        return bool(substring_match(self.prediction.answer or "", self.question.answers))

    def as_row(self) -> dict[str, object]:
        """Return the trial for a JSON Lines file, with the gold passage's rank and its place in the prompt, from 1."""
        rank = next(rank for rank, context in enumerate(self.asked.ranked, start=1) if context.is_gold)
        placed = [] if self.prediction.rag is None else [passage.id for passage in self.prediction.rag.passages]
        places = {"gold_rank": rank, "gold_place": placed.index(rank) + 1 if rank in placed else None}
        answered = self.prediction.model_dump(exclude={"rag"})
        return {**asdict(self.condition), **places, **answered, "correct": self.correct}


async def run_trials(
    settings: Settings, dataset: QaDataset, conditions: Sequence[Condition], arguments: argparse.Namespace
) -> tuple[str, list[Trial]]:
    """Return the model's name and a trial per question and condition, those of a question together, for the prefix cache."""
    questions = sample_questions(dataset, arguments.questions, arguments.seed)
    planned = [
        (condition, question, ask_under(condition, question, dataset, arguments.seed))
        for question in questions
        for condition in conditions
    ]
    words = sum(len(context.text.split()) for _, _, asked in planned for context in asked.ranked)
    print(f"{len(planned)} calls: {len(conditions)} for each of {len(questions)} questions, {words:,} words of passages in all")
    async with engine_of(settings) as engine:
        model = await answering_model(engine, settings)
        predictions = await answer_all(
            engine,
            [asked for _, _, asked in planned],
            answer_tokens=arguments.answer_tokens,
            concurrency=arguments.concurrency,
            model=model,
        )
    trials = [Trial(*plan, whole_prompt(prediction)) for plan, prediction in zip(planned, predictions, strict=True)]
    return model, trials


def whole_prompt(prediction: Prediction) -> Prediction:
    """Return the prediction, failed if passages were dropped from the prompt: it would tell nothing of the place."""
    if prediction.rag is None or not prediction.rag.num_dropped:
        return prediction
    error = (
        f"{prediction.rag.num_dropped} passages did not fit into the engine's context; lower --num-passages or --passage-words"
    )
    return prediction.model_copy(update={"answer": None, "error": error})


def accuracies(trials: Sequence[Trial]) -> dict[Condition, dict[str, bool]]:
    """Return for each condition which question came out right."""
    correct: dict[Condition, dict[str, bool]] = {}
    for trial in trials:
        correct.setdefault(trial.condition, {})[trial.question.id] = trial.correct
    return correct


def place_table(correct: Mapping[Condition, Mapping[str, bool]]) -> Table:
    """Return accuracy by number of passages and place of the gold one."""
    rows = []
    for condition, right in correct.items():
        if condition.place is not None:
            accuracy = _accuracy(right)
            rows.append((condition.num_passages, condition.place, accuracy.mean, accuracy.low, accuracy.high, len(right)))
    return Table(
        "Accuracy by the place of the gold passage", ("passages", "place", "accuracy", "low", "high", "n"), tuple(rows)
    )


def order_table(correct: Mapping[Condition, Mapping[str, bool]]) -> Table:
    """Return accuracy by number of passages, kind of negatives and order, with the p-value of each order against `none`."""
    rows = []
    for condition, right in correct.items():
        if condition.place is None:
            accuracy = _accuracy(right)
            plain = correct[Condition(condition.num_passages, condition.negatives, "none")]
            p_value = None if condition.order == "none" else mcnemar_p_value(right, plain)
            shown = (condition.num_passages, condition.negatives, condition.order)
            rows.append((*shown, accuracy.mean, accuracy.low, accuracy.high, p_value, len(right)))
    columns = ("passages", "negatives", "order", "accuracy", "low", "high", "p", "n")
    return Table("Accuracy by the number of passages and their order", columns, tuple(rows))


def cost_table(trials: Sequence[Trial]) -> Table:
    """Return the number of calls and failures, and what a call took."""
    predictions = [trial.prediction for trial in trials]
    counts = [("calls", len(trials)), ("failed", sum(prediction.failed for prediction in predictions))]
    return Table("Cost", ("what", "value"), (*counts, *((name, mean) for name, (mean, _) in costs(predictions).items())))


def plots(correct: Mapping[Condition, Mapping[str, bool]]) -> list[Plot]:
    """Return accuracy by place, a line per number of passages, and for each kind of negatives by number, bars per order."""
    numbers = sorted({condition.num_passages for condition in correct})
    lines = tuple(_place_series(number, correct) for number in numbers)
    drawn = [Plot("by-place.png", "Accuracy by place", "place of the gold passage in the prompt", "accuracy", lines)]
    for kind in get_args(Negatives):
        if Condition(numbers[0], kind, "none") in correct:
            bars = tuple(
                _series(order, range(len(numbers)), [correct[Condition(number, kind, order)] for number in numbers])
                for order in ORDERS
            )
            title = f"Accuracy by number of passages, {kind} negatives"
            categories = tuple(map(str, numbers))
            drawn.append(Plot(f"by-number-{kind}.png", title, "passages in the prompt", "accuracy", bars, categories))
    return drawn


def _place_series(number: int, correct: Mapping[Condition, Mapping[str, bool]]) -> Series:
    points = {
        condition.place: right
        for condition, right in correct.items()
        if condition.num_passages == number and condition.place is not None
    }
    return _series(f"{number} passages", list(points), list(points.values()))


def _series(label: str, x: Sequence[int], rights: Sequence[Mapping[str, bool]]) -> Series:
    intervals = [_accuracy(right) for right in rights]
    y, low, high = zip(*((interval.mean, interval.low, interval.high) for interval in intervals), strict=True)
    return Series(label, tuple(x), y, low, high)


def _accuracy(right: Mapping[str, bool]) -> Interval:
    return wilson_interval(sum(right.values()), len(right))


def run(arguments: argparse.Namespace, command: str) -> bool:
    """Ask every question under every condition and report; return whether no question failed."""
    folder = arguments.data or evaluation_folder() / "lost-in-the-middle"
    dataset = cut_passages(load_lost_in_the_middle(folder), arguments.passage_words)
    conditions = place_conditions(arguments.num_passages, arguments.positions)
    conditions += number_conditions(arguments.num_passages, arguments.negatives)
    model, trials = asyncio.run(run_trials(load_settings(), dataset, conditions, arguments))
    correct = accuracies(trials)
    tables = [place_table(correct), order_table(correct), cost_table(trials)]
    print(*map(as_text, tables), sep="\n\n")
    failures = [
        f"failed: {trial.question.id} under {trial.condition}: {trial.prediction.error}"
        for trial in trials
        if trial.prediction.failed
    ]
    for line in failures:
        print(line, file=sys.stderr)
    out = arguments.out / "position"
    settings = {"model": model, **vars(arguments), "data": folder}
    notes = [*NOTES, *failures]
    path = write_report(
        out,
        title=f"Position study: {model}",
        command=command,
        settings=settings,
        tables=tables,
        plots=plots(correct),
        notes=notes,
    )
    rows = "".join(json.dumps(trial.as_row(), ensure_ascii=False) + "\n" for trial in trials)
    (out / "trials.jsonl").write_text(rows, encoding="utf-8")
    print(f"written: {path}")
    return not failures


def _numbers(text: str) -> list[int]:
    return sorted({at_least_one(part) for part in text.split(",")})


def _negatives(text: str) -> list[str]:
    kinds = text.split(",")
    unknown = [kind for kind in kinds if kind not in get_args(Negatives)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(get_args(Negatives))}")
    return kinds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder (default: lost-in-the-middle below RAG_EVAL_DATA)")
    parser.add_argument("--num-passages", type=_numbers, default=[5, 10, 20], help="such as 5,10,20 (default)")
    parser.add_argument("--positions", type=at_least_one, default=5, help="places of the gold passage (default: 5)")
    parser.add_argument(
        "--negatives", type=_negatives, default=["hard", "random"], help="hard, random or hard,random (default)"
    )
    parser.add_argument("--passage-words", type=at_least_one, default=100, help="longest passage, in words (default: 100)")
    add_asking_arguments(parser, questions=20, answer_tokens=32)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 if a question failed."""
    return run_command("run_position", _parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
