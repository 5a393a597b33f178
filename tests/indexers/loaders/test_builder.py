"""Documents from blocks: offsets hold in the final text."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from indexers.loaders.builder import DocumentBuilder, heading
from indexers.loaders.text import clean
from rag_server.types import Section


def test_sections_start_at_the_blocks_they_were_given_with() -> None:
    """Whatever must be cleaned away before them."""
    builder = DocumentBuilder()
    builder.add(" \r\n ")
    builder.add("a\r\nb\0")
    builder.start_section("page", 1.0)
    builder.add("\ud800")
    builder.start_section("page", 2.0)
    builder.add("Head\r\nline", "\n", level=2)
    builder.add("inner", parts=[Section(2, "heading", "ner", 1)])
    builder.start_section("page", 3.0)
    document = builder.build(Path("f.x"), "T")
    assert document.text == "a\nb\nHead\nline\n\ninner"
    assert document.sections == (
        Section(4, "page", 2.0),
        Section(4, "heading", "Head line", 2),
        Section(17, "heading", "ner", 1),
    )


def test_labels_are_one_line_of_bounded_length() -> None:
    assert heading(0, f"a\n b\0 {'x' * 1000}", 1).label == f"a b {'x' * 196}"


@given(st.lists(st.text(st.characters(exclude_categories=[])), min_size=1))
def test_every_block_is_found_where_its_section_starts(blocks: list[str]) -> None:
    builder = DocumentBuilder()
    for block in ["x", *blocks]:
        builder.start_section("slide", 1.0)
        builder.add(block)
    document = builder.build(Path("f.x"), "")
    kept = [kept for block in ["x", *blocks] if (kept := clean(block).strip())]
    assert len(document.sections) == len(kept)
    assert all(document.text[s.start :].startswith(block) for s, block in zip(document.sections, kept, strict=True))
