"""Reads Markdown as it stands, so that a quote is found literally in the file."""

import re
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt

from indexers.loaders.text import decode, whole_file
from rag_server.types import Document

# Markdown would read the closing line of front matter as the underline of a heading.
FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n.*?^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)

# Parsing all of a long file for its title takes longer than everything else.
TITLE_SEARCH_CHARS = 65_536


def load(path: Path) -> Document:
    """Read a Markdown file; its title is its first heading."""
    text = decode(path, path.read_bytes())
    return whole_file(path, _first_heading(text), text)


def _first_heading(text: str) -> str:
    parser = MarkdownIt("commonmark")
    # Of the inline markup only that of the heading is needed.
    parser.core.ruler.enableOnly(["normalize", "block"])
    tokens = parser.parse(FRONT_MATTER.sub("", text[:TITLE_SEARCH_CHARS]))
    for opening, content in pairwise(tokens):
        if opening.type == "heading_open" and (title := _plain(content.content)):
            return title
    return ""


def _plain(inline_markdown: str) -> str:
    parser = MarkdownIt("commonmark")
    tokens = parser.parseInline(inline_markdown)[0].children or []
    return "".join(" " if token.type in ("softbreak", "hardbreak") else token.content for token in tokens).strip()
