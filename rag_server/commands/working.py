"""`rag-server worker`: the process in which a server indexes uploads."""

import os
import signal
import sys

from rag_server import factory
from rag_server.commands.indexing import building_ingest
from rag_server.config import Settings
from rag_server.jobs.worker import work

# Searching goes before indexing on a busy machine.
NICENESS = 10


def run_worker(settings: Settings) -> None:
    """Index uploads until none has waited for a minute; one that is asked to end leaves its upload to others at once."""
    os.nice(NICENESS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    store = factory.open_store(settings)
    embedders = factory.build_embedders(settings, factory.load_embedder(settings))
    try:
        with building_ingest(settings, store) as ingest:
            work(store, embedders.of, ingest)
    except SystemExit:
        store.files.release()
        raise
    finally:
        store.database.close()
