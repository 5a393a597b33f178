"""What is embedded for a chunk: title, headings, text."""

import pytest

from rag_server.jobs.passage_text import MAX_TITLE_CHARACTERS, passage_text


@pytest.mark.parametrize(
    ("title", "heading", "text", "embedded"),
    [
        ("Guide", "", "Text.", "Guide\nText."),
        ("Guide", "Methods > Sampling", "Text.", "Guide\nMethods > Sampling\nText."),
        ("Guide", "Guide", "Text.", "Guide\nText."),
        ("Guide", "Guide > Methods", "Text.", "Guide\nMethods\nText."),
        ("Guide", "Guide", "# Guide\n\nText.", "# Guide\n\nText."),
        ("Guide", "Guide > Methods", "## Methods\n\nText.", "Guide\n## Methods\n\nText."),
        ("", "Methods", "Text.", "Methods\nText."),
        ("", "", "Text.", "Text."),
    ],
)
def test_title_and_headings_stand_before_the_text(title: str, heading: str, text: str, embedded: str) -> None:
    """Title and heading path have a line each, and none that repeats the title or the chunk's first words."""
    assert passage_text(title, text, {"page": 2.0, "heading": heading} if heading else {}) == embedded


def test_long_titles_and_headings_are_cut() -> None:
    """Of a title the start is kept, of a path of headings the end."""
    title, headings, text = passage_text("T" * 1000, "Text.", {"heading": f"{'A' * 1000} > Last"}).split("\n")

    assert title == "T" * MAX_TITLE_CHARACTERS
    assert len(headings) == MAX_TITLE_CHARACTERS
    assert headings.endswith("A > Last")
    assert text == "Text."
