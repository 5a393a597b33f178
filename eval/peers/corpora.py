"""Prepares what every system is given: the same chunks as rows of a .jsonl file, queries that are all different, judgments."""

import json
import random
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from eval.peers.adapters.commands import Row, model_folder, read_rows
from eval.ranking.datasets import Qrels, evaluation_folder, json_rows, load_beir
from indexers.chunking import chunk_text
from rag_server.errors import ConfigError

JUDGED = "scifact"
# rag-server's default, so that it indexes each row of the chunks as one chunk.
MAX_TOKENS = 200
# Of the passages of many sources; a passage is one or two sentences.
MAX_PASSAGE_TOKENS, MIN_PASSAGE_TOKENS = 60, 16
# The judged one first, so that few passages have judged queries too.
SOURCES = (
    "scifact/corpus.jsonl.gz",
    "nfcorpus/corpus.jsonl.gz",
    "msmarco-dl19/corpus.jsonl.gz",
    "2wikimultihopqa/corpus.jsonl.gz",
    "cranfield/corpus.jsonl.gz",
    "med/corpus.jsonl.gz",
    "noveleval/corpus.jsonl.gz",
    "xquad/corpus_en.jsonl",
)
CHUNK_MARK = "#"
NEW_MARK = "new-"
SHORTEST_QUERY, LONGEST_QUERY = 5, 12
# An embeddings database of the benchmark takes such a query for SQL.
SQL = "select "


@dataclass(frozen=True, slots=True)
class Corpus:
    """Chunks in a .jsonl file, and judged queries with the grades of documents, which may be of no query."""

    name: str
    chunks_path: Path
    num_chunks: int
    queries: dict[str, str]
    qrels: Qrels


def prepare_scifact(folder: Path) -> Corpus:
    """Cut the documents of scifact into chunks, unless that was done, with all of its judged queries."""
    dataset = load_beir(JUDGED)
    path = folder / "chunks.jsonl"
    if not path.is_file():
        _write(path, _cut(json_rows(dataset.corpus_path), prefix="", max_tokens=MAX_TOKENS, min_tokens=0))
    return Corpus(JUDGED, path, _num_lines(path), dataset.queries, dataset.qrels)


def prepare_passages(folder: Path, number: int) -> Corpus:
    """Cut so many short passages from many sources, unless that was done.

    The judged queries are those of scifact of which every relevant document is among the passages.

    Raises:
        ConfigError: The sources hold fewer.
    """
    path = folder / "chunks.jsonl"
    if not path.is_file():
        rows = list(islice(_distinct(_passages()), number))
        if len(rows) < number:
            raise ConfigError(f"the evaluation data holds {len(rows)} passages; ask for that many with --chunks")
        _write(path, rows)
    documents = {document_of(row.id) for row in read_rows(path)}
    judged, prefix = load_beir(JUDGED), f"{JUDGED}/"
    qrels = {
        query_id: {prefix + document_id: grade for document_id, grade in grades.items()}
        for query_id, grades in judged.qrels.items()
        if all(prefix + document_id in documents for document_id, grade in grades.items() if grade > 0)
    }
    queries = {query_id: judged.queries[query_id] for query_id in qrels}
    return Corpus(f"{number:,} passages", path, number, queries, qrels)


def document_of(chunk_id: str) -> str:
    """Return the id of the document that a chunk was cut from."""
    return chunk_id.rpartition(CHUNK_MARK)[0]


def distinct_queries(rows: Sequence[Row], number: int) -> list[str]:
    """Return so many different queries: runs of 5 to 12 words, each from a passage drawn at random.

    Raises:
        ConfigError: The passages hold too few.
    """
    chooser, found = random.Random(7), dict[str, None]()
    words = [row.text.split() for row in rows]
    for _ in range(20 * number):
        if len(found) == number:
            break
        passage = chooser.choice(words)
        length = chooser.randint(SHORTEST_QUERY, LONGEST_QUERY)
        start = chooser.randint(0, max(0, len(passage) - length))
        query = " ".join(passage[start : start + length])
        if not query.lower().startswith(SQL):
            found[query] = None
    if len(found) < number:
        raise ConfigError(f"{len(rows)} chunks hold {len(found)} different queries of {number}; measure fewer --seconds")
    return list(found)


def new_documents(rows: Sequence[Row], number: int) -> list[Row]:
    """Return so many documents of a sentence or two that nobody was given before."""
    documents = []
    for _ in range(number):
        name = secrets.token_hex(6)
        words = random.choice(rows).text.split()[:30]
        random.shuffle(words)
        documents.append(Row(f"{NEW_MARK}{name}{CHUNK_MARK}0", f"Note {name}: {' '.join(words)}."))
    return documents


def _passages() -> Iterator[Row]:
    for source in SOURCES:
        rows = json_rows(evaluation_folder() / source)
        prefix = f"{source.partition('/')[0]}/"
        yield from _cut(rows, prefix=prefix, max_tokens=MAX_PASSAGE_TOKENS, min_tokens=MIN_PASSAGE_TOKENS)


def _cut(rows: Iterable[Mapping[str, object]], *, prefix: str, max_tokens: int, min_tokens: int) -> Iterator[Row]:
    """Yield the chunks of documents, whose titles are their first lines."""
    tokenizer = _tokenizer()
    for row in rows:
        title, text = str(row.get("title") or ""), str(row["text"])
        text = text if text.startswith(title) else f"{title}\n{text}"
        spans = tokenizer.encode(text, add_special_tokens=False).offsets
        starts = [start for start, _ in spans]
        for number, chunk in enumerate(chunk_text(text, spans, max_tokens=max_tokens)):
            num_tokens = sum(chunk.start <= start < chunk.end for start in starts)
            if num_tokens >= max(1, min_tokens):
                yield Row(f"{prefix}{row['_id']}{CHUNK_MARK}{number}", text[chunk.start : chunk.end].strip())


def _distinct(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the chunks whose text none before has."""
    seen = set[str]()
    for row in rows:
        if row.text not in seen:
            seen.add(row.text)
            yield row


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _write(path: Path, rows: Iterable[Row]) -> None:
    """Write the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"_id": row.id, "text": row.text}, ensure_ascii=False) + "\n" for row in rows)
    unfinished.replace(path)


def _num_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
