"""Markdown: the text is the file, the title its first heading."""

from pathlib import Path

import pytest

from indexers.loaders import markdown
from rag_server.types import Document, Section


def _read(folder: Path, written: str) -> Document:
    path = folder / "notes.md"
    path.write_bytes(written.encode())
    return markdown.load(path)


def test_the_text_is_the_markdown_itself(tmp_path: Path) -> None:
    """Markup stays, so that a quote is found literally in the file."""
    written = "# Title\n\n*Some* [link](x.md) &amp; `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert _read(tmp_path, written).text == written


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("intro\n\n## The *real* `title`\n\n# Later", "The real title"),
        ("Underlined [title](x.md)\n====\n", "Underlined title"),
        ("```\n# a comment\n```\n\n# After the code", "After the code"),
        ("#\n\n# Not empty", "Not empty"),
        ("---\nauthor: me\n---\n\n# Below the front matter", "Below the front matter"),
        ("---\r\nauthor: me\r\n---\r\nno heading", "notes"),
        ("no heading", "notes"),
    ],
)
def test_the_title_is_the_first_heading_without_markup(tmp_path: Path, written: str, title: str) -> None:
    """Comments in code and the lines of front matter are no headings; without any, the file's stem serves."""
    assert _read(tmp_path, written).title == title


def test_headings_are_sections_at_the_start_of_their_lines(tmp_path: Path) -> None:
    """Whatever the ends of lines and whatever stands in front; an underline makes one of the lines above it."""
    document = _read(tmp_path, "---\r\na: b\r\n---\r\n# *One*\r\n\0x\r\nTwo\r\n---\r\n\r\n  ### Three ##\r\n")
    assert document.text == "---\na: b\n---\n# *One*\nx\nTwo\n---\n\n  ### Three ##\n"
    assert document.sections == (
        Section(13, "heading", "One", 1),
        Section(21, "heading", "x Two", 2),
        Section(32, "heading", "Three", 3),
    )
    lines = [document.text[section.start :].split("\n")[0] for section in document.sections]
    assert lines == ["# *One*", "x", "  ### Three ##"]


@pytest.mark.parametrize(
    "written",
    [
        "```\n# a\nb\n---\n``` no\n~~~\n# c\n",
        "~~~~\n~~~\n# a\n~~~~\n",
        "    # a",
        "- a\n---\n> b\n===\n| c |\n---\n1. d\n---\n",
        "text\n\n---\n",
        "#a\n####### b\n#\n",
    ],
    ids=["code", "longer fence", "indented", "lists and tables", "rule", "no headings"],
)
def test_what_only_looks_like_a_heading_is_none(tmp_path: Path, written: str) -> None:
    assert _read(tmp_path, written).sections == ()


def test_a_heading_beyond_the_first_pages_is_found(tmp_path: Path) -> None:
    assert _read(tmp_path, "text\n\n" * 20_000 + "# Late\n").sections == (Section(120_000, "heading", "Late", 1),)
