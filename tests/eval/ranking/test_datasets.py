"""Evaluation data as it is read, and what is said of data that is missing, malformed or does not fit together."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eval.ranking.datasets import load_beir, load_reranking, load_stored_run
from rag_server.errors import ConfigError
from tests.eval.reranking_data import CORPUS, QUERIES, write_folder, write_ranking, write_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "small")


@pytest.fixture
def beir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\nq2\td3\t1\n")
    monkeypatch.setenv("RAG_EVAL_DATA", str(folder.parent))
    return folder


def test_only_judged_queries_are_loaded(beir: Path) -> None:
    """Queries without a judgment are left out, grades are kept."""
    dataset = load_beir("small")

    assert dataset.queries == {"q1": QUERIES["q1"], "q2": QUERIES["q2"]}
    assert dataset.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2, "d3": 1}}
    assert dataset.corpus_path == beir / "corpus.jsonl.gz"
    assert load_beir("small", num_queries=1).qrels == {"q1": {"d1": 1}}


def test_queries_may_be_compressed(beir: Path) -> None:
    """queries.jsonl.gz is read where there is no queries.jsonl."""
    plain = load_beir("small")
    (beir / "queries.jsonl").unlink()
    write_rows(beir / "queries.jsonl.gz", QUERIES)

    assert load_beir("small") == plain


def test_missing_data_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the data, or without the variable, the message names RAG_EVAL_DATA."""
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="RAG_EVAL_DATA"):
        load_beir("small")
    monkeypatch.delenv("RAG_EVAL_DATA")
    with pytest.raises(ConfigError, match="RAG_EVAL_DATA"):
        load_beir("small")


def test_candidates_are_the_first_stage_with_text(folder: Path) -> None:
    """Each judged query has its candidates in the first stage's order, with title, text, score and rank."""
    dataset = load_reranking(folder, first_stage="bm25")

    assert list(dataset.queries) == ["q1", "q2"]
    assert dataset.name == "small"
    assert dataset.judgments == "qrels.dl19.full.tsv"
    first, second, _ = dataset.candidates["q1"]
    assert (first.document_id, first.rank, first.score) == ("d3", 1, 10.0)
    assert (second.document_id, second.rank, second.score) == ("d1", 2, 9.0)
    assert (second.title, second.text, second.start, second.end) == ("On d1", CORPUS["d1"], 0, len(CORPUS["d1"]))
    assert len({passage.id for passages in dataset.candidates.values() for passage in passages}) == 4


def test_judgments_are_chosen_by_name(folder: Path) -> None:
    """`full` is the default, `pool` is asked for; a passage is relevant to TREC's track from grade 2."""
    full, pool = load_reranking(folder, first_stage="bm25"), load_reranking(folder, first_stage="bm25", judgments="pool")

    assert full.qrels == {"q1": {"d1": 3, "d4": 1}, "q2": {"d2": 2, "d9": 0}}
    assert pool.qrels == {"q1": {"d1": 1}, "q2": {"d2": 1}}
    assert full.relevant_from == 2


def test_only_judgments_need_no_name(folder: Path) -> None:
    """A folder with qrels.tsv has one set of judgments, and documents count as relevant from grade 1."""
    (folder / "qrels.tsv").write_text("q1\td1\t1\n")
    write_ranking(folder / "runs" / "web.google.trec.gz", {"q1": ["d1"]})

    dataset = load_reranking(folder, first_stage="web.google")

    assert dataset.qrels == {"q1": {"d1": 1}}
    assert dataset.relevant_from == 1


def test_queries_and_candidates_are_cut(folder: Path) -> None:
    """The first queries by id, the best candidates by rank."""
    dataset = load_reranking(folder, first_stage="dl19.bm25", num_queries=1, num_candidates=2)

    assert list(dataset.queries) == list(dataset.qrels) == list(dataset.candidates) == ["q1"]
    assert [passage.document_id for passage in dataset.candidates["q1"]] == ["d3", "d1"]


def test_stored_run_is_found_by_name_or_path(folder: Path) -> None:
    """A run is read for the data set's queries only, from beside the first stage or from anywhere."""
    dataset = load_reranking(folder, first_stage="bm25", num_queries=1)
    elsewhere = folder.parent / "mine.trec"
    elsewhere.write_text("q1 Q0 d4 1 2 mine\n")

    assert load_stored_run(dataset, "bm25+best") == {"q1": {"d1": 10.0, "d4": 9.0, "d3": 8.0}}
    assert load_stored_run(dataset, str(elsewhere)) == {"q1": {"d4": 2.0}}


def _without_first_stage(folder: Path) -> None:
    (folder / "runs" / "dl19.bm25.trec.gz").unlink()


def _two_first_stages(folder: Path) -> None:
    write_ranking(folder / "runs" / "dl20.bm25.trec.gz", {"q1": ["d1"]})


def _without_judgments(folder: Path) -> None:
    (folder / "qrels.dl19.full.tsv").unlink()


def _malformed_judgment(folder: Path) -> None:
    (folder / "qrels.dl19.full.tsv").write_text("q1\td1\t3\nq1 d4 1\n")


def _no_judgment(folder: Path) -> None:
    (folder / "qrels.dl19.full.tsv").write_text("query-id\tcorpus-id\tscore\n")


def _query_without_text(folder: Path) -> None:
    write_rows(folder / "queries.jsonl", {"q1": "sleep of cats", "q2": " "})


def _query_without_candidates(folder: Path) -> None:
    write_ranking(folder / "runs" / "dl19.bm25.trec.gz", {"q1": ["d1"]})


def _candidate_without_row(folder: Path) -> None:
    write_rows(folder / "corpus.jsonl.gz", {id_: text for id_, text in CORPUS.items() if id_ != "d2"})


def _candidate_without_text(folder: Path) -> None:
    write_rows(folder / "corpus.jsonl.gz", {**CORPUS, "d2": ""})


def _malformed_row(folder: Path) -> None:
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "d1"}\n'))


def _row_that_is_no_object(folder: Path) -> None:
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "x"}) + "\n[1]\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_first_stage, r"no run named bm25; name one of: dl19\.bm25\+best"),
        (_two_first_stages, r"several runs named bm25; name one of: dl19\.bm25, dl20\.bm25"),
        (_without_judgments, r"qrels\.dl19\.full\.tsv is missing"),
        (_malformed_judgment, r"qrels\.dl19\.full\.tsv line 2 is not"),
        (_no_judgment, r"qrels\.dl19\.full\.tsv holds no judgment"),
        (_query_without_text, r"queries\.jsonl: 1 judged queries have no text, such as q2"),
        (_query_without_candidates, r"dl19\.bm25\.trec\.gz ranks nothing for 1 of 2 judged queries, such as q2"),
        (_candidate_without_row, r"corpus\.jsonl\.gz has no text of 1 candidates, such as d2"),
        (_candidate_without_text, r"corpus\.jsonl\.gz has no text of 1 candidates, such as d2"),
        (_malformed_row, r"corpus\.jsonl\.gz line 1 is no JSON object with `_id` and `text`"),
        (_row_that_is_no_object, r"queries\.jsonl line 2 is no JSON object"),
    ],
)
def test_unfit_data_is_named(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    """Whatever is missing, malformed or inconsistent is an error that says what and where."""
    spoil(folder)

    with pytest.raises(ConfigError, match=message):
        load_reranking(folder, first_stage="bm25")


def test_stored_run_over_other_queries_is_refused(folder: Path) -> None:
    """A stored run that leaves out a query is not compared."""
    write_ranking(folder / "runs" / "dl19.half.trec.gz", {"q1": ["d1"]})

    with pytest.raises(ConfigError, match="ranks nothing for 1 of 2 judged queries, such as q2"):
        load_stored_run(load_reranking(folder, first_stage="bm25"), "half")
