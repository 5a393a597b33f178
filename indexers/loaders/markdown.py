"""Reads Markdown as it stands, so that a quote is found literally in the file."""

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

from indexers.loaders.builder import heading
from indexers.loaders.text import clean, decode, whole_file
from rag_server.types import Document, Section

FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?^---[ \t]*$", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
HASHES = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
# What an underline does not make a heading: code, items of lists, quotes, tables.
NO_PARAGRAPH = re.compile(r" {4}|\s*(?:$|\t|[-*+]\s|\d+[.)]\s|>|\|)")
INLINE = MarkdownIt("commonmark")
MAX_HEADING_CHARS = 1000


def load(path: Path) -> Document:
    """Read a Markdown file; its title is its first heading."""
    text = clean(decode(path, path.read_bytes()))
    sections = headings(text)
    return whole_file(path, str(sections[0].label) if sections else "", text, sections)


def headings(text: str) -> tuple[Section, ...]:
    """Return the headings of a cleaned text, each at the start of its line."""
    return tuple(
        heading(start, label, level) for start, written, level in _written_headings(text) if (label := _plain(written))
    )


def _written_headings(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield where each heading starts, its markup and its level.

    Markdown's own parser would take longer than everything else that is done to a file; of the syntax it knows, headings
    need little.
    """
    # Its closing line would be read as the underline of a heading.
    front_matter = FRONT_MATTER.match(text)
    start = front_matter.end() if front_matter else 0
    fence, paragraph = "", start
    for line in text[start:].split("\n"):
        mark = FENCE.match(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and line.strip() == mark[1] else fence
            paragraph = start + len(line) + 1
        elif mark:
            fence = mark[1]
        elif found := HASHES.fullmatch(line):
            yield start, found[2] or "", len(found[1])
            paragraph = start + len(line) + 1
        elif paragraph < start and (found := UNDERLINE.fullmatch(line)):
            yield paragraph, text[paragraph : start - 1], 1 if found[1].startswith("=") else 2
            paragraph = start + len(line) + 1
        elif NO_PARAGRAPH.match(line):
            paragraph = start + len(line) + 1
        start += len(line) + 1


def _plain(inline_markdown: str) -> str:
    tokens = INLINE.parseInline(inline_markdown[:MAX_HEADING_CHARS])[0].children or []
    return "".join(" " if token.type in ("softbreak", "hardbreak") else token.content for token in tokens).strip()
