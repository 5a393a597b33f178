"""Cuts documents into chunks, and says what is embedded for each."""

from collections.abc import Callable

from rag_server.config import ChunkingSettings
from rag_server.jobs.passage_text import passage_text
from rag_server.protocols import Embedder
from rag_server.types import Chunk, Document

CutText = Callable[..., list[Chunk]]


def cut_document(
    document: Document, chunking: ChunkingSettings, *, embedder: Embedder, cut_text: CutText
) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    """Return the chunks of a document and the text of each for the embedding model, which counts the tokens here."""
    max_tokens = min(chunking.max_tokens, embedder.max_tokens)
    chunks = cut_text(
        document.text,
        embedder.token_spans(document.text),
        max_tokens=max_tokens,
        overlap_tokens=min(chunking.overlap_tokens, max_tokens // 2),
        sections=document.sections,
    )
    texts = (passage_text(document.title, document.text[chunk.start : chunk.end], chunk.place) for chunk in chunks)
    return tuple(chunks), tuple(texts)
