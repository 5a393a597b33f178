"""`rag-server index --ray`: the cluster's workers read, cut and embed, this process stores."""

from collections.abc import Sequence
from dataclasses import replace

from rag_server.config import Settings
from rag_server.factory import Store
from rag_server.jobs.indexing_on_ray.cluster import connected, work_on
from rag_server.jobs.indexing_on_ray.storing import ClusterIngest
from rag_server.jobs.ingest import IngestReport, Source
from rag_server.protocols import Embedder, Progress
from rag_server.types import VectorStore


def ingest_on_ray(
    settings: Settings,
    store: Store,
    vector_store: VectorStore,
    embedder: Embedder,
    sources: Sequence[Source],
    progress: Progress,
    *,
    address: str,
) -> IngestReport:
    """Index the files on the cluster at that address, each of whose machines finds them under the same paths.

    Raises:
        ClusterUnavailableError: It cannot be reached, or failed.
        MissingExtraError: Ray is not installed.
    """
    # A worker stands in a folder of its own.
    absolute = [replace(source, path=source.path.absolute()) for source in sources]
    ingest = ClusterIngest(store, vector_store, settings.chunking, progress)
    with connected(address) as ray:
        return ingest.run(absolute, lambda files: work_on(ray, settings, embedder.model_id, files))
