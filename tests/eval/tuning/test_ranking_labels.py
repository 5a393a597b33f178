"""Label files from judged collections and multi-hop questions, made by the command's own path on small data sets."""

from pathlib import Path

import pytest

from eval.tuning.first_stage import lexical_searcher
from eval.tuning.ranking_labels import Split, balanced, find_candidates, judged_labels, load_collection, main
from rag_server.learning.splits import is_held_out
from rag_server.protocols import Embedder
from rerankers.training.labels import Candidate, judged_label, read_labels
from tests.eval.tuning.conftest import TOPICS


@pytest.mark.usefixtures("data")
def test_labels_of_train_judgments_leave_out_what_is_measured_with(embedder: Embedder) -> None:
    """Neither held-out ids nor the words of a test query are among them; the relevant document is named first."""
    collection = load_collection("scifact-train", Split(0.3))
    found = find_candidates(collection, "lexical", embedder, num_candidates=3)
    made = judged_labels(collection, found)

    trained = {f"q{topic}" for topic in TOPICS} - {"qcats", "qtea"}
    assert {one.query_id for one in made} == {query for query in trained if not is_held_out(query, 0.3)}
    assert 0 < len(made) < len(trained)
    for one in made:
        assert one.passages[one.permutation[0]].id == f"d{one.query_id[1:]}2"
        assert len(one.passages) == 3


@pytest.mark.usefixtures("data")
def test_held_out_and_trained_on_are_all_and_apart() -> None:
    """Each query is on one side."""
    sides = [set(load_collection("scifact-train", Split(0.3, held_out=side)).queries) for side in (False, True)]

    assert sides[0] | sides[1] == {f"q{topic}" for topic in TOPICS} - {"qcats", "qtea"}
    assert not sides[0] & sides[1]


@pytest.mark.usefixtures("data")
def test_multi_hop_questions_have_both_gold_passages_first(embedder: Embedder) -> None:
    """Candidates come from the passages of all questions, and the two that the answer rests on are named first."""
    collection = load_collection("hotpotqa", Split(0.0))
    made = judged_labels(collection, find_candidates(collection, "hybrid", embedder, num_candidates=5))

    assert len(made) == len(TOPICS)
    for one in made:
        topic = one.query_id[1:]
        assert {one.passages[index].text[-6:] for index in one.permutation[:2]} == {"part 1", "part 2"}
        assert all(topic in one.passages[index].text for index in one.permutation[:2])


def test_balanced_labels_have_as_many_right_first_as_not() -> None:
    """All whose best passage is not the first are there, as many others, the same each time, in the order of before."""
    candidates = [Candidate(id=id_, text=id_) for id_ in "abc"]
    best = {"q0": "a", "q1": "b", "q2": "a", "q3": "a", "q4": "c", "q5": "a"}
    labels = [judged_label(query, query, candidates, {one: 1}) for query, one in best.items()]
    chosen = [one.query_id for one in balanced(labels)]

    assert len(chosen) == 4
    assert {"q1", "q4"} < set(chosen)
    assert chosen == sorted(chosen)
    assert chosen == [one.query_id for one in balanced(labels)]
    assert balanced(labels[2:4]) == []


@pytest.mark.usefixtures("data")
def test_queries_without_a_relevant_candidate_are_left_out(embedder: Embedder) -> None:
    """Where only one candidate is asked for, there is nothing to order."""
    collection = load_collection("hotpotqa", Split(0.0))

    assert find_candidates(collection, "lexical", embedder, num_candidates=1) == {}


@pytest.mark.usefixtures("data")
def test_the_command_writes_a_file_that_training_reads(tmp_path: Path) -> None:
    """From the data set to labels."""
    out = tmp_path / "made" / "labels.jsonl"

    assert main(["--dataset", "hotpotqa", "--first-stage", "lexical", "--held-out-share", "0", "--out", str(out)]) == 0
    assert {one.query_id for one in read_labels(out)} == {f"h{topic}" for topic in TOPICS}


def test_missing_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and a status that is not 0."""
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path))

    assert main(["--dataset", "nfcorpus-train", "--out", str(tmp_path / "labels.jsonl")]) == 1
    assert "RAG_EVAL_DATA" in capsys.readouterr().err


def test_the_lexical_first_stage_finds_by_words(tmp_path: Path) -> None:
    """Documents are known by their number, from 1."""
    documents = [Candidate(id="a", text="a ketch"), Candidate(id="b", title="Tea", text="is hot")]

    assert [hit.chunk_id for hit in lexical_searcher(documents, tmp_path / "bm25").search("hot tea", 5)] == [2]
