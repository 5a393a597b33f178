"""The actors of a cluster: some read files and cut their documents, some embed; neither opens the store."""

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rag_server import factory
from rag_server.config import load_settings
from rag_server.errors import ConfigError
from rag_server.jobs.indexing_on_ray.embedding import with_vectors
from rag_server.jobs.indexing_on_ray.parts import FileToRead, Part, UnembeddedDocument
from rag_server.jobs.indexing_on_ray.reading import RemoteReader

# What is embedded together, and travels together: enough for full batches, few enough that every worker has some. One document
# alone may be larger.
PARTS_TOGETHER = 64
CHARACTERS_TOGETHER = 512 * 1024
# Of one column, each of whose values holds many files, or parts of files.
Rows = Mapping[str, Sequence[bytes]]


class ReadingWorker:
    """Reads and cuts."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        from indexers.loaders.parser_process import ParserPool

        settings = load_settings(environment)
        cut_text, embedder = factory.build_chunker(settings), factory.load_embedder(settings)
        self._reader = RemoteReader(load=ParserPool().parse, cut_text=cut_text, embedder=embedder)

    def __call__(self, rows: Rows) -> Iterator[dict[str, list[bytes]]]:
        """Yield the parts of files as they are read."""
        for packed in rows["packed"]:
            files: Sequence[FileToRead] = unpack(packed)
            for parts in portions((file.number, part) for file in files for part in self._reader.parts(file)):
                yield {"packed": [pack(parts)]}


class EmbeddingWorker:
    """Embeds."""

    def __init__(self, environment: Mapping[str, str], model_id: str) -> None:
        self._embedder = factory.load_embedder(load_settings(environment))
        if self._embedder.model_id != model_id:
            raise ConfigError(
                f"RAG_EMBEDDER__MODEL: on a machine of the cluster it is {self._embedder.model_id}, here {model_id}; "
                "put the same model folder there"
            )

    def __call__(self, rows: Rows) -> dict[str, list[bytes]]:
        """Return the parts with their vectors."""
        return {"packed": [pack(with_vectors(self._embedder, unpack(packed))) for packed in rows["packed"]]}


def portions(parts: Iterable[tuple[int, Part]]) -> Iterator[list[tuple[int, Part]]]:
    """Yield the parts, as many at a time as are embedded together."""
    waiting: list[tuple[int, Part]] = []
    num_characters = 0
    for number, part in parts:
        waiting.append((number, part))
        num_characters += len(part.document.text) if isinstance(part, UnembeddedDocument) else 0
        if len(waiting) >= PARTS_TOGETHER or num_characters >= CHARACTERS_TOGETHER:
            yield waiting
            waiting, num_characters = [], 0
    if waiting:
        yield waiting


def pack(items: Sequence[Any]) -> bytes:
    """Return the items as one value of a column, which no library of columns looks into."""
    return pickle.dumps(items)


def unpack(packed: bytes) -> Any:
    """Return what `pack` was given."""
    return pickle.loads(packed)  # noqa: S301 - from this cluster's own processes
