"""Data sets of a few lines in the layouts of those that may be trained on."""

import gzip
import json
from pathlib import Path

import pytest

from tests.eval.reranking_data import write_rows

TOPICS = ["cats", "boats", "tea", "dogs", "masts", "rain", "bread", "snow", "milk", "roads"]
DOCUMENTS = {f"d{topic}{number}": f"all about {topic} part {number}" for topic in TOPICS for number in range(3)}
QUERIES = {f"q{topic}": f"what is known of {topic}" for topic in TOPICS}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a set in BEIR's layout, of which two queries are tested, and one of multi-hop questions."""
    folder = tmp_path / "data" / "scifact"
    folder.mkdir(parents=True)
    write_rows(folder / "corpus.jsonl.gz", DOCUMENTS)
    # The same words as a test query's, under another id.
    write_rows(folder / "queries.jsonl", {**QUERIES, "again": "What is known of  CATS"})
    (folder / "qrels.tsv").write_text("qcats\tdcats1\t1\nqtea\tdtea1\t1\n")
    trained = [f"{query}\td{query[1:]}2\t1\n" for query in QUERIES if query not in ("qcats", "qtea")]
    (folder / "qrels.train.tsv").write_text("".join([*trained, "again\tdcats2\t1\n"]))
    hops = tmp_path / "data" / "hotpotqa"
    hops.mkdir()
    questions = [
        {
            "id": f"h{topic}",
            "question": f"what is known of {topic}",
            "answers": ["part 2"],
            "contexts": [{"title": "", "text": DOCUMENTS[f"d{topic}{number}"], "is_gold": number > 0} for number in range(3)],
        }
        for topic in TOPICS
    ]
    rows = "".join(f"{json.dumps(question)}\n" for question in questions)
    (hops / "hotpotqa_train_100.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
