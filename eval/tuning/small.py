"""Trains all three models on a handful of made-up facts, from data to a model folder, to show that every part works.

python -m eval.tuning.small --out FOLDER

It shows nothing of how good they become: for that there are `make train-embedder`, `make train-ranker`, `make train-answerer`.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import indexers.training.train as embedder
import rag_server.training.train as answerer
import rerankers.training.train as ranker
from eval.report import Table, as_text
from eval.tuning.answer_rows import write_rows
from rag_server.engines import smollm2_weights
from rag_server.learning.record import RECORD_FILE
from rag_server.protocols import Json
from rag_server.training.rows import Row, RowPassage

PLACES = ("Utsira", "Bergen", "Stord", "Florø", "Smøla", "Hitra", "Træna", "Vega", "Røst", "Værøy", "Andøya", "Senja")
NUM_CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of one training: the losses of its first and last logged step, and what it took."""

    name: str
    first_loss: float
    last_loss: float
    tokens_per_s: float
    seconds: float


def make_data(folder: Path) -> None:
    """Write the data of the three trainings."""
    chooser = random.Random(0)
    facts = {place: f"{chooser.randint(6, 11)}:{chooser.randint(10, 59)}" for place in PLACES}
    texts = {place: f"The ferry to {place} leaves at {time_} from the northern quay." for place, time_ in facts.items()}
    rows = [
        Row(
            id=place,
            question=f"When does the ferry to {place} leave?",
            answers=(facts[place],),
            passages=(RowPassage(title=place, text=texts[place], gold=True),),
        )
        for place in PLACES
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", rows)
    _write(folder / "pairs.jsonl", [_pair(row, texts, chooser) for row in rows])
    _write(folder / "labels.jsonl", [_label(row, texts, chooser) for row in rows])


def trainings(base: Path, folder: Path, *, steps: int) -> dict[str, Callable[[], Trained]]:
    """Return what trains each of the models in the folder, with the data that is there, by its name."""
    common = ["--base", str(base), "--steps", str(steps), "--log-every", "1", "--rank", "4", "--learning-rate", "5e-4"]
    pairs = ["--data", str(folder / "pairs.jsonl"), "--batch-size", "4", "--negatives", "2", "--max-tokens", "64"]
    labels = ["--labels", str(folder / "labels.jsonl"), "--accumulation", "2", "--format"]
    runs: dict[str, tuple[Callable[[Sequence[str]], None], list[str]]] = {
        "answerer": (answerer.main, ["--rows", str(folder / "rows.jsonl"), "--accumulation", "2"]),
        "embedder": (embedder.main, pairs),
        **{f"ranker, {form} format": (ranker.main, [*labels, form]) for form in ("compact", "paper")},
    }
    return {name: partial(_trained, name, main, folder, [*common, *own]) for name, (main, own) in runs.items()}


def _trained(name: str, main: Callable[[Sequence[str]], None], folder: Path, arguments: Sequence[str]) -> Trained:
    out = folder / name.replace(", ", "-").replace(" ", "-")
    started = time.perf_counter()
    main([*arguments, "--out", str(out)])
    record = json.loads((out / RECORD_FILE).read_text())
    losses = [row["loss"] for row in record["log"]]
    return Trained(name, losses[0], losses[-1], record["tokens_per_s"], time.perf_counter() - started)


def _pair(row: Row, texts: dict[str, str], chooser: random.Random) -> Json:
    wrong = chooser.sample([text for place, text in texts.items() if place != row.id], 2)
    return {"query": row.question, "positives": [texts[row.id]], "negatives": wrong}


def _label(row: Row, texts: dict[str, str], chooser: random.Random) -> Json:
    """Return a label whose first stage found the right passage at some rank."""
    others = chooser.sample([place for place in texts if place != row.id], NUM_CANDIDATES - 1)
    found = [*others, row.id]
    chooser.shuffle(found)
    order = [found.index(row.id), *(index for index, place in enumerate(found) if place != row.id)]
    passages = [{"id": place, "title": place, "text": texts[place]} for place in found]
    return {"query_id": row.id, "query": row.question, "passages": passages, "permutation": order}


def _write(path: Path, rows: Sequence[Json]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the status is 1 where a loss did not fall."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the data and the models")
    parser.add_argument("--base", type=Path, help="model folder; the packaged SmolLM2 if left out")
    parser.add_argument("--steps", type=int, default=6)
    given = parser.parse_args(arguments)
    base = given.base or given.out / smollm2_weights.MODEL_NAME
    if given.base is None:
        smollm2_weights.convert(base)
    make_data(given.out)
    trained = [train() for train in trainings(base, given.out, steps=given.steps).values()]
    columns = ("model", "first loss", "last loss", "tokens/s", "seconds")
    rows = tuple((one.name, one.first_loss, one.last_loss, one.tokens_per_s, one.seconds) for one in trained)
    print(as_text(Table(f"{given.steps} steps each", columns, rows)))
    risen = [one.name for one in trained if one.last_loss >= one.first_loss]
    if risen:
        sys.exit(f"the loss did not fall: {', '.join(risen)}")


if __name__ == "__main__":
    main()
