"""The embedder's training pairs, from small files of the sets' forms."""

import gzip
import json
import sys
from pathlib import Path

import pytest

from eval.ranking.datasets import json_rows, load_beir
from eval.tuning.embedding_pairs import embedding_pairs, held_out_queries, main, write_collection
from indexers.training.data import check_not_measured, read_examples
from rag_server.learning.splits import content_hash, is_held_out

SHARE = 0.5


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty paragraphs with two questions each, and one question with two gold passages and a distractor."""
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path))
    (tmp_path / "xquad").mkdir()
    (tmp_path / "hotpotqa").mkdir()
    corpus = [{"_id": f"p{i}", "title": f"T{i}", "text": f"Paragraph {i}."} for i in range(20)]
    rows = [
        {"id": f"q{i}{part}", "question": f"Question {part} on {i}?", "answers": [str(i)], "paragraph": f"p{i}"}
        for i in range(20)
        for part in "ab"
    ]
    contexts = [{"title": "", "text": text, "is_gold": gold} for text, gold in (("G1", True), ("G2", True), ("D", False))]
    hotpot = {"id": "h", "question": "Both?", "answers": ["x"], "contexts": contexts}
    for name, lines in (("corpus_en", corpus), ("xquad_en", rows)):
        (tmp_path / "xquad" / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with gzip.open(tmp_path / "hotpotqa" / "hotpotqa_train_100.jsonl.gz", "wt") as file:
        file.write(json.dumps(hotpot) + "\n")
    return tmp_path


def test_no_passage_of_a_held_out_question_is_trained_on() -> None:
    """Each question is on one side, and so is each gold passage, by its hash."""
    pairs, queries = embedding_pairs(["xquad-en"], SHARE), held_out_queries(["xquad-en"], SHARE)
    kept = {f"Paragraph {i}." for i in range(20) if is_held_out(content_hash(f"Paragraph {i}."), SHARE)}

    assert 0 < len(kept) < 20
    assert len(queries) == 2 * len(kept)
    assert len(pairs) == 40 - len(queries)
    assert not {pair.query for pair in pairs} & set(queries)
    assert not kept & {pair.positives[0].split("\n")[1] for pair in pairs}
    assert pairs[0].positives[0].startswith("T")


def test_gold_passages_are_positives_and_others_negatives() -> None:
    """A question with several gold passages has them all as positives; its distractors are its negatives."""
    (pair,) = embedding_pairs(["hotpotqa"], 0)

    assert (pair.query, pair.positives, pair.negatives) == ("Both?", ("G1", "G2"), ("D",))


def test_command_writes_what_training_reads(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the command are the training command's data and evaluation."""
    monkeypatch.setattr("eval.tuning.embedding_pairs.DATASETS", ("xquad-en",))
    monkeypatch.setattr(sys, "argv", ["embedding_pairs", "--out", str(data / "out"), "--held-out-share", str(SHARE)])
    main()
    examples = read_examples(data / "out" / "pairs.jsonl")

    check_not_measured(examples, data / "out" / "held-out.jsonl")
    assert len(examples) + len((data / "out" / "held-out.jsonl").read_text().splitlines()) == 40


def test_what_is_kept_is_a_judged_collection(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kept question has its gold passages, among all passages of kept questions, as eval.run_gate reads them."""
    number = write_collection(data / "kept", ["xquad-en", "hotpotqa"], 0.999999)
    monkeypatch.setenv("RAG_EVAL_DATA", str(data))
    kept = load_beir("kept")
    texts = {str(row["_id"]): str(row["text"]) for row in json_rows(kept.corpus_path)}

    assert number == len(texts) == 20 + 3
    assert len(kept.queries) == 40 + 1
    assert {texts[id_] for id_ in kept.qrels["h"]} == {"G1", "G2"}
    assert [texts[id_] for id_ in kept.qrels["q7b"]] == ["Paragraph 7."]
    assert kept.queries["q7b"] == "Question b on 7?"
