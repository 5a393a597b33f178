"""Gives an evaluation the served query flow over folders of files, indexed for as long as it is used, and without a cache."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from indexers.loaders.dispatch import find_files
from rag_server import factory
from rag_server.commands.indexing import ingest_files
from rag_server.commands.progress import IndexingBar
from rag_server.config import DatabaseSettings, Settings
from rag_server.errors import RagServerError
from rag_server.pipeline import RagPipeline
from rag_server.protocols import Engine
from rag_server.types import Access, VectorStore


class NoCache:
    """Remembers nothing, so that each question takes its own way."""

    async def get(self, key: str) -> None:
        """Find nothing."""

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        """Do nothing."""


@contextlib.contextmanager
def temporary_collections(
    settings: Settings, engine: Engine, folders: Mapping[str, Path]
) -> Iterator[tuple[RagPipeline, dict[str, VectorStore]]]:
    """Give the query flow with this engine, and a vector store for each folder by its name; the data goes with the context.

    Raises:
        RagServerError: A file cannot be indexed.
    """
    with tempfile.TemporaryDirectory() as data_dir, IndexingBar() as bar:
        local = settings.model_copy(update={"data_dir": Path(data_dir), "database": DatabaseSettings()})
        store = factory.open_store(local)
        try:
            embedder = factory.load_embedder(local)
            for name, folder in folders.items():
                report = ingest_files(local, store, embedder, find_files([folder]), collection=name, progress=bar)
                if report.failed:
                    raise RagServerError(f"{folder} cannot be indexed: {report.failed}")
            pipeline = factory.build_pipeline(
                local,
                store=store,
                embedders=factory.build_embedders(local, embedder),
                indexes=factory.open_indexes(local, store),
                engine=engine,
                cache=NoCache(),
                rerankers=factory.build_rerankers(local, engine),
            )
            yield pipeline, {name: store.vector_stores.get(name, Access()) for name in folders}
        finally:
            store.database.close()
