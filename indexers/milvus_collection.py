"""The collections of Milvus that hold an index: the vectors and, in a partition of its own, how far the log was applied.

An index that is built anew gets a collection of another name (its generation), and the one before is dropped. So nobody who
still follows the old one can mistake an empty collection for it: whoever asks for it is told that it is gone.
"""

import re
from collections.abc import Callable

import numpy as np

from indexers.milvus_connection import READ_TIMEOUT_S, WRITE_TIMEOUT_S, Client, vectors_schema
from rag_server.types import Cursor

CHUNKS, CURSOR = "_default", "cursor"
# No chunk has it.
CURSOR_ID = 0
# Whatever was acknowledged before, by whichever server, is seen.
CONSISTENCY = "Strong"


def newest_generation(client: Client, prefix: str) -> int:
    """Return the number of the newest collection of the index, 0 if there is none."""
    return max(_generations(client, prefix), default=0)


def open_generation(client: Client, prefix: str, generation: int, dimension: int, *, index_type: str) -> str:
    """Return the name of a collection that is ready to be written and searched, and drop those before it.

    Each step is done again if whoever was at it before was killed, or is at it now.
    """
    name = f"{prefix}_{generation}"
    read, write = {"timeout": READ_TIMEOUT_S}, {"timeout": WRITE_TIMEOUT_S}
    _ensure(lambda: client.has_collection(name, **read), lambda: _create(client, name, dimension))
    _ensure(lambda: bool(client.list_indexes(name, **read)), lambda: _create_index(client, name, index_type))
    _ensure(lambda: client.has_partition(name, CURSOR, **read), lambda: client.create_partition(name, CURSOR, **write))
    client.load_collection(name, **write)
    for before in _generations(client, prefix):
        if before < generation:
            _drop(client, f"{prefix}_{before}")
    return name


def drop_generations(client: Client, prefix: str) -> None:
    """Drop every collection of the indexes whose names begin so."""
    for name in client.list_collections(timeout=READ_TIMEOUT_S):
        if name.startswith(f"{prefix}_"):
            _drop(client, name)


def read_cursor(client: Client, name: str) -> Cursor:
    """Return how far the log was applied, by whichever server was last."""
    fields = ["chunk_id", "deletion_id"]
    rows = client.get(name, [CURSOR_ID], output_fields=fields, partition_names=[CURSOR], timeout=READ_TIMEOUT_S)
    return Cursor(int(rows[0]["chunk_id"]), int(rows[0]["deletion_id"])) if rows else Cursor()


def write_cursor(client: Client, name: str, cursor: Cursor, dimension: int) -> None:
    """Keep how far the log was applied; called once everything before it is there."""
    row = {
        "id": CURSOR_ID,
        "vector": np.zeros(dimension, np.float32),
        "chunk_id": cursor.chunk_id,
        "deletion_id": cursor.deletion_id,
    }
    client.upsert(name, [row], partition_name=CURSOR, timeout=WRITE_TIMEOUT_S)


def _generations(client: Client, prefix: str) -> list[int]:
    names = client.list_collections(timeout=READ_TIMEOUT_S)
    matches = (re.fullmatch(rf"{re.escape(prefix)}_(\d+)", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _ensure(is_there: Callable[[], bool], make: Callable[[], object]) -> None:
    if is_there():
        return
    try:
        make()
    except Exception:
        # Another server may have been faster.
        if not is_there():
            raise


def _create(client: Client, name: str, dimension: int) -> None:
    schema = vectors_schema(dimension)
    client.create_collection(name, schema=schema, consistency_level=CONSISTENCY, timeout=WRITE_TIMEOUT_S)


def _drop(client: Client, name: str) -> None:
    _ensure(
        lambda: not client.has_collection(name, timeout=READ_TIMEOUT_S),
        lambda: client.drop_collection(name, timeout=WRITE_TIMEOUT_S),
    )


def _create_index(client: Client, name: str, index_type: str) -> None:
    how = client.prepare_index_params()
    how.add_index("vector", index_type=index_type, metric_type="IP")
    client.create_index(name, how, timeout=WRITE_TIMEOUT_S)
