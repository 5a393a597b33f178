"""`rag-server index --ray local` as a process that is killed with everything that it has started."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil

POLL_S = 0.05
# Nothing here takes so long on a machine that works.
GIVE_UP_S = 600.0


class Command:
    """Indexes a folder on a cluster of this machine; what it prints is kept in `log`."""

    def __init__(self, folder: Path, source: Path, *, collection: str) -> None:
        self.data_dir = folder / "data"
        self.log = folder / "log"
        self._arguments = ["index", str(source), "--collection", collection, "--ray", "local"]
        others = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
        # What a killed cluster leaves is removed with the folder. The parts of a cluster find each other by the address of this
        # machine, which the tests' guard takes for another machine's.
        own = {"RAG_DATA_DIR": str(self.data_dir), "TMPDIR": str(folder), "RAY_TMPDIR": str(folder), "PYTHONPATH": ""}
        self._environment = {**others, **own}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Call it."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "rag_server.cli", *self._arguments]
            self._process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """Kill it with all processes below it at once, as when the machine goes down.

        Raises:
            RuntimeError: One of them goes on.
        """
        if self._process is None:
            return
        killed: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self._process.pid)
            killed = [top, *top.children(recursive=True)]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        _, alive = psutil.wait_procs(killed, timeout=GIVE_UP_S)
        if alive:
            raise RuntimeError(f"still there after a kill: {alive}")

    def wait(self, seconds: float) -> int:
        """Return its status once it has ended by itself.

        Raises:
            RuntimeError: It has not, after so many seconds.
        """
        if self._process is None:
            raise RuntimeError("start() comes first")
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"it does not come to its end: {self.told()}") from None

    def told(self) -> str:
        """Return the end of what it printed."""
        return self.log.read_text(errors="replace")[-5000:]

    def document_keys(self) -> set[int]:
        """Return the keys of all documents that are stored now; one that is stored again gets another key."""
        return {row[0] for row in self._rows("SELECT id FROM documents")}

    def num_documents(self) -> int:
        """Return how many documents are stored now."""
        rows = self._rows("SELECT count(*) FROM documents")
        return int(rows[0][0]) if rows else 0

    def _rows(self, query: str) -> list[tuple[int]]:
        # Only read, so that nothing here keeps it from its work or mends what it left.
        address = f"file:{self.data_dir / 'rag.db'}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
                return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            # It has not come so far.
            return []
