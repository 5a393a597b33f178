"""Open WebUI's source events: lines between the chunks of a stream that its page lists as the sources of the answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from rag_server.protocols import Json


async def with_source_events(chunks: AsyncGenerator[Json, None]) -> AsyncGenerator[Json, None]:
    """Yield the chunks, and behind the one with the passages an event for each, in the order of their numbers.

    The page numbers sources by their order, so that [2] in the answer leads to the second.
    """
    async with aclosing(chunks):
        async for chunk in chunks:
            yield chunk
            for passage in chunk.get("rag", {}).get("passages", ()):
                yield _source_event(passage)


def _source_event(passage: Json) -> Json:
    id_, name = str(passage["id"]), passage["title"] or passage["filename"]
    data = {
        "source": {"id": id_, "name": name, "url": passage["url"]},
        "document": [passage["text"]],
        # `source` tells passages apart; as an address it would be shown in the place of the name.
        "metadata": [{"source": id_, "name": name, "source_url": passage["url"]}],
    }
    return {"event": {"type": "source", "data": data}}
