"""Milvus for tests: Milvus Lite, which is a server in the process of the test, on a file of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexers.milvus_connection import MilvusConnection


@contextmanager
def milvus_lite(file: Path) -> Iterator[MilvusConnection]:
    """Give a connection to Milvus Lite on `file`; the file is closed at the end."""
    from milvus_lite.server_manager import server_manager_instance

    yield MilvusConnection(str(file))
    server_manager_instance.release_server(str(file))
