"""The chunks that every system is given, and the queries that none was asked before."""

import gzip
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from eval.peers import corpora
from eval.peers.adapters.commands import Row, model_folder, read_rows
from eval.peers.corpora import distinct_queries, document_of, new_documents, prepare_passages, prepare_scifact
from rag_server.errors import ConfigError
from tests.eval.peers.data import write_scifact

SENTENCE = "The cell number {} divides in the presence of sugar and of light."
MANY = f"{SENTENCE.format('many')} It does so twice."


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "eval"))
    monkeypatch.setattr(corpora, "SOURCES", ("scifact/corpus.jsonl.gz", "other/corpus.jsonl.gz"))
    texts = {"1": " ".join(SENTENCE.format(number) for number in range(60)), "2": SENTENCE.format("two")}
    write_scifact(tmp_path / "eval", texts, {"q1": "cell division", "q2": "sugar"}, {("q1", "1"): 1, ("q2", "2"): 1})
    (tmp_path / "eval" / "other").mkdir()
    with gzip.open(tmp_path / "eval" / "other" / "corpus.jsonl.gz", "wt") as file:
        for id_, text in {"x": f"On 2\n{SENTENCE.format('two')}", "y": MANY, "z": "Too short."}.items():
            file.write(json.dumps({"_id": id_, "title": "", "text": text}) + "\n")
    return tmp_path / "work"


def num_tokens(text: str) -> int:
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def test_chunks_hold_every_word_within_the_limit(data: Path) -> None:
    """Chunks of a document follow each other, lose no word and are no longer than what rag-server leaves whole."""
    corpus = prepare_scifact(data)
    rows = read_rows(corpus.chunks_path)
    of_first = [row for row in rows if document_of(row.id) == "1"]

    assert corpus.num_chunks == len(rows) == len(of_first) + 1
    assert [row.id for row in of_first] == [f"1#{number}" for number in range(len(of_first))]
    assert " ".join(row.text for row in of_first) == "On 1\n" + " ".join(SENTENCE.format(n) for n in range(60))
    assert len(of_first) > 1
    assert max(num_tokens(row.text) for row in rows) <= 200


def test_chunks_are_made_once(data: Path) -> None:
    """A run that goes on uses the file that is there."""
    path = prepare_scifact(data).chunks_path
    path.write_text('{"_id": "1#0", "text": "kept"}\n')

    assert prepare_scifact(data).num_chunks == 1


def test_passages_are_distinct_short_and_from_all_sources(data: Path) -> None:
    """A text that two sources have comes once, and what is too short to be a passage not at all."""
    rows = read_rows(prepare_passages(data, 17).chunks_path)

    assert len({row.text for row in rows}) == 17
    assert {row.id.partition("/")[0] for row in rows} == {"scifact", "other"}
    assert rows[-1] == Row("other/y#0", MANY)
    assert all(16 <= num_tokens(row.text) <= 60 for row in rows)


def test_judged_queries_are_those_whose_documents_are_there(data: Path) -> None:
    """Of three passages all are of document 1, so that the query about document 2 would be unfair."""
    corpus = prepare_passages(data, 3)

    assert corpus.queries == {"q1": "cell division"}
    assert corpus.qrels == {"q1": {"scifact/1": 1}}


def test_too_few_passages_are_told(data: Path) -> None:
    """The message says how many there are."""
    with pytest.raises(ConfigError, match="17 passages"):
        prepare_passages(data, 18)


def test_queries_are_different_and_the_same_in_every_run() -> None:
    """A longer list begins with a shorter one, so that rounds can take turns; none begins as SQL does."""
    rows = [Row(f"{number}#0", f"select {SENTENCE.format(number)} {SENTENCE.format(-number)}") for number in range(20)]
    queries = distinct_queries(rows, 200)

    assert len(set(queries)) == 200
    assert distinct_queries(rows, 300)[:200] == queries
    assert all(5 <= len(query.split()) <= 12 for query in queries)
    assert not any(query.startswith("select") for query in queries)


def test_too_few_words_for_queries_are_told() -> None:
    """Five words make one query of five words."""
    with pytest.raises(ConfigError, match="1 different queries of 2"):
        distinct_queries([Row("1#0", "one two three four five")], 2)


def test_new_documents_are_new() -> None:
    """No two of them share an id or a text, in this run or in any."""
    rows = [Row("1#0", SENTENCE.format(1))]
    documents = [*new_documents(rows, 5), *new_documents(rows, 5)]

    assert len({row.id for row in documents}) == len({row.text for row in documents}) == 10
