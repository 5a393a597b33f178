"""What a server does again and again goes on after whatever failed once."""

import threading
from pathlib import Path

import pytest

from rag_server.protocols import Embedder
from tests.live import live_server


def test_loops_outlive_whatever_fails_once(tmp_path: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving the indexes and removing what has expired go on after a failure that nobody thought of."""
    for name in ("SAVE_INDEXES_EVERY_S", "TIDY_EVERY_S"):
        monkeypatch.setattr(f"rag_server.services.{name}", 0.01)
    with live_server(tmp_path, embedder) as live, monkeypatch.context() as patched:
        for part, name in ((live.services.indexes, "save"), (live.services, "tidy")):
            failed, called_again = threading.Event(), threading.Event()

            def call(failed: threading.Event = failed, called_again: threading.Event = called_again) -> None:
                if not failed.is_set():
                    failed.set()
                    raise RuntimeError("odd")
                called_again.set()

            patched.setattr(part, name, call)
            assert called_again.wait(10), name
