"""Whole runs over the search endpoint of a small collection, and what is said when something of it is missing."""

import json
import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from eval.ranking.datasets import RetrievalDataset, load_beir
from eval.ranking.measures import NDCG_10, RECALL_100
from eval.ranking.rankings import scores_by_rank
from eval.ranking.searching import Stages, ranked_documents, search_all
from eval.ranking.trec import read_run
from eval.run_retrieval import Server, evaluate, index_missing, main
from rag_server import factory
from rag_server.config import Settings
from rag_server.errors import ConfigError, NotFoundError, RagServerError
from rag_server.services import Address
from rag_server.types import Access
from tests.conftest import running_server
from tests.eval.reranking_data import write_rows

TEXTS = {"d1": "Cats sleep for sixteen hours a day.", "d2": "A ketch is a boat with two masts.", "d3": "Green tea is hot."}
LEXICAL, HYBRID = Stages("lexical"), Stages("hybrid")
FULL_RANKING = Stages("hybrid", "full_ranking")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "eval" / "small"
    folder.mkdir(parents=True)
    write_rows(folder / "corpus.jsonl.gz", TEXTS)
    write_rows(folder / "queries.jsonl.gz", {"q1": "sleep of cats", "q2": "masts", "q3": "not judged"})
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t2\nq2\td3\t1\n")
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "eval"))
    return folder


@pytest.fixture
def dataset(data: Path, index: Callable[..., None]) -> RetrievalDataset:
    """The data set, its corpus indexed."""
    index("small", {"corpus.jsonl": "".join(json.dumps({"_id": id_, "text": text}) + "\n" for id_, text in TEXTS.items())})
    return load_beir("small")


def test_document_ranks_where_its_best_passage_is() -> None:
    """Several passages of a document count once, and scores fall by rank."""
    results = [{"attributes": {"document_id": id_}} for id_ in ("b", "a", "b", "c")]

    assert scores_by_rank(ranked_documents(results)) == {"b": 3.0, "a": 2.0, "c": 1.0}


async def test_run_over_http_writes_run_files(
    dataset: RetrievalDataset,
    server: httpx.Client,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Retrieval, and reranking over it, are run through the endpoint, printed, and written with all that made them."""
    target = Server(Address(str(server.base_url), ""), settings)

    complete = await evaluate(
        {"small": dataset}, target, stages=[LEXICAL, HYBRID, FULL_RANKING], out=tmp_path / "out", command="c"
    )

    printed, report = capsys.readouterr().out, (tmp_path / "out" / "report.md").read_text()
    lexical = read_run(tmp_path / "out" / "runs" / "small-lexical.trec")
    record = json.loads((tmp_path / "out" / "runs" / "small-hybrid+full_ranking.json").read_text())
    # Of q2, "masts" finds d2 alone: grade 2 of a best order of grades 2 and 1.
    ndcg = (1 + 2 / (2 + 1 / math.log2(3))) / 2
    assert complete
    assert lexical == {"q1": {"d1": 1.0}, "q2": {"d2": 1.0}}
    for text in (printed, report):
        figures = [line.replace("|", " ").split() for line in text.splitlines() if "lexical" in line]
        assert figures[0][:2] == ["small", "lexical"]
        assert f"{ndcg:.4f}" in figures[0]
    assert record["measures"][RECALL_100] == 1.0
    assert record["counters"]["calls"] == 2
    assert record["models"]["embedding"]
    assert record["index"].startswith("vs_")
    assert record["settings"]["request"]["rag"] == {"retrieve": "hybrid", "rerank": "full_ranking"}
    assert (tmp_path / "out" / "ndcg.png").is_file()


async def test_fallbacks_are_counted_and_shown(
    dataset: RetrievalDataset,
    settings: Settings,
    scripted_engine: Callable[..., AbstractContextManager[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where the engine fails, the figures are the first stage's, and the table and the notes say for how many queries."""
    with scripted_engine(fail_every=1) as base_url, running_server(settings, engine=base_url) as client:
        target = Server(Address(str(client.base_url), ""), settings)
        await evaluate({"small": dataset}, target, stages=[HYBRID, FULL_RANKING], out=tmp_path, command="c")

    hybrid, reranked = (
        json.loads((tmp_path / "runs" / f"small-{stages.name}.json").read_text()) for stages in (HYBRID, FULL_RANKING)
    )
    assert reranked["counters"]["fallback"] == 2
    assert hybrid["counters"]["fallback"] == 0
    assert reranked["measures"] == hybrid["measures"]
    assert "small-hybrid+full_ranking: for 2 queries the first stage's order was used instead" in capsys.readouterr().out


async def test_failed_query_counts_as_zero(data: Path, tmp_path: Path) -> None:
    """A query at which the server, or the connection to it, fails ranks nothing and is listed with the reason."""
    write_rows(data / "queries.jsonl.gz", {"q1": "sleep of cats", "q2": "masts", "q3": "tea"})
    (data / "qrels.tsv").write_text("q1\td1\t1\nq2\td2\t2\nq3\td3\t1\n")
    dataset = load_beir("small")

    def answer(request: httpx.Request) -> httpx.Response:
        if b"masts" in request.content:
            return httpx.Response(503, text="overloaded")
        if b"cats" in request.content:
            return httpx.Response(400, json={"error": {"message": "too long", "param": "query"}})
        raise httpx.ReadTimeout("too slow")

    async with httpx.AsyncClient(base_url="http://server", transport=httpx.MockTransport(answer)) as client:
        rankings = await search_all(client, dataset, HYBRID, collection="small")

    assert rankings.run == {"q1": {}, "q2": {}, "q3": {}}
    assert rankings.failed == {"q1": "400: too long", "q2": "503: overloaded", "q3": "ReadTimeout: too slow"}


@pytest.mark.parametrize("stages", [Stages("semantic"), Stages("hybrid", "cross_encoder"), Stages("hybrid", "best")])
async def test_stage_that_the_server_lacks_is_named(dataset: RetrievalDataset, server: httpx.Client, stages: Stages) -> None:
    """What every query would be refused for is an error, not a zero."""
    async with httpx.AsyncClient(base_url=server.base_url, trust_env=False) as client:
        with pytest.raises(ConfigError, match=stages.name.replace("+", r"\+")):
            await search_all(client, dataset, stages, collection="small")


async def test_unknown_collection_names_the_command(data: Path, server: httpx.Client, tmp_path: Path) -> None:
    """Without the collection the message says how to index it."""
    target = Server(Address(str(server.base_url), ""), None)

    with pytest.raises(NotFoundError, match=r"rag-server index .*corpus\.jsonl\.gz --collection small"):
        await evaluate({"small": load_beir("small")}, target, stages=[LEXICAL], out=tmp_path, command="c")


def test_only_missing_collections_are_indexed(data: Path, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A corpus is indexed where its collection is missing, and left alone where it is there."""
    datasets = {"small": load_beir("small")}

    index_missing(settings, datasets)
    assert "small: 1 files indexed (3 documents" in capsys.readouterr().out
    index_missing(settings, datasets)
    assert capsys.readouterr().out == ""

    store = factory.open_store(settings)
    counts = store.files.counts(store.vector_stores.get("small", Access()), Access())
    store.database.close()
    assert counts["completed"] == 1


def test_document_without_text_does_not_end_the_evaluation(data: Path, settings: Settings) -> None:
    """Data sets have such documents; the others are indexed, and a corpus of nothing else is an error."""
    datasets = {"small": load_beir("small")}
    write_rows(data / "corpus.jsonl.gz", {**TEXTS, "d4": ""})
    index_missing(settings, datasets)

    (data / "corpus.jsonl.gz").write_bytes(b"damaged")
    with pytest.raises(RagServerError, match=r"corpus\.jsonl\.gz could not be indexed"):
        index_missing(settings, {"other": datasets["small"]})


def test_command_indexes_and_measures_several_data_sets(
    data: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One call indexes both corpora, starts a server for the moment, and prints one table with every kind of search."""
    (tmp_path / "eval" / "other").mkdir()
    for file in data.iterdir():
        (tmp_path / "eval" / "other" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("RAG_DATA_DIR", str(settings.data_dir))
    out = tmp_path / "reports"
    command = ["run_retrieval", "--dataset", "small,other", "--index", "--kinds", "lexical,hybrid", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)

    status = main()

    printed = capsys.readouterr().out
    rows = [tuple(line.split()[:2]) for line in printed.splitlines() if line.startswith(("small ", "other "))]
    assert status == 0
    assert rows == [("small", "lexical"), ("small", "hybrid"), ("other", "lexical"), ("other", "hybrid")]
    assert json.loads((out / "retrieval" / "runs" / "other-lexical.json").read_text())["measures"][NDCG_10] > 0.8


def test_one_collection_holds_one_data_set(
    data: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--collection with several data sets is refused."""
    monkeypatch.setenv("RAG_DATA_DIR", str(settings.data_dir))
    monkeypatch.setattr(sys, "argv", ["run_retrieval", "--dataset", "small,small", "--collection", "mine"])

    assert main() == 1
    assert "--collection names one collection" in capsys.readouterr().err
