"""Puts tables and plots into a page of the documentation, so that every figure there is one that the plan made."""

import re
from collections.abc import Sequence
from pathlib import Path

from eval.report import Plot, Table, as_markdown, draw
from rag_server.errors import ConfigError

# A table stands after a comment with its title.
PLACE = re.compile(r"(<!-- table: (?P<title>.+?) -->\n\n)(?:\|.*\n)*")
IMAGES = Path("images/scaling")


def update_page(path: Path, tables: Sequence[Table], plots: Sequence[Plot]) -> None:
    """Replace the tables that the page has a place for, and draw the plots that it shows.

    Raises:
        ConfigError: The page cannot be read or written, or has a place for a table that there is none of.
    """
    try:
        page = path.read_text(encoding="utf-8")
        path.write_text(with_tables(page, tables), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be updated: {error}") from None
    for plot in plots:
        if f"({IMAGES / plot.filename})" in page:
            (path.parent / IMAGES).mkdir(parents=True, exist_ok=True)
            draw(path.parent / IMAGES / plot.filename, plot)


def with_tables(page: str, tables: Sequence[Table]) -> str:
    """Return the page with each table in its place.

    Raises:
        ConfigError: The page has a place for a table that there is none of.
    """
    # Without its heading: the page has headings of its own.
    bodies = {table.title: as_markdown(table).split("\n\n", 1)[1] for table in tables}

    def placed(match: re.Match[str]) -> str:
        if match["title"] not in bodies:
            raise ConfigError(f"there is no table {match['title']!r}; those that there are: {'; '.join(bodies)}")
        return f"{match[1]}{bodies[match['title']]}\n"

    return PLACE.sub(placed, page)
