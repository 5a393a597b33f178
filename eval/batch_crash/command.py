"""`rag-server` with an embedding model that is there at once: it is started again after every kill."""

import faulthandler

from eval.batch_crash.processes import WHERE
from eval.crash.work import HashEmbedder
from rag_server import cli, factory

MODEL = "a"


def main() -> None:
    """Run the command line."""
    faulthandler.register(WHERE)
    setattr(factory, "load_embedder", lambda _: HashEmbedder(MODEL))  # noqa: B010 - only for this process
    cli.main()


if __name__ == "__main__":
    main()
