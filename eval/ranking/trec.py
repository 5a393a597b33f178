"""Reads and writes rankings as TREC run files; beside each written one stands a JSON file that says how it came about."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from eval.data_files import open_text
from eval.ranking.rankings import Rankings, Run
from rag_server import __version__
from rag_server.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RunRecord:
    """How a run came about.

    `models` names the model of each part, `index` is the id of the vector store that was searched, `measures` are means over
    the queries.
    """

    settings: Mapping[str, object]
    models: Mapping[str, str | None]
    measures: Mapping[str, float]
    index: str | None = None


def read_run(path: Path) -> Run:
    """Return the rankings of a run file, plain or compressed as .gz, each in the order of its ranks.

    Raises:
        ConfigError: The file is missing, or a line is not `query Q0 document rank score tag`; the message names it.
    """
    ranked: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            query_id, document_id, rank, score = _fields(line, f"{path} line {number}")
            if document_id in ranked[query_id]:
                raise ConfigError(f"{path} line {number} ranks {document_id} for query {query_id} once more; remove one line")
            ranked[query_id][document_id] = (rank, score)
    return {
        query_id: {document_id: score for document_id, (_, score) in sorted(documents.items(), key=lambda item: item[1][0])}
        for query_id, documents in ranked.items()
    }


def write_run(path: Path, rankings: Rankings, *, tag: str, record: RunRecord) -> None:
    """Write a run file, and beside it as JSON the record, what the ranking took, what failed, the date and the version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for query_id, documents in rankings.run.items():
            for rank, (document_id, score) in enumerate(documents.items(), start=1):
                file.write(f"{query_id} Q0 {document_id} {rank} {score} {tag}\n")
    said = {
        "tag": tag,
        "date": datetime.now(UTC).isoformat(),
        "version": __version__,
        **asdict(record),
        "counters": {**asdict(rankings.report), "fallback": rankings.num_fallbacks},
        "first_fallback": rankings.report.fallback,
        "failed": rankings.failed,
    }
    path.with_suffix(".json").write_text(json.dumps(said, indent=2, default=str) + "\n", encoding="utf-8")


def _fields(line: str, place: str) -> tuple[str, str, int, float]:
    fields = line.split()
    try:
        query_id, _, document_id, rank, score, _ = fields
        if not math.isfinite(float(score)):
            raise ValueError(f"{score} is no score")
        return query_id, document_id, int(rank), float(score)
    except ValueError as error:
        raise ConfigError(f"{place} is not `query Q0 document rank score tag`: {error}") from None
