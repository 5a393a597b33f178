"""POST /v1/embeddings: vectors of this server's own embedding model, or of one that the engine serves."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Response

from rag_server.api.answers import json_answer
from rag_server.api.deps import AccessDep, ServicesDep
from rag_server.api.schemas import MAX_QUERY_CHARACTERS
from rag_server.api.schemas_chat import EmbeddingsBody
from rag_server.errors import InvalidRequestError, ModelNotFoundError
from rag_server.protocols import Embedder, Json
from rag_server.services import Services
from rag_server.types import Vectors

router = APIRouter()

# Clients that must send a model send it to mean the configured one.
DEFAULT_MODEL = "default"
# Between two batches it is seen that the client has gone away.
BATCH_SIZE = 32


@router.post("/v1/embeddings")
async def create_embeddings(body: EmbeddingsBody, services: ServicesDep, _: AccessDep) -> Response:
    """Embed texts, or token ids of the model's own vocabulary."""
    return await json_answer(_embeddings(body, services))


async def _embeddings(body: EmbeddingsBody, services: Services) -> Json:
    embedder = await services.embedder()
    if body.model not in (DEFAULT_MODEL, embedder.model_id):
        if not await services.engine.serves(body.model):
            raise ModelNotFoundError(f"there is no model {body.model!r}; the embedding model here is {embedder.model_id!r}")
        return await services.engine.embed(body.engine_body())
    _check_fields(body, embedder)
    texts = await asyncio.to_thread(_texts, body.input, embedder)
    lengths = await _lengths(texts, embedder)
    vectors = await _vectors(texts, lengths, embedder, is_query=body.rag is not None and body.rag.input_type == "query")
    return {
        "object": "list",
        "model": embedder.model_id,
        "data": await asyncio.to_thread(_data, _shortened(vectors, body.dimensions), body.encoding_format),
        "usage": {"prompt_tokens": sum(lengths), "total_tokens": sum(lengths)},
    }


def _check_fields(body: EmbeddingsBody, embedder: Embedder) -> None:
    unknown = next(iter(body.model_extra or ()), None)
    if unknown is not None:
        raise InvalidRequestError("there is no such field in OpenAI's API", unknown)
    if body.dimensions not in (None, embedder.dimension) and not embedder.shortens_to(body.dimensions or 0):
        raise InvalidRequestError(
            f"{embedder.model_id} has {embedder.dimension} dimensions, and was not trained to be cut to {body.dimensions}",
            "dimensions",
        )


def _texts(given: Any, embedder: Embedder) -> list[str]:
    """Return the texts of any of OpenAI's four forms."""
    if isinstance(given, str) or isinstance(given[0], int):
        given = [given]
    texts = []
    for index, one in enumerate(given):
        try:
            texts.append(one if isinstance(one, str) else embedder.decode(one))
        except InvalidRequestError as error:
            raise InvalidRequestError(f"input {index}: {error}", "input") from None
    return texts


async def _lengths(texts: Sequence[str], embedder: Embedder) -> list[int]:
    """Return the number of tokens of each text.

    Raises:
        InvalidRequestError: One is empty, or longer than what the model reads.
    """
    lengths: list[int] = []
    for start in range(0, len(texts), BATCH_SIZE):
        batch = texts[start : start + BATCH_SIZE]
        lengths += await asyncio.to_thread(_checked_lengths, batch, start, embedder)
    return lengths


def _checked_lengths(texts: Sequence[str], start: int, embedder: Embedder) -> list[int]:
    lengths = []
    for index, text in enumerate(texts, start):
        if len(text) > MAX_QUERY_CHARACTERS:
            raise InvalidRequestError(f"input {index} has more than {MAX_QUERY_CHARACTERS:,} characters; divide it", "input")
        length = len(embedder.token_spans(text))
        if length == 0:
            raise InvalidRequestError(f"input {index} is empty", "input")
        if length > embedder.max_tokens:
            raise InvalidRequestError(
                f"input {index} has {length} tokens, and {embedder.model_id} reads {embedder.max_tokens}; divide it", "input"
            )
        lengths.append(length)
    return lengths


async def _vectors(texts: Sequence[str], lengths: Sequence[int], embedder: Embedder, *, is_query: bool) -> Vectors:
    """Return one row per text; texts of like length are embedded together, which saves padding."""
    embed = embedder.embed_queries if is_query else embedder.embed_passages
    vectors = np.empty((len(texts), embedder.dimension), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda index: lengths[index])
    for start in range(0, len(order), BATCH_SIZE):
        batch = order[start : start + BATCH_SIZE]
        vectors[batch] = await asyncio.to_thread(embed, [texts[index] for index in batch])
    return vectors


def _shortened(vectors: Vectors, dimensions: int | None) -> Vectors:
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    cut = vectors[:, :dimensions]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    unit: Vectors = cut / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _data(vectors: Vectors, encoding_format: str | None) -> list[Json]:
    """Return the embedding objects; base64 holds little-endian 32-bit floats."""
    rows = vectors.astype("<f4")
    return [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.tobytes()).decode() if encoding_format == "base64" else row.tolist(),
        }
        for index, row in enumerate(rows)
    ]
