"""What the job asks, and who is killed when: both drawn from a seed."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from eval.bench_server import NUM_WORDS
from rag_server.protocols import Json

PROCESS, STARTING, ENGINE, VALKEY = "the process", "the process while it starts", "the engine", "Valkey"
VICTIMS = (PROCESS, STARTING, ENGINE, VALKEY)
# Again and again; a start is the start after the kill before. No process loses its Valkey twice: it would wait for the next.
TURN = (VALKEY, ENGINE, PROCESS, ENGINE, VALKEY, PROCESS, STARTING)
MAX_DELAY_S = 0.3
# The others come before this share of the answers is there: nothing runs any more after the last one.
LAST_SHARE = 0.85
# From the call of the command to the first row.
MAX_START_S = 3.0
# One row in so many asks what the one before asks, is sampled, or cannot be answered.
ALIKE, SAMPLED, REFUSED = 10, 25, 50


@dataclass(frozen=True, slots=True)
class Kill:
    """Who is killed, and when: so long after so many answers are written; of a start, after its begin."""

    victim: str
    answers: int
    delay_s: float


def make_rows(num_rows: int, chooser: random.Random) -> list[Json]:
    """Return the rows of the job, of which some are alike, some sampled, and some refused."""
    rows: list[Json] = []
    for number in range(num_rows):
        question = " ".join(f"word{chooser.randrange(NUM_WORDS)}" for _ in range(8))
        row: Json = {"id": f"row {number}", "question": question}
        if number % ALIKE == ALIKE - 1:
            row["question"] = rows[-1]["question"]
        if number % SAMPLED < 2:
            row |= {"question": "word1 word2 word3", "temperature": 0.5}
        if number % REFUSED == REFUSED // 2 + 4:
            row["rag"] = {"retrieve": "magic"}
        rows.append(row)
    return rows


def is_refused(row: Json) -> bool:
    """Return whether a row is one that fails."""
    return "rag" in row


def draw_kills(number: int, num_answers: int, chooser: random.Random) -> Iterator[Kill]:
    """Yield so many kills; the last one is of the process, when all but one of the answers are there."""
    victims = list(itertools.islice(itertools.cycle(TURN), number - 1))
    reached = sorted(chooser.randrange(int(LAST_SHARE * num_answers)) for _ in victims)
    for victim, answers in zip(victims, reached, strict=True):
        yield Kill(victim, answers, chooser.random() * (MAX_START_S if victim == STARTING else MAX_DELAY_S))
    yield Kill(PROCESS, num_answers - 1, chooser.random() * MAX_DELAY_S)
