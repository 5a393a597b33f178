"""Reads evaluation data in BEIR's layout: judged queries on a corpus, and the candidates of a first stage to be reranked."""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.data_files import open_text
from eval.ranking.rankings import Run
from eval.ranking.trec import read_run
from rag_server.errors import ConfigError
from rag_server.types import Passage

CORPUS = "corpus.jsonl.gz"
QUERIES = ("queries.jsonl", "queries.jsonl.gz")
QRELS = "qrels.tsv"
RUN_ENDINGS = (".trec.gz", ".trec")
DEFAULT_JUDGMENTS = "full"
# TREC's deep learning tracks call a passage relevant from grade 2: 1 means "on the topic, but no answer". For measures that
# know no grades (Craswell et al., Overview of the TREC 2019 deep learning track).
RELEVANT_FROM = {"dl19": 2, "dl20": 2}

Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class RetrievalDataset:
    """Judged queries on a corpus. `qrels` holds the grade of each judged document id per query id."""

    name: str
    corpus_path: Path
    queries: dict[str, str]
    qrels: Qrels


@dataclass(frozen=True, slots=True)
class RerankingDataset:
    """Judged queries with the candidates of a first stage, best first, under the query's id.

    `first_stage` is the first stage's name, `judgments` the name of the file that `qrels` comes from; measures without grades
    count a document as relevant from `relevant_from`.
    """

    name: str
    folder: Path
    first_stage: str
    judgments: str
    queries: dict[str, str]
    qrels: Qrels
    relevant_from: int
    candidates: dict[str, tuple[Passage, ...]]


def evaluation_folder() -> Path:
    """Return the folder with the evaluation data.

    Raises:
        ConfigError: RAG_EVAL_DATA is not set.
    """
    root = os.environ.get("RAG_EVAL_DATA")
    if not root:
        raise ConfigError("RAG_EVAL_DATA is not set; let it name the folder with the evaluation data")
    return Path(root)


def load_beir(name: str, *, num_queries: int | None = None, judgments: str = QRELS) -> RetrievalDataset:
    """Return the judged queries of the data set below RAG_EVAL_DATA, or the first so many by id.

    Queries without a judgment in the file `judgments` are left out.

    Raises:
        ConfigError: The data is not where RAG_EVAL_DATA says, the variable is not set, or the data is malformed.
    """
    folder = evaluation_folder() / name
    qrels = _read_qrels(folder / judgments)
    corpus_path = folder / CORPUS
    if not corpus_path.is_file():
        raise ConfigError(f"{corpus_path} is missing; RAG_EVAL_DATA must name a folder with data in BEIR's layout")
    chosen = dict(sorted(qrels.items())[:num_queries])
    return RetrievalDataset(name, corpus_path, _judged_queries(folder, chosen), chosen)


def load_reranking(
    folder: Path,
    *,
    first_stage: str,
    judgments: str | None = None,
    num_queries: int | None = None,
    num_candidates: int | None = None,
) -> RerankingDataset:
    """Return the judged queries of a folder with the candidates of the first stage.

    Args:
        folder: Holds the corpus, the queries, the judgments and, below `runs`, the first stage's run file.
        first_stage: The name of a run file without its ending, or what follows its first dot: `bm25` for `dl19.bm25.trec.gz`.
        judgments: Which of several sets of judgments, such as `full` or `pool`; None takes the only one, or `full`.
        num_queries: Only the first so many, by id; None means all.
        num_candidates: Only the best so many of each query; None means all.

    Raises:
        ConfigError: Something is missing, malformed, or does not fit together; the message names it.
    """
    run_path = _run_path(folder, first_stage)
    of_set, _, _ = _run_name(run_path).partition(".")
    qrels_path = _qrels_path(folder, of_set, judgments)
    qrels = _read_qrels(qrels_path)
    queries = _judged_queries(folder, qrels)
    chosen = sorted(queries)[:num_queries]
    ranked = _judged_rankings(read_run(run_path), chosen, run_path)
    candidates = {query_id: dict(list(documents.items())[:num_candidates]) for query_id, documents in ranked.items()}
    documents = _documents(folder, {document_id for scores in candidates.values() for document_id in scores})
    return RerankingDataset(
        name=folder.resolve().name,
        folder=folder,
        first_stage=first_stage,
        judgments=qrels_path.name,
        queries={query_id: queries[query_id] for query_id in chosen},
        qrels={query_id: qrels[query_id] for query_id in chosen},
        relevant_from=RELEVANT_FROM.get(of_set, 1),
        candidates={query_id: _passages(scores, documents) for query_id, scores in candidates.items()},
    )


def load_stored_run(dataset: RerankingDataset, name: str) -> Run:
    """Return the rankings of the data set's queries in the run file of that path, or of that name beside the first stage's.

    Raises:
        ConfigError: There is no such run, or it does not rank each of the queries.
    """
    path = Path(name) if Path(name).is_file() else _run_path(dataset.folder, name)
    return _judged_rankings(read_run(path), dataset.queries, path)


def _run_path(folder: Path, name: str) -> Path:
    known = sorted((path for ending in RUN_ENDINGS for path in (folder / "runs").glob(f"*{ending}")), key=_run_name)
    matching = [path for path in known if name in (_run_name(path), _run_name(path).partition(".")[2])]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(map(_run_name, matching or known)) or "no run file"
    raise ConfigError(f"{folder / 'runs'} holds {'several runs' if matching else 'no run'} named {name}; name one of: {names}")


def _run_name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".trec")


def _qrels_path(folder: Path, of_set: str, judgments: str | None) -> Path:
    if judgments is None and (folder / QRELS).is_file():
        return folder / QRELS
    return folder / f"qrels.{of_set}.{judgments or DEFAULT_JUDGMENTS}.tsv"


def _read_qrels(path: Path) -> Qrels:
    """Return the grades of each judged document per query; the first line may be a header."""
    qrels: Qrels = defaultdict(dict)
    with open_text(path) as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), start=1):
            try:
                query_id, document_id, grade = row
                qrels[query_id][document_id] = int(grade)
            except ValueError:
                if number > 1 or len(row) != 3:
                    raise ConfigError(f"{path} line {number} is not `query-id, corpus-id, score` with tabs between") from None
    if not qrels:
        raise ConfigError(f"{path} holds no judgment; it needs lines of query-id, corpus-id and score, with tabs between")
    return dict(qrels)


def _judged_queries(folder: Path, qrels: Qrels) -> dict[str, str]:
    path = next((folder / name for name in QUERIES if (folder / name).is_file()), folder / QUERIES[0])
    texts = {str(row["_id"]): str(row["text"]) for row in json_rows(path)}
    without_text = sorted(query_id for query_id in qrels if not texts.get(query_id, "").strip())
    if without_text:
        raise ConfigError(f"{path}: {len(without_text)} judged queries have no text, such as {without_text[0]}")
    return {query_id: texts[query_id] for query_id in qrels}


def _judged_rankings(run: Run, query_ids: Collection[str], path: Path) -> Run:
    """Return the rankings of these queries, each of which there must be."""
    missing = sorted(query_id for query_id in query_ids if not run.get(query_id))
    if missing:
        raise ConfigError(
            f"{path} ranks nothing for {len(missing)} of {len(query_ids)} judged queries, such as {missing[0]}; "
            "name a run over the same queries"
        )
    return {query_id: run[query_id] for query_id in query_ids}


def _documents(folder: Path, wanted: Collection[str]) -> dict[str, tuple[int, str, str]]:
    """Return the number of its row, title and text of each wanted document."""
    path = folder / CORPUS
    found = {
        str(row["_id"]): (number, str(row.get("title") or ""), str(row["text"]))
        for number, row in enumerate(json_rows(path), start=1)
        if row["_id"] in wanted
    }
    without_text = sorted(id_ for id_ in wanted if id_ not in found or not found[id_][2].strip())
    if without_text:
        raise ConfigError(f"{path} has no text of {len(without_text)} candidates, such as {without_text[0]}")
    return found


def json_rows(path: Path) -> Iterator[Mapping[str, object]]:
    """Yield the objects of a .jsonl file, each with an `_id` and a `text`.

    Raises:
        ConfigError: The file cannot be read, or a line is none.
    """
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                row["_id"], row["text"]
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(f"{path} line {number} is no JSON object with `_id` and `text`: {error!r}") from None
            yield row


def _passages(scores: Mapping[str, float], documents: Mapping[str, tuple[int, str, str]]) -> tuple[Passage, ...]:
    passages = []
    for rank, (document_id, score) in enumerate(scores.items(), start=1):
        number, title, text = documents[document_id]
        passages.append(
            Passage(
                id=number,
                document_id=document_id,
                file_id="",
                filename=CORPUS,
                title=title,
                text=text,
                start=0,
                end=len(text),
                score=score,
                rank=rank,
            )
        )
    return tuple(passages)
