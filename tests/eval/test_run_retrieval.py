"""The measures by worked examples, and a whole run against a small collection."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from eval.datasets import load_beir
from eval.run_retrieval import evaluate, measure, ranked_documents
from rag_server.errors import ConfigError, NotFoundError
from rag_server.services import Address

TEXTS = {"d1": "Cats sleep for sixteen hours a day.", "d2": "A ketch is a boat with two masts.", "d3": "Green tea is hot."}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "eval" / "small"
    folder.mkdir(parents=True)
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"_id": id_, "text": text}) + "\n" for id_, text in TEXTS.items())
    with gzip.open(folder / "queries.jsonl.gz", "wt") as file:
        for id_, text in {"q1": "sleep of cats", "q2": "masts", "q3": "not judged"}.items():
            file.write(json.dumps({"_id": id_, "text": text}) + "\n")
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\nq2\td3\t1\n")
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "eval"))
    return folder


def test_ndcg_is_the_worked_example() -> None:
    """nDCG@10 weighs a document by 1 / log2(rank + 1) and divides by the best order."""
    qrels = {"q": {"a": 1, "b": 1}}

    values = measure(qrels, {"q": {"x": 3.0, "a": 2.0, "b": 1.0}})

    gained = 1 / math.log2(3) + 1 / math.log2(4)
    best = 1 / math.log2(2) + 1 / math.log2(3)
    assert values["nDCG@10"] == pytest.approx(gained / best)
    assert values["recall@100"] == 1.0


def test_query_that_ranks_nothing_counts_as_zero() -> None:
    """A failed query stays in the average."""
    values = measure({"q1": {"a": 1}, "q2": {"a": 1}}, {"q1": {"a": 1.0}, "q2": {}})

    assert values == {"nDCG@10": 0.5, "recall@100": 0.5}


def test_document_ranks_where_its_best_passage_is() -> None:
    """Several passages of a document count once."""
    results = [{"attributes": {"document_id": id_}} for id_ in ("b", "a", "b", "c")]

    assert ranked_documents(results) == {"b": 3.0, "a": 2.0, "c": 1.0}


def test_only_judged_queries_are_loaded(data: Path) -> None:
    """Queries without a judgment are left out, grades are kept."""
    dataset = load_beir("small")

    assert dataset.queries == {"q1": "sleep of cats", "q2": "masts"}
    assert dataset.qrels == {"q1": {"d1": 1}, "q2": {"d2": 2, "d3": 1}}


def test_missing_data_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the data, or without the variable, the message names RAG_EVAL_DATA."""
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match="RAG_EVAL_DATA"):
        load_beir("small")
    monkeypatch.delenv("RAG_EVAL_DATA")
    with pytest.raises(ConfigError, match="RAG_EVAL_DATA"):
        load_beir("small")


async def test_run_over_http_writes_run_files(
    data: Path, server: httpx.Client, index: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every kind of retrieval is run through the endpoint, printed, and written as a TREC run file."""
    rows = "".join(json.dumps({"_id": id_, "text": text}) + "\n" for id_, text in TEXTS.items())
    index("small", {"corpus.jsonl": rows})
    address = Address(str(server.base_url), "")

    complete = await evaluate(
        load_beir("small"), address, collection="small", kinds=["lexical", "hybrid"], out=tmp_path / "out"
    )

    ranked = [line.split() for line in (tmp_path / "out" / "small-lexical.run").read_text().splitlines()]
    assert complete
    assert ranked == [["q1", "Q0", "d1", "1", "1.0", "lexical"], ["q2", "Q0", "d2", "1", "1.0", "lexical"]]
    assert "hybrid" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "small-hybrid.json").read_text())["measures"]["recall@100"] == 1.0


async def test_unknown_collection_names_the_command(data: Path, server: httpx.Client, tmp_path: Path) -> None:
    """Without the collection the message says how to index it."""
    address = Address(str(server.base_url), "")

    with pytest.raises(NotFoundError, match=r"rag-server index .*corpus\.jsonl\.gz --collection small"):
        await evaluate(load_beir("small"), address, collection="small", kinds=["dense"], out=tmp_path)
