"""Measures rag-server beside other programs on this machine, with the same model and the same chunks (`make bench-peers`).

python -m eval.bench_peers
python -m eval.bench_peers --chunks 100000 --index-rounds 1
python -m eval.bench_peers --datasets scifact --systems rag-server,txtai --fresh

A run that was stopped goes on where it was.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from eval.command import run_command
from eval.peers import tables
from eval.peers.comparison import CALLERS, Comparison, Size
from eval.peers.corpora import Corpus, prepare_passages, prepare_scifact
from eval.peers.own_system import OwnSystem
from eval.peers.peer_apis import HayhooksApi, TxtaiApi
from eval.peers.peer_process import PeerSystem
from eval.peers.records import Records
from eval.peers.summary import LIMIT, OWN, Summary, checks, summarise
from eval.peers.system import System
from eval.qa.arguments import at_least_one
from eval.report import Plot, Table, as_markdown, as_text, write_report
from rag_server.config import load_settings
from rag_server.errors import ConfigError

SCIFACT, PASSAGES = "scifact", "passages"
# Of text, that two cores embed at least.
BYTES_PER_S = 8_000
# Of these settings rag-server's figures depend.
SECTIONS = ("embedder", "chunking", "index", "retrieve", "rerank")
NOTES = """
Every system embeds with all-MiniLM-L6-v2 and is given the same chunks, which nobody cuts again. Batches are of 32, which is
what sentence-transformers and all peers but LlamaIndex (10) do by themselves.

No query is asked twice of a system, so that no cache answers: each is a run of 5 to 12 words of a chunk. A search asks for
10 chunks with their texts.

Systems take turns in every round, each alone on the machine; rates are medians of the rounds. A caller asks again as soon
as it was answered. Over HTTP all callers are in one process, in process they are threads of the system's own.

Indexing is without the start of the process. Peers index in memory, and writing that to disk is not counted; rag-server
indexes durably, by `rag-server index`.

Servers are rag-server (vectors and BM25 unless the line says otherwise), txtai's API server, and Hayhooks with Haystack's
pipelines; LlamaIndex and LangChain bring none. Haystack stores in its FAISS integration: its InMemoryDocumentStore has no
index.

The bare limit is `encode` of sentence-transformers and a flat FAISS index, one query at a time however many callers wait.

A new document comes to rag-server as an upload, is stored, and indexed by its worker. Peers add it in memory; txtai's
server writes its index to disk too. The longest time is that of the first upload after a start, for which rag-server starts
its worker.

Memory is that of all processes of a system, shared pages by their share; while indexing, the most of it.
"""


def all_systems() -> list[System]:
    """Return every system, rag-server first."""
    return [
        OwnSystem(),
        PeerSystem("Haystack", "haystack", HayhooksApi(), "/status"),
        PeerSystem("LlamaIndex", "llama_index"),
        PeerSystem("LangChain", "langchain"),
        PeerSystem("txtai", "txtai", TxtaiApi(), "/count"),
        PeerSystem(LIMIT, "bare"),
    ]


def run(arguments: argparse.Namespace, command: str) -> bool:
    """Measure, print and report; return whether all that must be so is so."""
    systems = chosen(all_systems(), arguments.systems)
    shown, plots, passed = list[Table](), list[Plot](), True
    summaries, faults = list[Summary](), list[str]()
    for name in arguments.datasets.split(","):
        corpus, folder = prepare(name, arguments.chunks, arguments.work)
        size = Size(arguments.index_rounds, arguments.rounds, arguments.seconds)
        warn(corpus, systems, size)
        records = Records(folder / "figures")
        for system in systems if arguments.fresh else ():
            records.forget(system.name)
        measured = Comparison(corpus, records, size, folder).run(systems)
        summaries = [summarise(corpus, each) for each in measured]
        made = checks(summaries)
        passed = passed and all(check.passed for check in made)
        shown += corpus_tables(corpus, summaries)
        plots += corpus_plots(corpus, summaries, f"{folder.name}.png")
        shown += [tables.checks_table(corpus, made)] if made else []
        faults += failures(corpus, summaries)
    shown.append(tables.versions_table(summaries))
    print("", *map(as_text, shown), sep="\n\n")
    print("\nIn Markdown:\n", *map(as_markdown, shown), sep="\n\n")
    settings = {**vars(arguments), **own_settings(), "cores": os.cpu_count()}
    path = write_report(
        arguments.out / "peers",
        title="rag-server beside others",
        command=command,
        settings=settings,
        tables=shown,
        plots=plots,
        notes=[*notes(), *faults],
    )
    print("", *faults, f"written: {path}", sep="\n")
    return passed


def chosen(systems: Sequence[System], names: str | None) -> list[System]:
    """Return the systems of these names, separated by commas, or all.

    Raises:
        ConfigError: There is no system of a name.
    """
    if names is None:
        return list(systems)
    by_name = {system.name.lower().split()[0]: system for system in systems}
    unknown = [name for name in names.split(",") if name.lower() not in by_name]
    if unknown:
        raise ConfigError(f"there is no system {unknown[0]}; those that there are: {', '.join(by_name)}")
    return [by_name[name.lower()] for name in names.split(",")]


def prepare(name: str, num_passages: int, work: Path) -> tuple[Corpus, Path]:
    """Return the corpus of that name, and the folder that keeps everything about it.

    Raises:
        ConfigError: There is no such corpus, or its data is missing.
    """
    if name == SCIFACT:
        return prepare_scifact(work / SCIFACT), work / SCIFACT
    if name == PASSAGES:
        folder = work / f"{PASSAGES}-{num_passages}"
        return prepare_passages(folder, num_passages), folder
    raise ConfigError(f"there is no data set {name}; name {SCIFACT} or {PASSAGES}")


def warn(corpus: Corpus, systems: Sequence[System], size: Size) -> None:
    """Say how long it may take on two cores."""
    indexing_s = corpus.chunks_path.stat().st_size / BYTES_PER_S * size.index_rounds * len(systems)
    searching_s = size.seconds * len(CALLERS) * size.search_rounds * sum(len(system.ways) for system in systems)
    hours = (indexing_s + searching_s) / 3600
    print(f"{corpus.name}: {corpus.num_chunks:,} chunks, {len(systems)} systems: {hours:.1f} hours on two cores", flush=True)


def corpus_tables(corpus: Corpus, summaries: Sequence[Summary]) -> list[Table]:
    """Return the figures, and the ratios where there is something to compare."""
    figures = tables.figures_table(corpus, summaries)
    return [figures, tables.ratios_table(corpus, summaries)] if _comparable(summaries) else [figures]


def corpus_plots(corpus: Corpus, summaries: Sequence[Summary], filename: str) -> list[Plot]:
    """Return the plot of the ratios where there is something to compare."""
    return [tables.ratios_plot(corpus, summaries, filename)] if _comparable(summaries) else []


def notes() -> list[str]:
    """Return how it was measured."""
    return [" ".join(note.split()) for note in NOTES.split("\n\n")]


def failures(corpus: Corpus, summaries: Sequence[Summary]) -> list[str]:
    """Return a sentence for each way in which searches failed, which are in no figure."""
    return [
        f"{corpus.name}, {summary.name}, {way.way}: {way.failed} searches failed, the first with: {way.failure}"
        for summary in summaries
        for way in summary.searching
        if way.failed
    ]


def own_settings() -> dict[str, object]:
    """Return the settings that rag-server was measured with."""
    settings = load_settings()
    return {name: getattr(settings, name).model_dump(mode="json") for name in SECTIONS}


def _comparable(summaries: Sequence[Summary]) -> bool:
    return any(summary.name == OWN for summary in summaries) and len(summaries) > 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default=f"{SCIFACT},{PASSAGES}", help=f"{SCIFACT}, {PASSAGES} or both (default)")
    parser.add_argument("--chunks", type=at_least_one, default=20_000, help="passages of many sources (default: 20000)")
    parser.add_argument("--systems", help="only these, such as rag-server,txtai,bare")
    parser.add_argument("--index-rounds", type=at_least_one, default=1, help="times that each system indexes (default: 1)")
    parser.add_argument("--rounds", type=at_least_one, default=3, help="rounds of searches (default: 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="seconds of each load of searches (default: 10)")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="keeps chunks, indexes and figures")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run measured of these systems")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder for the report (default: reports)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 1 if something that must be so is not."""
    return run_command("bench_peers", _parser(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
