"""Run files: read as they are written, refused by line where they are malformed."""

import gzip
import json
from dataclasses import asdict
from pathlib import Path

import ir_measures
import pytest

from eval.ranking.rankings import RankingCollector, Rankings
from eval.ranking.trec import RunRecord, read_run, write_run
from rag_server import __version__
from rag_server.errors import ConfigError
from rag_server.types import RankingReport

RECORD = RunRecord(settings={"window": 20}, models={"reranker": "m"}, measures={"nDCG@10": 0.5}, index="vs_1")


def test_run_is_ordered_by_rank_whatever_the_order_of_its_lines(tmp_path: Path) -> None:
    """The ranks count, not the lines; a file may be compressed."""
    lines = "q1 Q0 b 2 1.5 tag\nq2 Q0 c 1 9 tag\nq1 Q0 a 1 1.5 tag\n"
    (tmp_path / "plain.trec").write_text(lines)
    (tmp_path / "packed.trec.gz").write_bytes(gzip.compress(lines.encode()))

    for name in ("plain.trec", "packed.trec.gz"):
        run = read_run(tmp_path / name)
        assert {id_: list(documents.items()) for id_, documents in run.items()} == {
            "q1": [("a", 1.5), ("b", 1.5)],
            "q2": [("c", 9.0)],
        }


def test_written_run_is_read_by_ir_measures(tmp_path: Path) -> None:
    """Another reader of run files finds the same rankings."""
    rankings = Rankings({"q1": {"a": 2.0, "b": 1.0}, "q2": {"c": 1.0}})

    write_run(tmp_path / "runs" / "x.trec", rankings, tag="x", record=RECORD)

    found = [(row.query_id, row.doc_id, row.score) for row in ir_measures.read_trec_run(str(tmp_path / "runs" / "x.trec"))]
    assert found == [("q1", "a", 2.0), ("q1", "b", 1.0), ("q2", "c", 1.0)]
    assert read_run(tmp_path / "runs" / "x.trec") == rankings.run


def test_record_says_how_the_run_came_about(tmp_path: Path) -> None:
    """Settings, models, index, summed counters, fallbacks, failed queries, date and version stand beside the run."""
    collector = RankingCollector()
    collector.add("q1", ["a"], RankingReport(calls=2, prompt_tokens=10, fallback="too late"))
    collector.add("q2", ["b"], RankingReport(calls=1, prompt_tokens=5))
    collector.fail("q3", "EngineUnavailableError: down")

    write_run(tmp_path / "x.trec", collector.rankings(), tag="x", record=RECORD)

    record = json.loads((tmp_path / "x.json").read_text())
    assert {name: record[name] for name in asdict(RECORD)} == asdict(RECORD)
    assert (record["counters"]["calls"], record["counters"]["prompt_tokens"], record["counters"]["fallback"]) == (3, 15, 1)
    assert record["first_fallback"] == "too late"
    assert record["failed"] == {"q3": "EngineUnavailableError: down"}
    assert record["version"] == __version__
    assert record["date"].startswith("20")


def test_faults_are_told_in_words() -> None:
    """Failed queries and fallbacks are listed, each under the ranking's name."""
    collector = RankingCollector()
    collector.add("q1", ["a"], RankingReport(fallback="too late"))
    collector.fail("q2", "down")

    assert collector.rankings().faults("full_ranking") == [
        "full_ranking: query q2 failed and counts as zero: down",
        "full_ranking: for 1 queries the first stage's order was used instead; the first reason: too late",
    ]


@pytest.mark.parametrize(
    "line", ["q1 Q0 a 1 2.0", "q1 Q0 a one 2.0 tag", "q1 Q0 a 1 high tag", "q1 Q0 a 1 nan tag", "q1 Q0 a 1 2.0 tag more", ""]
)
def test_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    """A line of another form is an error that says where."""
    (tmp_path / "x.trec").write_text(f"q1 Q0 z 9 0.1 tag\n{line}\n")

    with pytest.raises(ConfigError, match=r"x\.trec line 2 is not"):
        read_run(tmp_path / "x.trec")


def test_document_that_is_ranked_twice_is_named(tmp_path: Path) -> None:
    """A document has one place in a ranking."""
    (tmp_path / "x.trec").write_text("q1 Q0 a 1 2 tag\nq1 Q0 a 2 1 tag\n")

    with pytest.raises(ConfigError, match=r"line 2 ranks a for query q1 once more"):
        read_run(tmp_path / "x.trec")


def test_unreadable_file_is_named(tmp_path: Path) -> None:
    """A file that is missing, cut short or not compressed is an error with a name."""
    whole = gzip.compress(b"q1 Q0 a 1 2 tag\n" * 100)
    (tmp_path / "cut.trec.gz").write_bytes(whole[:-12])
    (tmp_path / "plain.trec.gz").write_text("q1 Q0 a 1 2 tag\n")

    with pytest.raises(ConfigError, match=r"none\.trec is missing"):
        read_run(tmp_path / "none.trec")
    with pytest.raises(ConfigError, match=r"plain\.trec\.gz cannot be read"):
        read_run(tmp_path / "plain.trec.gz")
    with pytest.raises(ConfigError, match=r"cut\.trec\.gz"):
        read_run(tmp_path / "cut.trec.gz")
