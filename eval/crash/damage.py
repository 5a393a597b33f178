"""Damages every file of a data directory and says how the next start takes it: unharmed, repaired, or refused by name."""

import random
import shutil
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select
from structlog.testing import capture_logs

from eval.crash.check import ALL, COMMON_WORD, UNIQUE_WORD
from eval.crash.child import kill_self
from eval.crash.plan import Model
from eval.crash.work import ACCESS, DATA, Session, make_small
from rag_server.errors import StoreError
from rag_server.services import Address, read_address, write_address
from rag_server.store import schema
from rag_server.store.verification import verify

Kind = Literal["flip", "cut", "remove"]
# What changes while a file is worked on, and hints that cost work at most if they are wrong.
NOT_CONTENT = {
    "facts": {"value"},
    "files": {"status", "error", "bytes_read", "fingerprint", "lease_owner", "lease_until", "attempts"},
    "documents": {"content_hash"},
}
LOGS = ("valkey.log", "vllm.log", "worker.log")
OPERATIONS = ("ingest", "upload", "ingest", "delete", "attributes", "update", "compaction", "snapshot", "model change")
# Damaged at more places than other files: most of a database is there only now and then.
DATABASE_PLACES = 10


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to one file; `position` is the byte that is flipped, or the length that is left."""

    file: str
    kind: Kind
    position: int = 0
    bit: int = 0

    def apply(self, data: Path) -> None:
        """Damage the file in that data directory."""
        path = data / self.file
        if self.kind == "remove":
            path.unlink()
            return
        content = bytearray(path.read_bytes())
        if self.kind == "cut":
            path.write_bytes(content[: self.position])
            return
        content[self.position] ^= 1 << self.bit
        path.write_bytes(content)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a damaged directory; `detail` says what was logged or raised, or what is wrong."""

    damage: Damage
    kind: Literal["unharmed", "repaired", "refused", "failed"]
    detail: str = ""


def build(directory: Path, seed: int, done: Connection, *, killed: bool) -> None:
    """Fill a data directory as a server does; end in order, or by kill -9 with changes in the write-ahead log."""
    make_small()
    model = Model(random.Random(seed))
    session = Session(directory)
    session.store.keys.create("reader", principals=["staff"])
    _do(session, model)
    session.close()
    session = Session(directory)
    _do(session, model)
    session.store.keys.create("writer")
    write_address(directory / DATA, Address("http://127.0.0.1:8000", "secret"))
    for name in LOGS:
        path = directory / DATA / "logs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a line\n" * 20)
    done.send("built")
    if killed:
        kill_self()
    session.close()


def damages(data: Path, seed: int, flips: int) -> Iterator[Damage]:
    """Yield what is to be done to every file of the data directory."""
    chooser = random.Random(seed)
    for path in sorted(path for path in data.rglob("*") if path.is_file()):
        name, content = str(path.relative_to(data)), path.read_bytes()
        yield Damage(name, "remove")
        yield from (Damage(name, "cut", length) for length in sorted({0, len(content) // 2, max(0, len(content) - 1)}))
        # What nothing was ever written to holds zeros, and nothing reads it.
        written = [position for position, byte in enumerate(content) if byte]
        places = flips * (DATABASE_PLACES if name in ("rag.db", "rag.db-wal") else 1)
        for position in chooser.sample(written, min(places, len(written))):
            yield Damage(name, "flip", position, chooser.randrange(8))


def outcome(original: Path, scratch: Path, damage: Damage, expected: Mapping[str, Any]) -> Outcome:
    """Damage a copy of the directory, start on it and search it."""
    make_small()
    copy = scratch / f"{damage.file.replace('/', '_')}-{damage.kind}-{damage.position}"
    shutil.copytree(original, copy)
    damage.apply(copy / DATA)
    try:
        with capture_logs() as logs:
            found = contents(copy)
    except StoreError as error:
        return Outcome(damage, "refused", str(error))
    # Of any kind: that is what is looked for.
    except Exception as error:  # noqa: BLE001
        return Outcome(damage, "failed", f"{type(error).__name__}: {error} in {traceback.extract_tb(error.__traceback__)[-8:]}")
    finally:
        # The threads of an index may still be tidying up in it.
        shutil.rmtree(copy, ignore_errors=True)
    different = [name for name in expected if found[name] != expected[name]]
    warnings = [str(entry) for entry in logs if entry["log_level"] in ("warning", "error")]
    if different:
        return Outcome(damage, "failed", f"different without an error: {', '.join(different)}; logged: {warnings}")
    return Outcome(damage, "repaired" if warnings else "unharmed", "; ".join(warnings))


def contents(directory: Path) -> dict[str, Any]:
    """Open the directory as a server does, verify and search it; return everything that can be read from it."""
    session = Session(directory)
    try:
        verify(session.store.database)
        found: dict[str, Any] = {f"table {table.name}": _rows(session, table) for table in schema.metadata.sorted_tables}
        found["uploads"] = {
            upload.id: b"".join(session.store.uploads.content(upload.id)) for upload in session.store.uploads.readable(ACCESS)
        }
        found |= _searched(session)
        read_address(directory / DATA)
        address = Address("http://127.0.0.1:1", "other")
        write_address(directory / DATA, address)
        found["address"] = read_address(directory / DATA) == address
        session.indexes.save()
    finally:
        session.close()
    return found


def _do(session: Session, model: Model) -> None:
    for kind in OPERATIONS:
        operation = model.draw(kind)
        model.begin(operation)
        session.do(operation)
        model.acknowledge()


def _rows(session: Session, table: Any) -> list[tuple[Any, ...]]:
    columns = [column for column in table.c if column.name not in NOT_CONTENT.get(table.name, ())]
    with session.store.database.read() as connection:
        return sorted(tuple(map(repr, row)) for row in connection.execute(select(*columns)))


def _searched(session: Session) -> dict[str, Any]:
    """Return what both indexes hold and find."""
    vector_store = session.vector_store()
    embedder = session.embedder_of(vector_store)
    vectors, lexical = session.indexes.vectors(vector_store), session.indexes.lexical(vector_store)
    with session.store.database.read() as connection:
        texts = connection.execute(select(schema.chunks.c.text).order_by(schema.chunks.c.id)).scalars().all()
    words = sorted({word for text in texts for word in UNIQUE_WORD.findall(text)})
    return {
        "FAISS": sorted(hit.chunk_id for hit in vectors.search(embedder.embed_queries(["water"])[0], ALL)),
        "BM25": sorted(hit.chunk_id for hit in lexical.search(COMMON_WORD, ALL)),
        "words": {word: [hit.chunk_id for hit in lexical.search(word, 3)] for word in words},
        "passages": session.store.passages.passages(lexical.search(COMMON_WORD, 5), ACCESS) != [],
    }
