"""`rag-server batch --ray` writes what the same job writes without a cluster."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from rag_server.config import Settings

NUM_ROWS = 200
SUBJECTS = ("cats", "ketches", "teas", "stars", "boats", "moons", "lamps", "wells")


def _write_rows(path: Path) -> None:
    """Every tenth row asks what others ask, and every fiftieth cannot be answered."""
    rows = []
    for number in range(NUM_ROWS):
        subject = SUBJECTS[number % len(SUBJECTS)]
        row: dict[str, object] = {"id": f"r{number}", "question": f"What is the number of {subject} in {number // 10 * 10}?"}
        if number % 50 == 9:
            row["rag"] = {"retrieve": "magic"}
        rows.append(row)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _read(path: Path) -> dict[str, dict]:
    """Return the rows by their ids, without their timings and with their passages in the order of ids; each is there once."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["id"] for row in found}) == len(found)
    for row in found:
        row.pop("timings_ms", None)
        # Vectors of questions differ in their last bits by what was embedded beside them: of passages that are nearly as near
        # either may stand first.
        for passage in row.get("passages", ()):
            del passage["rank"], passage["score"]
        row.get("passages", []).sort(key=lambda passage: passage["id"])
    return {row["id"]: row for row in found}


def test_a_cluster_answers_the_same_rows(
    settings: Settings,
    index: Callable[..., None],
    scripted_engine: Callable[..., AbstractContextManager[str]],
    tmp_path: Path,
) -> None:
    """Two workers of a local cluster give the same answers and the same errors, each row once."""
    index("docs", {f"{name}.md": f"# {name}\n\nThe number of {name} is {100 + place}." for place, name in enumerate(SUBJECTS)})
    _write_rows(tmp_path / "in.jsonl")
    with scripted_engine() as engine:
        environment = {**os.environ, "RAG_DATA_DIR": str(settings.data_dir), "RAG_ENGINE__BASE_URL": engine}
        # The parts of a cluster find each other by this machine's own address, which the guard takes for another machine's.
        environment |= {"PYTHONPATH": "", "RAY_USAGE_STATS_ENABLED": "0"}
        # All of them, so that none of two that are nearly as near is left out.
        environment["RAG_PROMPT__NUM_PASSAGES"] = str(len(SUBJECTS))
        for name, on in (("plain", []), ("ray", ["--ray", "local"])):
            files = [str(tmp_path / "in.jsonl"), str(tmp_path / f"{name}.jsonl")]
            command = [sys.executable, "-m", "rag_server.cli", "batch", *files, "--collection", "docs", *on]
            run = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert "4 rows failed" in run.stderr, run.stderr

    answers, errors = _read(tmp_path / "ray.jsonl"), _read(tmp_path / "ray.errors.jsonl")
    assert (len(answers), len(errors)) == (NUM_ROWS - 4, 4)
    assert answers == _read(tmp_path / "plain.jsonl")
    assert errors == _read(tmp_path / "plain.errors.jsonl")
