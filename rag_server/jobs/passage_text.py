"""What is embedded for a chunk: its text under the title and the headings that it stands under."""

from rag_server.types import Place

# Of a title, and of the headings, this much goes before each of a document's chunks: more would push the end of a chunk
# out of what the embedding model reads.
MAX_TITLE_CHARACTERS = 100


def passage_text(title: str, text: str, place: Place) -> str:
    """Return the text of a chunk under its document's title and its headings, each unless the text begins with it."""
    headings = str(place.get("heading", ""))
    # A document's first heading is often its title, which then stands above the path already.
    path = "" if headings == title else headings.removeprefix(f"{title} > ")
    beginning = text.lstrip("# \n")
    # Of a long path the end says most.
    lines = (title[:MAX_TITLE_CHARACTERS], path[-MAX_TITLE_CHARACTERS:])
    return "\n".join([*(line for line in lines if line and not beginning.startswith(line)), text])
