"""A Redis server of a test's own, from the system's packages, thrown away at the end."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 30.0


def program() -> str | None:
    """Return the path of redis-server, None where it is not installed."""
    return shutil.which("redis-server")


@contextmanager
def running_redis(path: str) -> Iterator[str]:
    """Start a server that keeps nothing, on a socket in a folder of its own; give its address."""
    with tempfile.TemporaryDirectory(prefix="rag-redis-", ignore_cleanup_errors=True) as folder:
        address, log = Path(folder) / "redis.sock", Path(folder) / "log"
        command = [path, "--port", "0", "--unixsocket", str(address), "--save", "", "--appendonly", "no", "--dir", folder]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            gives_up_at = time.monotonic() + START_TIMEOUT_S
            while not _takes_connections(address):
                if process.poll() is not None or time.monotonic() > gives_up_at:
                    raise RuntimeError(f"Redis did not start: {log.read_text()}")
                time.sleep(0.02)
            yield f"unix://{address}"
        finally:
            process.terminate()
            process.wait(60)


def _takes_connections(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(address)) == 0
