"""Measures every system on one corpus in turns, so that whatever else the machine does hits all of them alike."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from eval.peers.adapters.commands import Row, read_rows
from eval.peers.corpora import NEW_MARK, Corpus, distinct_queries, document_of, new_documents
from eval.peers.records import IndexRecord, LoadRecord, Records, SearchRecord, slug
from eval.peers.system import Searcher, System

CALLERS = (1, 8, 32)
# More chunks than documents are wanted: a document may have several.
RANKED_CHUNKS = 50
# More than any system answers in a second on the machines this was written for; one that does ends its load sooner.
MAX_QUERIES_PER_S = 600
WARM_UP_QUERIES = 20


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured of each system."""

    index_rounds: int = 1
    search_rounds: int = 3
    # Of each load.
    seconds: float = 10.0
    # In each round; the first may take longer than the others.
    new_documents: int = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one system on one corpus, by the way to search."""

    system: System
    indexed: list[IndexRecord]
    searched: dict[str, list[SearchRecord]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One corpus, what keeps its figures, and where the systems keep their data."""

    corpus: Corpus
    records: Records
    size: Size
    folder: Path

    def run(self, systems: Sequence[System]) -> list[Measured]:
        """Measure what is not measured yet; every system takes its turn in every round."""
        indexed: dict[str, list[IndexRecord]] = {system.name: [] for system in systems}
        searched: dict[str, dict[str, list[SearchRecord]]] = {
            system.name: {way: [] for way in system.ways} for system in systems
        }
        for number in range(self.size.index_rounds):
            for system in systems:
                indexed[system.name].append(self._index(system, number))
        rows = read_rows(self.corpus.chunks_path)
        for number in range(self.size.search_rounds):
            for system in systems:
                for way in system.ways:
                    searched[system.name][way].append(self._search(system, way, number, rows))
        return [Measured(each, indexed[each.name], searched[each.name]) for each in systems]

    def _index(self, system: System, number: int) -> IndexRecord:
        """Index anew; the last round's index is the one that is searched."""

        def measure() -> IndexRecord:
            self._tell(f"{system.name} indexes {self.corpus.num_chunks:,} chunks, round {number + 1}")
            folder = self._folder(system)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            record = IndexRecord(**asdict(system.index(self.corpus.chunks_path, folder)))
            self._tell(f"{system.name}: {record.rate:.1f} chunks/s")
            return record

        return self.records.get_or_measure(IndexRecord, measure, system.name, "index", str(number))

    def _search(self, system: System, way: str, number: int, rows: Sequence[Row]) -> SearchRecord:
        def measure() -> SearchRecord:
            self._tell(f"{system.name}, {way}: searches, round {number + 1}")
            with system.open(self._folder(system), way) as searcher:
                ranked = self._rank(searcher) if number == 0 else {}
                record = self._round(searcher, ranked, self._queries(system, way, number, rows), rows)
            rates = ", ".join(f"{load.rate:.1f}/s with {callers}" for callers, load in record.loads.items())
            self._tell(f"{system.name}, {way}: {rates}")
            return record

        return self.records.get_or_measure(
            SearchRecord, measure, system.name, way, f"search {self.size.seconds:g}s", str(number)
        )

    def _rank(self, searcher: Searcher) -> dict[str, list[str]]:
        """Return the documents that are found for each judged query, without those that were added by another way."""
        found = searcher.rank(list(self.corpus.queries.values()), RANKED_CHUNKS)
        return {
            query_id: [document_of(id_) for id_ in ids if not id_.startswith(NEW_MARK)]
            for query_id, ids in zip(self.corpus.queries, found, strict=True)
        }

    def _round(
        self, searcher: Searcher, ranked: dict[str, list[str]], queries: Sequence[str], rows: Sequence[Row]
    ) -> SearchRecord:
        searcher.rank(queries[:WARM_UP_QUERIES], 1)
        waiting, loads = queries[WARM_UP_QUERIES:], {}
        for callers in CALLERS:
            load = searcher.search(waiting, callers=callers, seconds=self.size.seconds)
            waiting = waiting[len(load.latencies_ms) + len(load.failures) :]
            loads[callers] = LoadRecord(**asdict(load))
        memory_mb = searcher.memory_mb()
        found_s = [searcher.add(row) for row in new_documents(rows, self.size.new_documents)]
        return SearchRecord(ranked=ranked, loads=loads, found_s=found_s, memory_mb=memory_mb)

    def _queries(self, system: System, way: str, number: int, rows: Sequence[Row]) -> list[str]:
        """Return queries that this system was not asked before: of the same in every run those of this way and round."""
        per_round = WARM_UP_QUERIES + round(MAX_QUERIES_PER_S * self.size.seconds * len(CALLERS))
        place = number * len(system.ways) + system.ways.index(way)
        return distinct_queries(rows, (place + 1) * per_round)[place * per_round :]

    def _folder(self, system: System) -> Path:
        return self.folder / slug(system.name) / "index"

    def _tell(self, what: str) -> None:
        print(f"{self.corpus.name}: {what}", flush=True)
