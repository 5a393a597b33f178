"""`rag-server` with an embedding model that is there at once, in the server and in the process that indexes uploads."""

import sys

from eval.crash.work import HashEmbedder
from rag_server import cli, factory, worker_process

MODEL = "a"


def main() -> None:
    """Run the command line."""
    # Only for this process.
    setattr(factory, "load_embedder", lambda _: HashEmbedder(MODEL))  # noqa: B010
    setattr(worker_process, "_command", lambda: [sys.executable, "-m", "eval.replicas.command", "worker"])  # noqa: B010
    cli.main()


if __name__ == "__main__":
    main()
