"""Lays a request's `rag` object over the settings."""

from dataclasses import replace

from rag_server.api.schemas import RagBody
from rag_server.pipeline import RagOptions


def options_with(defaults: RagOptions, body: RagBody | None) -> RagOptions:
    """Return the defaults with what the body sets instead."""
    if body is None:
        return defaults
    return replace(
        defaults, **body.model_dump(exclude={"vector_store_ids", "filters", "source_events", "trace"}, exclude_none=True)
    )
