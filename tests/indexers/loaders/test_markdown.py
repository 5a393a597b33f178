"""Markdown: the text is the file, the title its first heading."""

from pathlib import Path

import pytest

from indexers.loaders import markdown
from rag_server.types import Document


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
