"""`rag-server migrate-index`: the vectors of all collections into FAISS or Milvus, while the other goes on being searched."""

import json
from collections.abc import Sequence

from pydantic import ValidationError

from rag_server import factory
from rag_server.commands.confirmation import check_can_ask, confirmed
from rag_server.commands.progress import IndexingBar
from rag_server.config import IndexKind, IndexSettings, Settings
from rag_server.errors import ConfigError
from rag_server.jobs.migrate_index import IndexMigration
from rag_server.types import VectorStore

# More than a server has.
ALL_COLLECTIONS = 1_000_000


def run_migrate_index(settings: Settings, to: IndexKind, *, drop_old: bool, assume_yes: bool, as_json: bool) -> None:
    """Build the vector indexes of all collections there, check them, and say how to switch.

    Raises:
        ConfigError: The settings do not say where Milvus is.
        InvalidRequestError: The old indexes are to be deleted, and there is nobody to ask.
        IndexUnavailableError: Milvus cannot be used. Run again, it goes on where it stopped.
    """
    other: IndexKind = "milvus" if to == "faiss" else "faiss"
    target, old = _with_index(settings, to), _with_index(settings, other) if drop_old else None
    question = f"Delete the vector indexes in {other}? Going back to them would build them again."
    if old is not None:
        check_can_ask(question, assume_yes=assume_yes)
    store = factory.open_store(settings)
    try:
        collections = store.vector_stores.newest(ALL_COLLECTIONS)
        held = _migrated(target, store, collections)
        dropped = old is not None and confirmed(question, assume_yes=assume_yes)
        if old is not None and dropped:
            _drop(old, store, collections)
    finally:
        store.database.close()
    if as_json:
        numbers = [{"collection": c.name, "tenant": c.tenant, "vectors": n} for c, n in zip(collections, held, strict=True)]
        print(json.dumps({"to": to, "collections": numbers, "old_deleted": dropped}, ensure_ascii=False, indent=2))
        return
    for collection, number in zip(collections, held, strict=True):
        print(f"{collection.name}: {number:,} vectors in {to}, as many as the store has chunks")
    if dropped:
        print(f"the vector indexes in {other} are deleted")
    if settings.index.kind != to:
        print(f"Set RAG_INDEX__KIND={to} and restart the server to search there.")


def _migrated(target: Settings, store: factory.Store, collections: Sequence[VectorStore]) -> list[int]:
    with IndexingBar(what="collection") as bar:
        bar.started(len(collections), sum(store.log.num_chunks(collection) for collection in collections))
        migration = IndexMigration(factory.open_indexes(target, store), store.log, bar)
        return [migration.run(collection) for collection in collections]


def _drop(old: Settings, store: factory.Store, collections: Sequence[VectorStore]) -> None:
    indexes = factory.open_indexes(old, store)
    for collection in collections:
        indexes.forget_vectors(collection)


def _with_index(settings: Settings, kind: IndexKind) -> Settings:
    try:
        index = IndexSettings.model_validate({**settings.index.model_dump(), "kind": kind})
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None
    return settings.model_copy(update={"index": index})
