"""What was measured on one machine, as `constants.json` keeps it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rag_server.errors import ConfigError

PACKAGED = Path(__file__).with_name("constants.json")
PER_CENT = 101
TOP = 10

# The kinds of FAISS that RAG_INDEX__FAISS names, and product quantisation, which Milvus has too.
MeasuredKind = Literal["flat", "hnsw", "ivf", "ivf_sq8", "ivf_rabitq", "ivf_pq"]


class _Measured(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IndexFigures(_Measured):
    """One kind of vector index with so many rows, searched by one thread for 100 candidates."""

    kind: MeasuredKind
    rows: int = Field(gt=0)
    # Of one core, training included.
    build_core_s: float = Field(ge=0)
    resident_bytes: int = Field(gt=0)
    disk_bytes: int = Field(gt=0)
    # The share of the nearest, second nearest, ... tenth nearest vectors that were found.
    found_by_rank: tuple[float, ...] = Field(min_length=TOP, max_length=TOP)
    # Of one core; the quantiles from 0 to 100 per cent.
    latency_ms: tuple[float, ...] = Field(min_length=PER_CENT, max_length=PER_CENT)

    @property
    def recall(self) -> float:
        """The mean share of the ten nearest vectors that were found."""
        return sum(self.found_by_rank) / TOP

    @property
    def mean_ms(self) -> float:
        """The mean time of a search, from its quantiles."""
        return mean_of_quantiles(self.latency_ms)


class LexicalFigures(_Measured):
    """The BM25 index with so many chunks of 30 made-up words, asked for 100 of them with six words."""

    rows: int = Field(gt=0)
    mean_ms: float = Field(gt=0)


class StoreFigures(_Measured):
    """Real text, indexed with vectors that cost nothing."""

    database: Literal["sqlite", "postgresql"]
    documents: int = Field(gt=0)
    chunks: int = Field(gt=0)
    # UTF-8 of a chunk as it is embedded, and its tokens.
    text_bytes: float = Field(gt=0)
    tokens: float = Field(gt=0)
    sql_bytes: float = Field(gt=0)
    bm25_bytes: float = Field(gt=0)
    # Parsing, cutting, storing and both indexes, without the embedding model; of one core.
    ingest_core_ms: float = Field(gt=0)


class EmbeddingFigures(_Measured):
    """The packaged model on one core, with the chunks of `StoreFigures` and with queries."""

    passage_core_ms: float = Field(gt=0)
    query_core_ms: float = Field(gt=0)


class RealTextFigures(_Measured):
    """Recall@10 among so many vectors of real texts, and of made-up ones, asked for 10."""

    kind: MeasuredKind
    rows: int = Field(gt=0)
    recall: float = Field(ge=0, le=1)
    recall_made_up: float = Field(ge=0, le=1)


class Constants(_Measured):
    """Everything that was measured in one run."""

    date: str
    machine: str
    command: str
    dimension: int = Field(gt=0)
    # How much of the time of the searches their thread did not compute: other programs took the core.
    waiting_share: float = Field(ge=0, le=1)
    merge_ns_per_hit: float = Field(gt=0)
    indexes: tuple[IndexFigures, ...] = Field(min_length=1)
    lexical: tuple[LexicalFigures, ...] = Field(min_length=2)
    stores: tuple[StoreFigures, ...] = Field(min_length=1)
    embedding: EmbeddingFigures
    real_text: tuple[RealTextFigures, ...]

    def of_kind(self, kind: str) -> list[IndexFigures]:
        """Return what was measured of a kind, by size."""
        return sorted((figures for figures in self.indexes if figures.kind == kind), key=lambda figures: figures.rows)

    def store(self, database: str) -> StoreFigures:
        """Return what was measured with this database, or with the first one that was measured."""
        return next((figures for figures in self.stores if figures.database == database), self.stores[0])


def mean_of_quantiles(quantiles: Sequence[float]) -> float:
    """Return the mean of what has these evenly spaced quantiles, taken as straight lines between them."""
    return (sum(quantiles) - (quantiles[0] + quantiles[-1]) / 2) / (len(quantiles) - 1)


def read_constants(path: Path) -> Constants:
    """Read a file that `--measure` wrote.

    Raises:
        ConfigError: It is missing, or not such a file.
    """
    try:
        return Constants.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}; make it with --measure") from None
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"{path} is no file of constants: {place}: {fault['msg']}; make it with --measure") from None
