"""Damage behind the store's back is found: in every column that matters, in either database, and in SQLite's log."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import bindparam, text

from rag_server import factory
from rag_server.batch_types import BatchRow, NewBatch, RowError
from rag_server.config import load_settings
from rag_server.errors import StoreDamagedError
from rag_server.factory import Store
from rag_server.store.database import Database
from rag_server.store.seals import SEALED
from rag_server.store.verification import verify
from rag_server.types import Access, Caller, Cursor, NewFile, NewUploadSession, NewVectorStore, Section
from tests.stores import MODEL, Model, embedded, rows

Open = Callable[[], Store]

# What is written behind the store's back, by table and column: a plausible value of the column's type.
SEALED_DAMAGE = {
    "vector_stores": {
        "id": None,
        "tenant": "'other'",
        "name": "'docz'",
        "created_at": "created_at + 1",
        "embedding_id": "(SELECT max(id) FROM embeddings)",
        "description": "'other'",
        "metadata": """'{"a": "c"}'""",
        "expires_after_days": "expires_after_days + 1",
    },
    "embeddings": {"id": None, "model": "'n'", "dimension": "5", "location": "'/elsewhere'"},
    "uploads": {
        "id": None,
        "tenant": "'other'",
        "filename": "'y'",
        "purpose": "'other'",
        "bytes": "bytes + 1",
        "created_at": "created_at + 1",
        "principals": """'["bob"]'""",
        "is_complete": "NOT is_complete",
        "expires_at": "expires_at + 1",
        "layout": "'[[0, 1]]'",
    },
    "upload_sessions": {
        "id": None,
        "tenant": "'other'",
        "owner": "'other'",
        "file_id": "'file-other'",
        "filename": "'y'",
        "purpose": "'other'",
        "mime_type": "'text/html'",
        "bytes": "bytes + 1",
        "created_at": "created_at + 1",
        "expires_at": "expires_at + 1",
        "file_expires_after_s": "file_expires_after_s + 1",
        "status": "'completed'",
    },
    "session_parts": {
        "id": "'part_other'",
        "session_id": "(SELECT min(id) FROM upload_sessions)",
        "first_number": "first_number + 1",
        "num_pieces": "num_pieces + 1",
        "bytes": "bytes + 1",
        "created_at": "created_at + 1",
        "is_complete": "NOT is_complete",
    },
    "file_batches": {
        "id": None,
        "tenant": "'other'",
        "owner": "'other'",
        "vector_store_id": "(SELECT max(id) FROM vector_stores WHERE id <> vector_store_id)",
        "created_at": "created_at + 1",
        "cancelled_at": "1",
    },
    "files": {
        "id": "'file-other'",
        "vector_store_id": "(SELECT max(id) FROM vector_stores WHERE id <> vector_store_id)",
        "source": "'/other'",
        "filename": "'other'",
        "bytes": "bytes + 1",
        "created_at": "created_at + 1",
        "attributes": """'{"team": "blue"}'""",
        "principals": """'["bob"]'""",
        "chunking": """'{"max_tokens": 9}'""",
    },
    "document_sections": {
        "document_key": "(SELECT max(id) FROM documents)",
        "sections": """'[[0, "page", 2.0, 0]]'""",
    },
    "documents": {
        "vector_store_id": "(SELECT max(id) FROM vector_stores WHERE id <> vector_store_id)",
        "file_key": "(SELECT max(key) FROM files)",
        "document_id": "'e'",
        "title": "'Titlf'",
        "text": "text || 'x'",
        "attributes": """'{"year": 1998}'""",
    },
    "responses": {
        "id": None,
        "tenant": "'other'",
        "owner": "'other'",
        "created_at": "created_at + 1",
        "previous_response_id": "'resp_other'",
        "response": """'{"status": "completed"}'""",
    },
    "response_items": {
        "response_id": "'resp_2'",
        "is_output": "NOT is_output",
        "id": "'msg_other'",
        "item": """'{"id": "msg_1"}'""",
    },
    "conversations": {
        "id": None,
        "tenant": "'other'",
        "owner": "'other'",
        "created_at": "created_at + 1",
        "metadata": """'{"a": "c"}'""",
    },
    "conversation_items": {
        "conversation_id": "(SELECT max(id) FROM conversations WHERE id <> conversation_id)",
        "id": "'msg_other'",
        "item": """'{"id": "msg_1"}'""",
    },
    "batches": {
        "id": None,
        "kind": "'questions'",
        "tenant": "'other'",
        "owner": "'other'",
        "key_id": "'key_other'",
        "scopes": """'["write"]'""",
        "endpoint": "'/v1/embeddings'",
        "input_file_id": "'file-other'",
        "metadata": """'{"a": "c"}'""",
        "output_expires_after_s": "output_expires_after_s + 1",
        "fingerprint": "'other'",
        "created_at": "created_at + 1",
    },
    "batch_rows": {
        "batch_id": "(SELECT max(id) FROM batches WHERE id <> batch_id)",
        "number": "number + 1",
        "custom_id": "'other'",
        "request": "request || ' '",
        "key": "'other'",
        "is_refused": "NOT is_refused",
    },
    "batch_results": {
        "batch_id": "(SELECT max(id) FROM batches WHERE id <> batch_id)",
        "number": "number + 1",
        "sequence": "sequence + 1",
        "status": "'completed'",
        "status_code": "200",
        "response": "'{}'",
        "request_id": "'req_other'",
        "error_code": "'other'",
        "error_message": "'other'",
    },
    "chat_completions": {
        "id": None,
        "tenant": "'other'",
        "owner": "'other'",
        "created_at": "created_at + 1",
        "model": "'other'",
        "completion": """'{"choices": []}'""",
        "messages": "'[1]'",
        "metadata": """'{"a": "c"}'""",
    },
    "keys": {
        "id": "'key_other'",
        "name": "'cj'",
        "secret_hash": "'00'",
        "tenant": "'other'",
        "principals": """'["bob"]'""",
        "created_at": "created_at + 1",
        "revoked_at": "NULL",
        "expires_at": "1",
        "scopes": """'["read"]'""",
        "limits": """'{"a": 1}'""",
    },
}
CHECKED_DAMAGE = {
    "chunks": {
        "vector_store_id": "(SELECT max(id) FROM vector_stores WHERE id <> vector_store_id)",
        "document_key": "(SELECT max(id) FROM documents)",
        "start": "start + 1",
        "end": '"end" + 1',
        "text": "text || 'x'",
        "place": """'{"page": 2.0}'""",
    },
    "vectors": {
        "embedding_id": "(SELECT max(id) FROM embeddings)",
        "vector": ":flipped",
        "checksum": "checksum + 1",
    },
    "attributes": {
        "vector_store_id": "(SELECT max(id) FROM vector_stores WHERE id <> vector_store_id)",
        "document_key": "(SELECT max(id) FROM documents)",
        "chunk_id": "(SELECT max(id) FROM chunks)",
        "name": "'yeas'",
        "kind": "'boolean'",
        "text": "coalesce(text, '') || 'x'",
        "number": "coalesce(number, 0) + 1",
    },
    "upload_parts": {"number": "number + 5", "content": ":flipped", "checksum": "checksum + 1"},
    "deletions": {"chunk_id": "(SELECT max(id) FROM chunks)"},
    "file_principals": {"principal": "'bob'"},
    "chat_completion_metadata": {"key": "'b'", "value": "'c'"},
    "upload_principals": {"principal": "'bob'"},
}
DAMAGE = [
    (table, column, value)
    for columns_by_table in (SEALED_DAMAGE, CHECKED_DAMAGE)
    for table, columns in columns_by_table.items()
    for column, value in columns.items()
    if value is not None
]
FIRST = {
    "files": "key = (SELECT min(key) FROM files)",
    "vector_stores": "name = 'docs'",
    "embeddings": "id = (SELECT min(id) FROM embeddings)",
    "uploads": "filename = 'x'",
    "responses": "id = 'resp_1'",
    "batches": "id = (SELECT min(id) FROM batches)",
    "response_items": "key = (SELECT min(key) FROM response_items)",
    "conversations": "id = (SELECT min(id) FROM conversations)",
    "conversation_items": "key = (SELECT min(key) FROM conversation_items)",
    "upload_principals": "principal = 'ann'",
    "upload_sessions": "id = (SELECT min(id) FROM upload_sessions)",
    "vectors": "chunk_id = (SELECT min(chunk_id) FROM vectors)",
    "upload_parts": "number = 1",
    "file_principals": "principal = 'ann'",
    "chunks": "id = (SELECT max(id) FROM chunks c WHERE c.document_key = (SELECT min(id) FROM documents))",
    "keys": "name = 'ci'",
}


def fill(store: Store) -> None:
    """A store with a row in every table, two vector stores and two models."""
    docs = store.vector_stores.create(NewVectorStore("docs", "all of it", {"a": "b"}, 7), Access(), MODEL)
    other = store.vector_stores.get_or_create("other", Access(), Model("other", 3))
    new = NewFile("/f", "f", 1, attributes={"team": "red"}, principals=("Zoe", "ann", "Änne"), chunking={"max_tokens": 8})
    file = store.files.begin(docs, new)
    store.documents.put(docs, file, [embedded("gone", "Nothing.")], bytes_read=0)
    paged = embedded("d", "One. ", "Two.", places=[{"page": 1.0}, {}])
    paged = replace(paged, document=replace(paged.document, sections=(Section(0, "page", 1.0),)))
    store.documents.put(docs, file, [paged], bytes_read=0)
    store.documents.finish(docs, file, fingerprint="x", keep={"d"}, error=None)
    neighbour = store.files.begin(other, NewFile("/g", "g", 1))
    last = embedded("e", "Three.")
    store.documents.put(
        other, neighbour, [type(last)(last.document, "h", last.chunks, np.ones((1, 3), np.float32))], bytes_read=0
    )
    ann = Access("", frozenset({"ann"}))
    sent = store.uploads.put(ann, filename="x", purpose="assistants", content=[b"one", b"two"], expires_after_s=3600)
    store.file_batches.create(docs, [NewFile(f"upload:{sent.id}", "x", 6, id=sent.id)], Access())
    for _ in range(2):
        session = store.upload_sessions.begin(NewUploadSession("z", "assistants", "text/plain", 3, 3600), Access())
    store.upload_sessions.put_part(session.id, Access(), [b"abc"])
    response = {"created_at": 1, "status": "completed", "previous_response_id": None}
    for number in (1, 2):
        made = {**response, "id": f"resp_{number}", "output": [{"id": "msg_2", "type": "message"}]}
        store.responses.add(made, [{"id": "msg_1", "type": "message"}], Access())
        store.conversations.create({"a": "b"}, [{"id": f"msg_{number}", "type": "message"}], Access())
    completion = {"id": "chatcmpl-1", "model": "m", "choices": [1]}
    store.chat_completions.add(completion, [{"role": "user"}], {"a": "b"}, Access())
    new = NewBatch("/v1/responses", input_file_id=sent.id, metadata={"a": "b"}, output_expires_after_s=3600, fingerprint="x")
    batch = store.batches.create(new, Caller(ann, "key_1", frozenset({"ask"})))
    store.batches.create(NewBatch("/v1/responses"), Caller())
    store.batches.add_rows(batch, [BatchRow(0, "one", "{}", "k", RowError("invalid", "It is wrong."))])
    key, _ = store.keys.create("ci", tenant="t", principals=["ann"])
    store.keys.revoke(key.id)


def damage(store: Store, table: str, statement: str) -> None:
    """Change something by SQL, as no code of the store would."""
    with store.database.write() as connection:
        command = text(statement)
        if ":flipped" in statement:
            column = "vector" if table == "vectors" else "content"
            before = connection.execute(text(f"SELECT {column} FROM {table} WHERE {FIRST[table]}")).scalar_one()
            command = command.bindparams(bindparam("flipped", bytes([before[0] ^ 1]) + bytes(before[1:])))
        assert connection.execute(command).rowcount == 1


def first(table: str, column: str) -> str:
    """One row of the table; of attributes one that the value changes."""
    if table == "documents":
        return "document_id = 'd'"
    if table == "attributes":
        name = {"text": "team", "kind": "year", "number": "year", "chunk_id": "year", "name": "year"}.get(column, "page")
        return f"name = '{name}' AND document_key = (SELECT min(id) FROM documents)"
    return FIRST.get(table, "true")


def test_every_sealed_column_is_damaged_below() -> None:
    """No column that is sealed goes untested; ids that others refer to are held by those references."""
    assert {table.name: set(columns) for table, columns in SEALED.items()} == {
        name: set(columns) for name, columns in SEALED_DAMAGE.items()
    }


def test_store_that_nobody_touched_is_whole(open_store: Open) -> None:
    """Neither a full nor an empty store is taken for damaged."""
    store = open_store()
    verify(store.database)

    fill(store)

    verify(store.database)
    assert all(rows(store, f"SELECT 1 FROM {table} LIMIT 1") for table in (*SEALED_DAMAGE, *CHECKED_DAMAGE))


@pytest.mark.parametrize(("table", "column", "value"), DAMAGE, ids=[f"{table}.{column}" for table, column, _ in DAMAGE])
def test_value_that_was_changed_behind_the_stores_back_is_found(open_store: Open, table: str, column: str, value: str) -> None:
    """Whichever column is changed, the check of the whole store says that it is damaged."""
    store = open_store()
    fill(store)

    damage(store, table, f'UPDATE {table} SET "{column}" = {value} WHERE {first(table, column)}')

    with pytest.raises(StoreDamagedError, match="restore it from a backup"):
        verify(store.database)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM vectors WHERE chunk_id = (SELECT max(chunk_id) FROM vectors)",
        "DELETE FROM attributes WHERE name = 'page'",
        "DELETE FROM attributes WHERE name = 'team'",
        "DELETE FROM upload_parts WHERE number = 1",
        "DELETE FROM upload_parts WHERE number = 0 AND upload_id IN (SELECT id FROM uploads WHERE filename = 'x')",
        "DELETE FROM file_principals WHERE principal = 'ann'",
        "DELETE FROM upload_principals WHERE principal = 'ann'",
    ],
)
def test_row_that_is_missing_is_found(open_store: Open, statement: str) -> None:
    """A row that others count on does not go unnoticed."""
    store = open_store()
    fill(store)

    damage(store, "", statement)

    with pytest.raises(StoreDamagedError):
        verify(store.database)


def test_damaged_vector_is_not_handed_out(open_store: Open) -> None:
    """A flipped bit in a vector stops the log before it reaches an index."""
    store = open_store()
    fill(store)
    damage(store, "vectors", f"UPDATE vectors SET vector = :flipped WHERE {FIRST['vectors']}")

    with pytest.raises(StoreDamagedError, match="restore it"):
        store.log.read(store.vector_stores.get("docs", Access()), Cursor(), 10)


def test_damaged_part_of_an_upload_is_not_handed_out(open_store: Open) -> None:
    """A flipped bit in an upload is told to who reads it."""
    store = open_store()
    fill(store)
    damage(store, "upload_parts", f"UPDATE upload_parts SET content = :flipped WHERE {FIRST['upload_parts']}")

    ((upload_id,),) = rows(store, "SELECT id FROM uploads WHERE filename = 'x'")
    with pytest.raises(StoreDamagedError, match="upload it again"):
        list(store.uploads.content(upload_id))


def test_store_that_was_found_damaged_is_used_no_more(open_store: Open) -> None:
    """Once damage is known, nothing is read or written."""
    store = open_store()
    store.database.damage = "it is damaged; restore it"

    with pytest.raises(StoreDamagedError, match="restore it"):
        store.vector_stores.list(Access())
    with pytest.raises(StoreDamagedError, match="restore it"):
        store.vector_stores.create("docs", Access(), MODEL)


# SQLite's write-ahead log

WRITER = """
import sys
from pathlib import Path
from rag_server import factory
from rag_server.config import load_settings
from rag_server.types import Access
from tests.stores import Model

store = factory.open_store(load_settings({}, data_dir=Path(sys.argv[1])))
for number in range(30):
    store.vector_stores.create(f"collection {number}", Access(), Model())
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The database of a process that was killed after thirty acknowledged changes, none of them out of the log yet."""
    data = tmp_path / "data"
    command = [sys.executable, "-c", WRITER, str(data)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ["PYTHONPATH"]])}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert (data / "rag.db-wal").stat().st_size > 50_000
    return data / "rag.db"


def test_killed_writers_acknowledged_changes_are_all_there(killed: Path) -> None:
    """After kill -9 the log is replayed in full."""
    store = factory.open_store(load_settings({}, data_dir=killed.parent))

    assert len(store.vector_stores.list(Access())) == 30
    verify(store.database)
    store.database.close()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("how", ["cut off", "flipped"])
def test_log_that_lost_acknowledged_changes_is_refused(killed: Path, how: str, share: float) -> None:
    """SQLite drops the rest of a damaged log without a word; the store does not open on what is left."""
    wal = killed.with_name("rag.db-wal")
    content = bytearray(wal.read_bytes())
    # Past the log's own header.
    position = max(64, int(len(content) * share))
    if how == "cut off":
        del content[position:]
    else:
        content[position] ^= 1
    wal.write_bytes(content)

    with pytest.raises(StoreDamagedError, match="acknowledged changes"):
        Database(f"sqlite:///{killed}")


def test_log_that_is_gone_is_refused_until_the_count_is_removed(killed: Path) -> None:
    """The remedy in the message works: without the count the store opens with what is left."""
    for name in ("rag.db-wal", "rag.db-shm"):
        killed.with_name(name).unlink()
    with pytest.raises(StoreDamagedError) as raised:
        Database(f"sqlite:///{killed}")

    count = killed.with_name("rag.db.commits")
    assert str(count) in str(raised.value)
    count.unlink()
    Database(f"sqlite:///{killed}").close()


def test_backup_with_its_count_opens(killed: Path, tmp_path: Path) -> None:
    """Restoring all files of a backup together is not taken for damage."""
    backup = tmp_path / "backup"
    shutil.copytree(killed.parent, backup)

    Database(f"sqlite:///{backup / 'rag.db'}").close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"00000000000000009999 00000000\n", b"\xff\xfe \xff\n"])
def test_damaged_count_does_not_keep_the_store_closed(killed: Path, content: bytes) -> None:
    """The count only guards; when it is itself damaged the store opens."""
    killed.with_name("rag.db.commits").write_bytes(content)

    Database(f"sqlite:///{killed}").close()
