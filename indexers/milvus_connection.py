"""The connection to Milvus, made on first use: a Milvus Lite file, a server or a cluster. Its errors say what to do."""

import fcntl
import importlib
import importlib.util
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from rag_server.errors import IndexInUseError, IndexUnavailableError, MissingExtraError

log = structlog.get_logger()

# pymilvus' MilvusClient, which has no types.
Client = Any

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
# Also those of data definition; a page of the log is some megabytes.
WRITE_TIMEOUT_S = 60.0
# For so long after a failed attempt nobody tries again, so that searches do not queue up for a server that is down.
RETRY_AFTER_S = 5
# Milvus' own codes: a name that there is no collection of, and (in the older numbering) the same.
NOT_FOUND, NOT_FOUND_BEFORE_2_3 = 100, 4
# The first versions that take the values of a filter beside its text, which they would take seconds to parse.
TAKES_FILTER_VALUES = re.compile(r"v?(2\.([5-9]|\d\d)|[3-9]|\d\d)\.")


class CollectionGoneError(Exception):
    """A collection of Milvus is not there (any more): another server built the index anew, or somebody dropped it."""


class MilvusConnection:
    """A client that is made when it is first needed, and again after a failure. May be used from any thread."""

    def __init__(self, url: str, *, token: str | None = None, database: str | None = None) -> None:
        """Keep where Milvus is; nothing is connected yet.

        Args:
            url: A file whose name ends in .db, or a server such as http://milvus:19530.
            token: `user:password`, or an API key.
            database: A database of the server; None is its default one.

        Raises:
            MissingExtraError: The client, or for a file Milvus Lite, is not installed.
        """
        self.is_file = url.endswith(".db")
        self.url = str(Path(url).expanduser().absolute()) if self.is_file else url
        self._token = token or ""
        self._database = database or ""
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._version = ""
        # Why the last attempt failed, and when.
        self._failure: tuple[float, str] | None = None
        needed = ["pymilvus", "milvus_lite"] if self.is_file else ["pymilvus"]
        if any(importlib.util.find_spec(name) is None for name in needed):
            names = " ".join(name.replace("_", "-") for name in needed)
            raise MissingExtraError(f"RAG_INDEX__KIND=milvus needs the packages {names}: run `pip install {names}`")

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Give the client.

        Raises:
            CollectionGoneError: The collection that it was asked about is not there.
            IndexInUseError: Another process has the file open.
            IndexUnavailableError: Milvus cannot be reached, or refused.
        """
        import grpc
        from pymilvus import MilvusException

        try:
            yield self._connected()
        except MilvusException as error:
            if error.code == NOT_FOUND or error.compatible_code == NOT_FOUND_BEFORE_2_3:
                raise CollectionGoneError(error.message) from None
            # It hands on gRPC's code where there was no answer.
            raise self._unavailable(error.message, unreachable=error.code == grpc.StatusCode.UNAVAILABLE) from None
        except grpc.RpcError as error:
            raise self._unavailable(f"no answer in time ({error.code()})", unreachable=False) from None

    @property
    def takes_filter_values(self) -> bool:
        """Whether the values of a filter may be sent beside its text."""
        return TAKES_FILTER_VALUES.match(self._version) is not None

    def written_at(self, client: Client, collection: str) -> int:
        """Return the server's own time of this process's last write to the collection, 0 if it told none."""
        from pymilvus.client.ts_utils import get_collection_ts

        return int(get_collection_ts(collection, client._get_connection().server_address, self._database))

    def version(self) -> str:
        """Return the version of the server.

        Raises:
            IndexUnavailableError: It cannot be reached.
        """
        with self.client() as client:
            return str(client.get_server_version(timeout=CONNECT_TIMEOUT_S))

    def fault(self) -> str | None:
        """Return why Milvus cannot be used now, None if it can."""
        try:
            self.version()
        except IndexUnavailableError as error:
            return str(error)
        return None

    def _connected(self) -> Client:
        with self._lock:
            if self._failure is not None and time.monotonic() - self._failure[0] < RETRY_AFTER_S:
                raise IndexUnavailableError(self._failure[1], RETRY_AFTER_S)
            self._failure = None
            if self._client is None:
                self._client, self._version = self._connect()
            return self._client

    def _connect(self) -> tuple[Client, str]:
        from pymilvus import MilvusClient, MilvusException

        # Each of their errors would be in the log twice, once with a traceback.
        for name in ("pymilvus", "milvus_lite"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            if self.is_file:
                Path(self.url).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            client = MilvusClient(self.url, token=self._token, db_name=self._database, timeout=CONNECT_TIMEOUT_S)
            return client, str(client.get_server_version(timeout=CONNECT_TIMEOUT_S))
        except MilvusException as error:
            if self.is_file and _is_locked(Path(self.url) / "LOCK"):
                raise IndexInUseError(
                    f"another process has {self.url} open, and a Milvus Lite file is for one at a time: end that one, or set "
                    "RAG_INDEX__URL to a Milvus server",
                    RETRY_AFTER_S,
                ) from None
            raise self._unavailable(error.message, unreachable=True) from None
        except OSError as error:
            raise self._unavailable(str(error), unreachable=True) from None

    def _unavailable(self, reason: str, *, unreachable: bool) -> IndexUnavailableError:
        message = self._told(reason)
        if unreachable:
            log.warning("Milvus cannot be reached", reason=message)
            self._failure = time.monotonic(), message
        return IndexUnavailableError(message, RETRY_AFTER_S)

    def _told(self, reason: str) -> str:
        if self.is_file:
            remedy = (
                "see that its folder can be written and its disk has room; if it is damaged, delete it: it is built again from "
                "the store"
            )
        else:
            remedy = "start it, or correct RAG_INDEX__URL, RAG_INDEX__TOKEN and RAG_INDEX__DATABASE; nothing is lost meanwhile"
        return f"the vector index in Milvus at {self.url} cannot be used: {reason}; {remedy}"


def vectors_schema(dimension: int) -> Any:
    """Return what a collection of vectors of that dimension holds, by chunk id; dynamic fields are for its cursor alone."""
    from pymilvus import DataType, MilvusClient

    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    return schema


def _is_locked(file: Path) -> bool:
    """Whether a process has Milvus Lite's folder open, which is all that Milvus Lite would not say."""
    try:
        with file.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
