"""Trains the candidate-set ranker on judged candidates, and compares it with rank fusion on collections it was not trained on.

python -m eval.tuning.candidate_set --train nfcorpus-train hotpotqa 2wikimultihopqa --measure cranfield scifact --out FOLDER

The ranker is in FOLDER/model if --out is given a folder of no other run, the figures in FOLDER/training.json.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from eval.command import run_command
from eval.ranking.measures import NDCG_10, Measured, measure
from eval.ranking.rankings import scores_by_rank
from eval.significance import paired_p_value
from eval.tuning.first_stage import build_first_stage
from eval.tuning.ranking_labels import DATASETS, Split, find_candidates, judged_labels, load_collection
from indexers.sentence_embedder import SentenceEmbedder
from rag_server.config import load_settings
from rag_server.learning.arguments import add_training_arguments, training_options
from rag_server.learning.record import write_record
from rag_server.types import Vectors
from rerankers.candidate_set_network import NetworkShape
from rerankers.candidate_set_ranker import CandidateSetReranker, save_candidate_set_ranker
from rerankers.training.candidate_set import CandidateSet, candidate_set, train_network
from rerankers.training.labels import as_passages

NUM_CANDIDATES = 50


class RememberingEmbedder(SentenceEmbedder):
    """Embeds each passage once: it is a candidate of many queries."""

    def __init__(self, model: str | None, *, device: str | None) -> None:
        super().__init__(model, device=device)
        self._known: dict[str, Vectors] = {}

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector per passage, (len(texts), dimension) float32."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, super().embed_passages(new), strict=True))
        rows: Vectors = np.stack([self._known[text] for text in texts])
        return rows


def training_sets(names: Sequence[str], embedder: SentenceEmbedder) -> list[CandidateSet]:
    """Return the judged candidates of the data sets, as hybrid search finds them, in numbers."""
    sets = []
    for name in names:
        collection = load_collection(name, Split())
        found = find_candidates(collection, "hybrid", embedder, num_candidates=NUM_CANDIDATES)
        sets += [candidate_set(label, embedder) for label in judged_labels(collection, found)]
    return sets


def compare(name: str, ranker: CandidateSetReranker, embedder: SentenceEmbedder) -> Mapping[str, float]:
    """Return nDCG@10 of rank fusion and of the ranker on its candidates, and the p of their difference."""
    collection = load_collection(name, Split())
    runs: dict[str, dict[str, dict[str, float]]] = {"fusion": {}, "ranker": {}}
    with tempfile.TemporaryDirectory() as folder:
        first_stage = build_first_stage(collection.documents, "hybrid", embedder, Path(folder) / "bm25")
        for id_, query in track(list(collection.queries.items()), description=name, console=Console(stderr=True)):
            candidates = first_stage.search(query, NUM_CANDIDATES)
            ranking = asyncio.run(ranker.rerank(query, as_passages(candidates)))
            runs["fusion"][id_] = scores_by_rank(candidate.id for candidate in candidates)
            runs["ranker"][id_] = scores_by_rank(passage.document_id for passage in ranking.passages)
    measured: dict[str, Measured] = {kind: measure(collection.grades, run) for kind, run in runs.items()}
    per_query = [measured[kind].per_query[NDCG_10] for kind in ("fusion", "ranker")]
    return {**{kind: of_kind.mean(NDCG_10) for kind, of_kind in measured.items()}, "p": paired_p_value(*per_query)}


def _run(given: argparse.Namespace, _: str) -> None:
    settings, options = load_settings().embedder, training_options(given)
    embedder = RememberingEmbedder(settings.model, device=settings.device)
    shape = NetworkShape(embedder.dimension, given.width, given.layers)
    sets = training_sets(given.train, embedder)
    network, ran = train_network(sets, shape, options, what=f"{given.train} {embedder.model_id}")
    save_candidate_set_ranker(options.out / "model", network, embedder)
    ranker = CandidateSetReranker(network, embedder)
    compared = {name: compare(name, ranker, embedder) for name in given.measure}
    facts: dict[str, Any] = {"train": given.train, "num_lists": len(sets), "log": ran.log, NDCG_10: compared}
    write_record(options.out, facts, options)
    for name, figures in compared.items():
        print(f"{name}: nDCG@10 {figures['fusion']:.3f} by fusion, {figures['ranker']:.3f} by the ranker, p {figures['p']:.3f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the status is 1 where there is no ranker in the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", choices=DATASETS, required=True)
    parser.add_argument("--measure", nargs="+", default=[], help="judged collections in BEIR's layout")
    shape = NetworkShape(1)
    parser.add_argument("--width", type=int, default=shape.width, help="of the network's layers")
    parser.add_argument("--layers", type=int, default=shape.num_layers, help="of the network")
    add_training_arguments(parser, steps=400)
    return run_command("tuning.candidate_set", parser, _run, arguments)


if __name__ == "__main__":
    sys.exit(main())
