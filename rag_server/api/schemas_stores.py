"""The bodies of files, uploads, vector stores, batches. The bounds are OpenAI's; where it sets none, they keep a row small."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from rag_server.api.schemas import MAX_QUERY_CHARACTERS, RagBody
from rag_server.batch_types import BatchEndpoint
from rag_server.filters import MAX_ATTRIBUTES, MAX_KEY_CHARACTERS, MAX_VALUE_CHARACTERS, UNSTORABLE

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES: tuple[str, ...] = get_args(Purpose)
# OpenAI's limit for one file.
MAX_FILE_BYTES = 512 * 1024**2
MIN_EXPIRY_S, MAX_EXPIRY_S = 3600, 2_592_000
MAX_FILENAME_CHARACTERS = 1024
MAX_BATCH_FILES = 2000


def _storable(text: str) -> str:
    if UNSTORABLE.search(text):
        raise ValueError("a text may hold no NUL character")
    return text


def _as_list(query: object) -> object:
    return [query] if isinstance(query, str) else query


Storable = Annotated[str, AfterValidator(_storable)]
ObjectId = Annotated[Storable, StringConstraints(min_length=1, max_length=200)]
MetadataKey = Annotated[Storable, StringConstraints(min_length=1, max_length=MAX_KEY_CHARACTERS)]
MetadataValue = Annotated[Storable, StringConstraints(max_length=MAX_VALUE_CHARACTERS)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_ATTRIBUTES)]


class _Body(BaseModel):
    # As in OpenAI's description: what it does not know may be a misspelt field that it does.
    model_config = ConfigDict(extra="forbid", strict=True)


class FileExpiry(_Body):
    """When a file is gone."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)


class CreateUploadBody(_Body):
    """A file that will come in parts."""

    filename: Annotated[Storable, StringConstraints(min_length=1, max_length=MAX_FILENAME_CHARACTERS)]
    purpose: Purpose
    bytes: int = Field(ge=1)
    mime_type: Annotated[Storable, StringConstraints(max_length=255, pattern=r"^[!-.0-~]+/[!-.0-~]+([ ]*;.*)?$")]
    expires_after: FileExpiry | None = None


class CompleteUploadBody(_Body):
    """The parts of a file in their order."""

    part_ids: list[ObjectId] = Field(min_length=1, max_length=10_000)
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


class CreateBatchBody(_Body):
    """Requests to answer in the background, by the file that holds them."""

    input_file_id: ObjectId
    endpoint: BatchEndpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: FileExpiry | None = None


class StaticChunking(_Body):
    """How a file is cut."""

    max_chunk_size_tokens: int = Field(800, ge=100, le=4096)
    chunk_overlap_tokens: int = Field(400, ge=0)

    @model_validator(mode="after")
    def _overlap_at_most_half(self) -> "StaticChunking":
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise ValueError("chunk_overlap_tokens must be at most half of max_chunk_size_tokens")
        return self


class ChunkingStrategy(_Body):
    """`auto` is as the settings say."""

    type: Literal["auto", "static"]
    static: StaticChunking | None = None

    @model_validator(mode="after")
    def _static_has_numbers(self) -> "ChunkingStrategy":
        if (self.type == "static") != (self.static is not None):
            raise ValueError("give `static` its numbers, and `auto` none")
        return self


class FileRagBody(_Body):
    """What this server adds to a file: who may read it; None is everyone of the tenant."""

    principals: list[Annotated[Storable, StringConstraints(min_length=1, max_length=256)]] | None = Field(None, max_length=256)


class AttachBody(_Body):
    """A file to put into a vector store."""

    file_id: ObjectId
    attributes: dict[str, Any] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    rag: FileRagBody = FileRagBody()


class AttributesBody(_Body):
    """The attributes of a file, which replace those that it has."""

    attributes: dict[str, Any] | None


class CreateFileBatchBody(_Body):
    """Files to put into a vector store together: by their ids, treated alike, or each with its own attributes and chunking."""

    file_ids: list[ObjectId] | None = Field(None, min_length=1, max_length=MAX_BATCH_FILES)
    files: list[AttachBody] | None = Field(None, min_length=1, max_length=MAX_BATCH_FILES)
    attributes: dict[str, Any] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    rag: FileRagBody = FileRagBody()

    @model_validator(mode="after")
    def _one_of_both(self) -> "CreateFileBatchBody":
        if (self.file_ids is None) == (self.files is None):
            raise ValueError("give either file_ids or files")
        return self

    def attached(self) -> list[AttachBody]:
        """Return the files one by one; beside `files` nothing counts for all, as in OpenAI's API."""
        if self.files is not None:
            return self.files
        common: dict[str, Any] = {name: getattr(self, name) for name in ("attributes", "chunking_strategy", "rag")}
        return [AttachBody(file_id=file_id, **common) for file_id in self.file_ids or ()]


class StoreExpiry(_Body):
    """How long a vector store may be unused."""

    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class CreateVectorStoreBody(_Body):
    """A vector store to make, with the files that it begins with."""

    name: str | None = None
    description: Annotated[Storable, StringConstraints(max_length=4096)] | None = None
    file_ids: list[ObjectId] = Field(default=[], max_length=500)
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata | None = None


class UpdateVectorStoreBody(_Body):
    """What changes of a vector store: null takes it away, and what is left out stays."""

    name: str | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata | None = None


class RankingOptions(_Body):
    """`none` leaves the passages in the order of the search; the others rank them as the settings say."""

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: Annotated[float, Field(strict=False)] = Field(0.0, ge=0, le=1, allow_inf_nan=False)


class SearchBody(_Body):
    """A search in one vector store."""

    query: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARACTERS)]],
        Field(min_length=1, max_length=16),
        BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
    ]
    max_num_results: int = Field(10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    rewrite_query: bool = False
    ranking_options: RankingOptions | None = None
    rag: RagBody | None = None
