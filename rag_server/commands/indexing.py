"""`rag-server index`: files into a collection, in this process, whether or not a server is running."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rag_server import factory
from rag_server.commands.confirmation import check_can_ask, confirmed
from rag_server.commands.progress import IndexingBar
from rag_server.config import Settings
from rag_server.errors import IndexInUseError, InvalidRequestError, NotFoundError
from rag_server.filters import parse_attributes
from rag_server.jobs.change_model import change_model
from rag_server.jobs.ingest import Ingest, IngestReport, Source
from rag_server.protocols import Embedder, Progress
from rag_server.types import Access, Attributes, NewFile, StoredFile, VectorStore

# Of the rows of one file.
MAX_REASONS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What is said of every file on the command line."""

    attributes: Attributes = field(default_factory=dict)
    principals: tuple[str, ...] | None = None


def run_index(
    settings: Settings,
    paths: Sequence[Path],
    *,
    collection: str,
    options: FileOptions,
    prune: bool,
    assume_yes: bool,
    as_json: bool,
    ray: str | None = None,
) -> bool:
    """Index and report; return whether every file was indexed. With `ray`, the work is done on the cluster at that address.

    Raises:
        InvalidRequestError: There is no file to index.
        ClusterUnavailableError: The cluster cannot be reached, or failed.
        MissingExtraError: Ray is not installed.
    """
    from indexers.loaders.dispatch import find_files

    files = find_files(paths)
    if not files and not prune:
        names = ", ".join(str(path) for path in paths)
        raise InvalidRequestError(f"there is no file to index in {names}; name files, or folders that hold some")
    store = factory.open_store(settings)
    if prune and _gone(store, paths, collection=collection):
        check_can_ask("Remove what is gone from the collection?", assume_yes=assume_yes)
    with IndexingBar() as bar:
        embedder = factory.load_embedder(settings)
        report = ingest_files(settings, store, embedder, files, collection=collection, options=options, progress=bar, ray=ray)
    pruned = _prune(store, paths, collection=collection, assume_yes=assume_yes) if prune else []
    store.database.close()
    _print_report(report, pruned, collection=collection, as_json=as_json)
    return not report.failed


def ingest_files(
    settings: Settings,
    store: factory.Store,
    embedder: Embedder,
    files: Sequence[Path],
    *,
    collection: str,
    progress: Progress,
    options: FileOptions = FileOptions(),
    ray: str | None = None,
) -> IngestReport:
    """Index the files into the collection of that name, made if need be, and bring its derived indexes up to date."""
    vector_store = store.vector_stores.get_or_create(collection, Access(), embedder)
    sources = [_source(path, options) for path in files]
    if ray is not None:
        from rag_server.commands.indexing_ray import ingest_on_ray

        report = ingest_on_ray(settings, store, vector_store, embedder, sources, progress, address=ray)
    else:
        with building_ingest(settings, store) as ingest:
            report = ingest(embedder).run(vector_store, sources, progress)
    refresh_indexes(settings, store, vector_store)
    return report


def refresh_indexes(settings: Settings, store: factory.Store, vector_store: VectorStore) -> None:
    """Bring the derived indexes up to date, but for a vector index that a running server has open: it does it itself."""
    indexes = factory.open_indexes(settings, store)
    try:
        indexes.refresh(vector_store)
    except IndexInUseError:
        indexes.lexical(vector_store).save()


@contextmanager
def building_ingest(settings: Settings, store: factory.Store) -> Iterator[Callable[[Embedder], Ingest]]:
    """Give what makes the indexing of files with an embedding model; the processes that parse them end with the context."""
    from indexers.loaders.parser_process import ParserPool

    cut_text = factory.build_chunker(settings)
    with ParserPool() as parsers:
        yield lambda embedder: Ingest(
            files=store.files,
            documents=store.documents,
            embedder=embedder,
            load=parsers.parse,
            cut_text=cut_text,
            chunking=settings.chunking,
        )


def run_change_model(settings: Settings, *, collection: str, drop_old: bool, assume_yes: bool) -> None:
    """Give the collection the vectors of the configured embedding model; it stays searchable throughout."""
    store = factory.open_store(settings)
    vector_store = store.vector_stores.get(collection, Access())
    embedder = factory.load_embedder(settings)
    with IndexingBar(what="chunks") as bar:
        num_built = change_model(store.model_change, vector_store, embedder, bar)
    changed = store.vector_stores.get(collection, Access())
    refresh_indexes(settings, store, changed)
    print(f"{collection}: searched with {embedder.model_id} now ({num_built} vectors built)")
    if drop_old and confirmed(
        "Delete the vectors of other models? Going back to one would build them again.", assume_yes=assume_yes
    ):
        print(f"{store.model_change.drop_others(changed)} vectors deleted")
    store.database.close()


def parse_attribute_options(given: Sequence[str]) -> dict[str, Any]:
    """Return the attributes that KEY=VALUE options say; VALUE is JSON where it is a number or boolean, else text.

    Raises:
        InvalidRequestError: One has no key, or a value that cannot be an attribute.
    """
    attributes: dict[str, Any] = {}
    for option in given:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise InvalidRequestError(f"--attribute {option!r}: write it as KEY=VALUE")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        attributes[key] = parsed if isinstance(parsed, bool | int | float) else value
    return parse_attributes(attributes)


def _source(path: Path, options: FileOptions) -> Source:
    num_bytes = path.stat().st_size if path.is_file() else 0
    new = NewFile(
        source=str(path.absolute()),
        filename=path.name,
        bytes=num_bytes,
        attributes=options.attributes,
        principals=options.principals,
    )
    return Source(path, new)


def _prune(store: factory.Store, paths: Sequence[Path], *, collection: str, assume_yes: bool) -> list[str]:
    """Remove from the collection the files of the named folders that are there no more; return their paths."""
    vector_store = store.vector_stores.get(collection, Access())
    gone = _gone(store, paths, collection=collection)
    if not gone or not confirmed(
        f"Remove {len(gone)} files that are gone from {collection!r}?", [file.source for file in gone], assume_yes=assume_yes
    ):
        return []
    for file in gone:
        store.files.delete(vector_store, file)
    return [file.source for file in gone]


def _gone(store: factory.Store, paths: Sequence[Path], *, collection: str) -> list[StoredFile]:
    """Return the files of the collection that were indexed from these paths and are there no more."""
    try:
        vector_store = store.vector_stores.get(collection, Access())
    except NotFoundError:
        return []
    found: dict[int, StoredFile] = {}
    for path in paths:
        named = store.files.find(vector_store, str(path.absolute()))
        for file in [*store.files.under(vector_store, path.absolute()), *([named] if named is not None else [])]:
            found[file.key] = file
    return [file for file in found.values() if not Path(file.source).exists()]


def _print_report(report: IngestReport, pruned: Sequence[str], *, collection: str, as_json: bool) -> None:
    if as_json:
        body: Mapping[str, Any] = {"collection": collection, **asdict(report), "pruned": list(pruned)}
        print(json.dumps(body, ensure_ascii=False, indent=2))
        return
    for reasons in report.failed.values():
        for reason in reasons[:MAX_REASONS_SHOWN]:
            print(f"not indexed: {reason}", file=sys.stderr)
        if len(reasons) > MAX_REASONS_SHOWN:
            print(
                f"not indexed: {len(reasons) - MAX_REASONS_SHOWN} more rows of that file (--json lists them)", file=sys.stderr
            )
    counts = [
        f"{len(report.indexed)} files indexed ({report.num_documents} documents, {report.num_chunks} new chunks)",
        f"{len(report.unchanged)} unchanged",
        f"{len(report.failed)} with errors",
    ]
    counts += [f"{len(report.moved)} moved"] if report.moved else []
    counts += [f"{len(pruned)} removed"] if pruned else []
    print(f"{collection}: {', '.join(counts)}")
