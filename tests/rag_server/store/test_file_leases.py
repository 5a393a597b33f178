"""Uploads whose process ends: one that is asked to leaves them to others at once, and the end of a killed one is seen."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eval.crash.work import HashEmbedder
from rag_server import factory
from rag_server.config import load_settings
from rag_server.factory import Store
from rag_server.store.files import MAX_ATTEMPTS
from rag_server.types import Access, NewFile
from tests.stores import MODEL

ME = Access()
OWNER = "from rag_server.store.lease_owner import new_owner; print(new_owner()); input()"
WITHIN_S = 300.0


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """A store with one upload in the queue."""
    opened = open_store()
    docs = opened.vector_stores.create("docs", ME, MODEL)
    upload = opened.uploads.put(ME, filename="u.md", purpose="assistants", content=[b"text"])
    opened.files.enqueue(docs, NewFile(f"upload:{upload.id}", "u.md", 4))
    return opened


def test_an_upload_that_is_released_is_the_next_ones_at_once(store: Store, open_store: Callable[[], Store]) -> None:
    """However often: a process that was asked to end has not died over the file. What others have leased stays theirs."""
    other = open_store()
    for _ in range(MAX_ATTEMPTS + 1):
        leased = store.files.lease()
        assert leased is not None
        other.files.release()
        assert other.files.num_waiting() == 0
        store.files.release()
        assert other.files.num_waiting() == 1

    taken = other.files.lease()

    assert taken is not None
    assert taken.status == "in_progress"


def test_an_upload_of_a_process_that_was_killed_is_taken_up_at_once(store: Store, open_store: Callable[[], Store]) -> None:
    """Its lease says whose it is, and on one machine everyone sees that this one has ended."""
    other = open_store()
    with subprocess.Popen([sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        store.files.owner = process.stdout.readline().strip()
        leased = store.files.lease()
        assert leased is not None
        assert other.files.num_waiting() == 0
        assert other.files.lease() is None
        process.kill()
        process.wait()

        assert other.files.num_waiting() == 1
        taken = other.files.lease()

    assert taken is not None
    assert taken.key == leased.key


@contextlib.contextmanager
def slow_worker(data_dir: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the indexing process with a model that never comes to an end."""
    code = (
        "import time; from eval.replicas import command; from eval.crash.work import HashEmbedder\n"
        "HashEmbedder.embed_passages = lambda *_: time.sleep(3600)\n"
        "import sys; sys.argv[1:] = ['worker']; command.main()"
    )
    environment = {**os.environ, "RAG_DATA_DIR": str(data_dir)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_worker_that_is_asked_to_end_releases_its_upload(tmp_path: Path) -> None:
    """The process itself: SIGTERM while it embeds, and the file waits again, as if it had never been begun."""
    opened = factory.open_store(load_settings({}, data_dir=tmp_path / "data"))
    docs = opened.vector_stores.create("docs", ME, HashEmbedder("a"))
    upload = opened.uploads.put(ME, filename="u.md", purpose="assistants", content=[b"A cat sleeps."])
    file = opened.files.enqueue(docs, NewFile(f"upload:{upload.id}", "u.md", 13))
    gives_up_at = time.monotonic() + WITHIN_S
    with slow_worker(tmp_path / "data") as worker:
        while opened.files.get(docs, file.id, ME).status == "queued":
            assert time.monotonic() < gives_up_at
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        status = worker.wait(WITHIN_S)
        found = opened.files.get(docs, file.id, ME)
        again = opened.files.lease()
    opened.database.close()

    assert (status, found.status) == (0, "queued")
    assert again is not None
