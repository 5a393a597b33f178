"""OpenAI's list object."""

from collections.abc import Sequence

from rag_server.protocols import Json


def list_object(data: Sequence[Json]) -> Json:
    """Return a list of objects that have ids, all on one page."""
    return {
        "object": "list",
        "data": list(data),
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": False,
    }
