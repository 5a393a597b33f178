"""`rag-server index`: files into a collection, in this process, whether or not a server is running."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rag_server import factory
from rag_server.commands.progress import IndexingBar
from rag_server.config import Settings
from rag_server.errors import InvalidRequestError
from rag_server.jobs.ingest import Ingest, IngestReport
from rag_server.protocols import Embedder, Progress


def run_index(settings: Settings, paths: Sequence[Path], *, collection: str, as_json: bool) -> bool:
    """Index and report; return whether every file was indexed.

    Raises:
        InvalidRequestError: There is no file to index.
    """
    from indexers.loaders.dispatch import find_files

    files = find_files(paths)
    if not files:
        names = ", ".join(str(path) for path in paths)
        raise InvalidRequestError(f"there is no file to index in {names}; name files, or folders that hold some")
    store = factory.open_store(settings)
    with IndexingBar() as bar:
        report = ingest_files(settings, store, factory.load_embedder(settings), files, collection=collection, progress=bar)
    store.database.close()
    _print_report(report, collection=collection, as_json=as_json)
    return not report.failed


def ingest_files(
    settings: Settings,
    store: factory.Store,
    embedder: Embedder,
    files: Sequence[Path],
    *,
    collection: str,
    progress: Progress,
) -> IngestReport:
    """Index the files into the collection of that name, made if need be, and bring its derived indexes up to date."""
    from indexers.chunking import chunk_text
    from indexers.loaders.dispatch import load

    vector_store = store.vector_stores.get_or_create(
        collection, embedding_model=embedder.model_id, dimension=embedder.dimension
    )
    job = Ingest(files=store.files, embedder=embedder, load=load, cut_text=chunk_text, chunking=settings.chunking)
    report = job.run(vector_store, files, progress)
    factory.open_indexes(settings, store).refresh(vector_store)
    return report


def _print_report(report: IngestReport, *, collection: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"collection": collection, **asdict(report)}, ensure_ascii=False, indent=2))
        return
    for reasons in report.failed.values():
        for reason in reasons:
            print(f"not indexed: {reason}", file=sys.stderr)
    print(
        f"{collection}: {len(report.indexed)} files indexed "
        f"({report.num_documents} documents, {report.num_chunks} new chunks), "
        f"{len(report.unchanged)} unchanged, {len(report.failed)} with errors"
    )
