"""Compares what a disturbed job has written with what an undisturbed one wrote: each row once, and the same."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_server.batch_types import Batch
from rag_server.commands.batching_output import errors_path
from rag_server.protocols import Json
from rag_server.store.batches import Batches

FAULTS = ("missing", "duplicates", "differing", "rewritten", "store", "status")
# It depends on the machine.
UNCOMPARED = "timings_ms"
PAGE = 100
Fault = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Output:
    """The answers and the errors of a job, as they were written."""

    answers: bytes
    errors: bytes

    @classmethod
    def of(cls, path: Path) -> "Output":
        """Read them."""
        errors = errors_path(path)
        return cls(path.read_bytes(), errors.read_bytes() if errors.exists() else b"")

    def rows(self) -> Iterator[Json]:
        """Yield every row, without what is not compared."""
        for line in [*self.answers.splitlines(), *self.errors.splitlines()]:
            row: dict[str, Any] = json.loads(line)
            yield {name: value for name, value in row.items() if name != UNCOMPARED}


def compare(found: Output, undisturbed: Output) -> list[Fault]:
    """Return what differs between the two."""
    rows = list(found.rows())
    expected = {row["id"]: row for row in undisturbed.rows()}
    by_id = {row["id"]: row for row in rows}
    faults = [("duplicates", f"{id_} is there {count} times") for id_, count in _counts(rows) if count > 1]
    faults += [("missing", id_) for id_ in expected if id_ not in by_id]
    faults += [("differing", id_) for id_, row in by_id.items() if row != expected.get(id_)]
    return faults


def check_store(batches: Batches, batch: Batch, num_rows: int) -> list[Fault]:
    """Return what is wrong with the recorded results: each row has one, in a place of its own, and they are counted."""
    numbers: list[int] = []
    sequences: list[int] = []
    after = -1
    while page := batches.results(batch, after, PAGE):
        numbers += [row.row.number for row in page]
        sequences += [row.sequence for row in page]
        after = sequences[-1]
    faults: list[Fault] = []
    if sorted(numbers) != list(range(num_rows)):
        faults.append(("store", f"{len(numbers)} results of {len(set(numbers))} rows are recorded, not {num_rows}"))
    if len(set(sequences)) != len(sequences):
        faults.append(("store", "results share a place in the order of finishing"))
    if (batch.status, batch.total, batch.completed + batch.failed) != ("completed", num_rows, num_rows):
        faults.append(("store", f"the batch is {batch.status}, with {batch.completed} + {batch.failed} of {batch.total} rows"))
    return faults


def check_kept(answers: bytes, seen: Sequence[bytes]) -> list[Fault]:
    """Return where an output that was seen in between is not what the last one begins with."""
    return [
        ("rewritten", f"the {part.count(chr(10).encode())} answers after a kill")
        for part in seen
        if not answers.startswith(part)
    ]


def _counts(rows: Sequence[Json]) -> list[tuple[str, int]]:
    return list(Counter(str(row["id"]) for row in rows).items())
