"""Chunking: cover, length, whole sentences, overlap, headings, places."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.chunking import chunk_text, sentence_spans
from rag_server.types import Chunk, Place, Section

TEXTS = st.text(alphabet=st.sampled_from("ab é日🐈.!?\n\t#-\u200b"), max_size=300)
PIECES = st.sampled_from(
    ["a", "bc ", "Dé. ", "e\u0301", "👩‍💻", "日本。", "\r\n", "\n\n", "# ", " \t", "f! G", "hijklm", "no no no. "]
)
MIXED_TEXTS = st.lists(PIECES, max_size=80).map("".join)


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def chunks_of(text: str, max_tokens: int, overlap_tokens: int = 0) -> list[str]:
    found = chunk_text(text, words(text), max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return [text[chunk.start : chunk.end] for chunk in found]


@given(text=TEXTS)
def test_sentences_cover_any_text(text: str) -> None:
    """The spans of the sentences follow each other and cover the text, whatever its characters."""
    spans = sentence_spans(text)

    assert "".join(text[start:end] for start, end in spans) == text
    assert all(spans[i][1] == spans[i + 1][0] for i in range(len(spans) - 1))


@given(text=TEXTS, max_tokens=st.integers(1, 20))
def test_chunks_join_to_the_text_and_are_short_enough(text: str, max_tokens: int) -> None:
    """Without overlap, the chunks joined are the text, and none holds more tokens than allowed."""
    found = chunk_text(text, words(text), max_tokens=max_tokens)

    assert "".join(text[chunk.start : chunk.end] for chunk in found) == text
    starts = [start for start, _ in words(text)]
    assert all(sum(chunk.start <= start < chunk.end for start in starts) <= max_tokens for chunk in found)


@given(text=TEXTS, max_tokens=st.integers(2, 20), data=st.data())
def test_overlap_is_bounded_and_covers(text: str, max_tokens: int, data: st.DataObject) -> None:
    """With overlap, every chunk starts inside or right after the one before, ends later, and repeats at most the overlap."""
    overlap_tokens = data.draw(st.integers(0, max_tokens // 2))
    found = chunk_text(text, words(text), max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    starts = [start for start, _ in words(text)]

    for before, after in pairwise(found):
        assert before.start < after.start <= before.end < after.end
        assert sum(after.start <= start < before.end for start in starts) <= overlap_tokens
    assert not text or (found[0].start, found[-1].end) == (0, len(text))
    assert all(sum(chunk.start <= start < chunk.end for start in starts) <= max_tokens for chunk in found)


def test_unit_without_a_token_is_not_repeated() -> None:
    """A sentence boundary inside a token leaves a unit that starts no token; it stands in one chunk only."""
    assert chunks_of("?-?? ?", 1) == ["?-?? ", "?"]


def test_sentences_stay_whole() -> None:
    """A chunk ends where a sentence ends."""
    text = "One two three. Four five. Six seven eight nine. Ten."

    assert chunks_of(text, 5) == ["One two three. Four five. ", "Six seven eight nine. Ten."]


def test_overlap_repeats_whole_sentences() -> None:
    """The last sentence of a chunk begins the next one if it is short enough."""
    text = "One two three. Four five. Six seven. Eight nine."

    assert chunks_of(text, 5, overlap_tokens=2) == [
        "One two three. Four five. ",
        "Four five. Six seven. ",
        "Six seven. Eight nine.",
    ]


def test_long_sentence_is_cut_at_white_space() -> None:
    """A sentence that is longer than a chunk is cut between words."""
    text = "one two three four five six seven"

    assert chunks_of(text, 3) == ["one two three ", "four five six ", "seven"]


def test_text_without_white_space_is_cut_between_tokens() -> None:
    """Where there is no white space, the tokenizer's own boundaries are taken."""
    text = "abcdef"
    found = chunk_text(text, [(i, i + 1) for i in range(6)], max_tokens=2)

    assert [text[chunk.start : chunk.end] for chunk in found] == ["ab", "cd", "ef"]


@st.composite
def sectioned_texts(draw: st.DrawFn) -> tuple[str, list[Section]]:
    """A text with sections anywhere in it, in the order of their starts."""
    text = draw(MIXED_TEXTS)
    sections = []
    for start in sorted(draw(st.lists(st.integers(0, len(text)), max_size=12))):
        kind = draw(st.sampled_from(["page", "sheet", "slide", "heading"]))
        if kind == "heading":
            sections.append(Section(start, kind, draw(st.sampled_from(["A", "B", "C"])), draw(st.integers(1, 3))))
        else:
            sections.append(Section(start, kind, f"S{start}" if kind == "sheet" else float(len(sections) + 1)))
    return text, sections


def num_tokens(text: str, start: int, end: int) -> int:
    return sum(start <= token_start < end for token_start, _ in words(text))


def parts_of(sections: list[Section]) -> set[int]:
    return {section.start for section in sections if section.kind in ("sheet", "slide")}


@given(document=sectioned_texts(), max_tokens=st.integers(1, 40), data=st.data())
def test_chunks_of_sections_cover_and_are_short_enough(
    document: tuple[str, list[Section]], max_tokens: int, data: st.DataObject
) -> None:
    """Whatever the sections, chunks keep to the length and the overlap, leave no gap, and each holds something new."""
    text, sections = document
    overlap_tokens = data.draw(st.integers(0, max_tokens // 2))
    found = chunk_text(text, words(text), max_tokens=max_tokens, overlap_tokens=overlap_tokens, sections=sections)

    assert all(num_tokens(text, chunk.start, chunk.end) <= max_tokens for chunk in found)
    assert not text or (found[0].start, found[-1].end) == (0, len(text))
    for before, after in pairwise(found):
        assert before.start < after.start <= before.end < after.end
        assert num_tokens(text, after.start, before.end) <= overlap_tokens


@given(document=sectioned_texts(), max_tokens=st.integers(1, 40))
def test_chunks_of_sections_join_to_the_text(document: tuple[str, list[Section]], max_tokens: int) -> None:
    """Without overlap, the chunks joined are the text."""
    text, sections = document
    found = chunk_text(text, words(text), max_tokens=max_tokens, sections=sections)

    assert "".join(text[chunk.start : chunk.end] for chunk in found) == text


def place_by_brute_force(text: str, chunk: Chunk, sections: list[Section]) -> Place:
    """Walk to the first words of the chunk, then back through the sections."""
    position = chunk.start
    while position < chunk.end and (text[position].isspace() or text[position] == "#"):
        position += 1
    position = chunk.start if position == chunk.end else position
    place: dict[str, str | float] = {}
    path: list[Section] = []
    for section in reversed([section for section in sections if section.start <= position]):
        if section.kind != "heading":
            place.setdefault(section.kind, section.label)
        elif not path or section.level < path[0].level:
            path.insert(0, section)
    return {**place, "heading": " > ".join(str(heading.label) for heading in path)} if path else place


@given(document=sectioned_texts(), max_tokens=st.integers(1, 40), data=st.data())
def test_place_is_where_the_chunk_starts(document: tuple[str, list[Section]], max_tokens: int, data: st.DataObject) -> None:
    """A chunk's place names the last section of each kind that starts at or before its first words."""
    text, sections = document
    overlap_tokens = data.draw(st.integers(0, max_tokens // 2))
    found = chunk_text(text, words(text), max_tokens=max_tokens, overlap_tokens=overlap_tokens, sections=sections)

    assert [chunk.place for chunk in found] == [place_by_brute_force(text, chunk, sections) for chunk in found]


@given(document=sectioned_texts(), max_tokens=st.integers(1, 40), data=st.data())
def test_sheets_and_slides_start_a_chunk(document: tuple[str, list[Section]], max_tokens: int, data: st.DataObject) -> None:
    """A sheet or slide lies inside a chunk only behind less than a sixteenth of a full one."""
    text, sections = document
    overlap_tokens = data.draw(st.integers(0, max_tokens // 2))
    found = chunk_text(text, words(text), max_tokens=max_tokens, overlap_tokens=overlap_tokens, sections=sections)

    for start in parts_of(sections):
        for chunk in found:
            if chunk.start < start < chunk.end:
                assert num_tokens(text, chunk.start, start) * 16 < max_tokens


def headings_before(text: str, end: int, sections: list[Section]) -> int:
    """Return where the headings that stand right before `end` begin, within their sheet or slide; `end` if there are none."""
    parts = parts_of(sections)
    limits = sorted(parts | {section.start for section in sections if section.kind == "heading"})
    in_heading = set()
    for section in sections:
        if section.kind == "heading":
            limit = min((other for other in limits if other > section.start), default=len(text))
            line = text[section.start : limit]
            broken = re.search(r"[\r\n]\s*", line)
            in_heading.update(range(section.start, section.start + (broken.end() if broken else len(line))))
    start = end
    while start - 1 in in_heading:
        start -= 1
        if start in parts:
            break
    return start


@given(document=sectioned_texts(), max_tokens=st.integers(1, 40))
def test_headings_stay_with_their_text(document: tuple[str, list[Section]], max_tokens: int) -> None:
    """A chunk ends with headings that text follows only if these headings fill more than half a chunk."""
    text, sections = document
    for chunk in chunk_text(text, words(text), max_tokens=max_tokens, sections=sections):
        start = headings_before(text, chunk.end, sections)
        text_follows = headings_before(text, chunk.end + 1, sections) == chunk.end + 1 and chunk.end < len(text)
        if start < chunk.end and text_follows and chunk.end not in parts_of(sections):
            assert num_tokens(text, start, chunk.end) * 2 > max_tokens


def sectioned(marked: str) -> tuple[str, list[Section]]:
    """Return the text with its Markdown headings as sections."""
    found = re.finditer(r"^(#+) (.*)$", marked, re.MULTILINE)
    return marked, [Section(match.start(), "heading", match[2], len(match[1])) for match in found]


def test_heading_starts_a_chunk_after_a_third() -> None:
    """A heading cuts when a third of a chunk stands before it, and only then."""
    text, sections = sectioned("# Guide\n\nOne two.\n\n## Use\n\nThree four.\n\n## Care\n\nFive six.")
    found = chunk_text(text, words(text), max_tokens=12, sections=sections)

    # Four tokens stand before "Use", which is a third.
    assert [(text[chunk.start : chunk.end], chunk.place) for chunk in found] == [
        ("# Guide\n\nOne two.\n\n", {"heading": "Guide"}),
        ("## Use\n\nThree four.\n\n", {"heading": "Guide > Use"}),
        ("## Care\n\nFive six.", {"heading": "Guide > Care"}),
    ]
    assert len(chunk_text(text, words(text), max_tokens=13, sections=sections)) == 2


def test_heading_is_not_parted_from_its_text() -> None:
    """A heading that would end a chunk starts the next one, together with the headings right before it."""
    text, sections = sectioned("One two.\n\n# A\n\n## B\n\nThree four five six seven eight.")
    found = chunk_text(text, words(text), max_tokens=10, sections=sections)

    assert [text[chunk.start : chunk.end] for chunk in found] == [
        "One two.\n\n",
        "# A\n\n## B\n\nThree four five six seven eight.",
    ]
    assert [chunk.place for chunk in found] == [{}, {"heading": "A"}]


def test_long_sentence_leaves_room_for_its_heading() -> None:
    """A sentence that would fit alone is cut so that its heading does not stand alone."""
    text, sections = sectioned("# A\n\none two three four five six")

    assert [text[chunk.start : chunk.end] for chunk in chunk_text(text, words(text), max_tokens=6, sections=sections)] == [
        "# A\n\none two three four ",
        "five six",
    ]


def test_overlap_does_not_reach_over_a_heading() -> None:
    """A chunk that starts with a heading repeats nothing of the section before it."""
    text, sections = sectioned("One two. Three four.\n\n# A\n\nFive six.")

    assert [
        text[chunk.start : chunk.end]
        for chunk in chunk_text(text, words(text), max_tokens=8, overlap_tokens=4, sections=sections)
    ] == ["One two. Three four.\n\n", "# A\n\nFive six."]


def test_place_of_pages_sheets_and_slides() -> None:
    """Pages do not cut, sheets do; labels are kept as they are, and a kind that does not apply is left out."""
    text = "Zero. One two. Three four. Five six."
    sections = [Section(6, "page", 1.0), Section(15, "page", 2.0), Section(27, "sheet", "Prices")]
    found = chunk_text(text, words(text), max_tokens=30, sections=sections)

    assert [(chunk.start, chunk.end, chunk.place) for chunk in found] == [
        (0, 27, {}),
        (27, 36, {"page": 2.0, "sheet": "Prices"}),
    ]


def test_tiny_slide_is_joined_with_the_next() -> None:
    """A slide with fewer than a sixteenth of a chunk's tokens does not stand alone."""
    text = "Thanks. One two three. Four."
    sections = [Section(0, "slide", 1.0), Section(8, "slide", 2.0), Section(23, "slide", 3.0)]
    found = chunk_text(text, words(text), max_tokens=32, sections=sections)

    assert [(text[chunk.start : chunk.end], chunk.place["slide"]) for chunk in found] == [
        ("Thanks. One two three. ", 1.0),
        ("Four.", 3.0),
    ]


def test_heading_of_a_slide_stays_with_its_text() -> None:
    """Behind a tiny slide, the next slide's heading goes with the text under it where all three do not fit."""
    text = "# Hi\n\n# Two\n\n" + "word " * 38
    sections = [Section(start, "slide", start / 6 + 1) for start in (0, 6)]
    sections = sorted([*sections, Section(0, "heading", "Hi", 1), Section(6, "heading", "Two", 1)], key=lambda one: one.start)
    found = chunk_text(text, words(text), max_tokens=40, sections=sections)

    assert [(chunk.start, chunk.place) for chunk in found] == [
        (0, {"slide": 1.0, "heading": "Hi"}),
        (6, {"slide": 2.0, "heading": "Two"}),
    ]


def test_tokens_that_start_at_one_character_are_not_parted() -> None:
    """The bytes of an emoji stay together, and are counted wherever they stand; too many of them are let be."""
    text = "🐈🐈🐈"
    tokens = [(i, i + 1) for i in range(3) for _ in range(3)]

    for max_tokens in (2, 5):
        found = chunk_text(text, tokens, max_tokens=max_tokens)
        assert [(chunk.start, chunk.end) for chunk in found] == [(0, 1), (1, 2), (2, 3)]
    assert len(chunk_text(text, tokens, max_tokens=6)) == 2


def test_other_segmenter_is_used() -> None:
    """The sentences are those of the given segmenter."""
    text = "ab cd ef"
    found = chunk_text(text, words(text), max_tokens=2, sentences=lambda text: [(0, 3), (3, len(text))])

    assert [(chunk.start, chunk.end) for chunk in found] == [(0, 3), (3, 8)]


@pytest.mark.parametrize(
    "repeated", ["Some words. More here.\n\n", "Ça va. Là.\r\n\r\n", "\n", "日本語。", "a. ", "word ", "«", "x\n\n\n"]
)
def test_sentences_cover_a_long_text(repeated: str) -> None:
    """A text longer than what is segmented at once is covered, nothing of it lost."""
    text = repeated * 30_000
    spans = sentence_spans(text)

    assert (spans[0][0], spans[-1][1]) == (0, len(text))
    assert all(before[1] == after[0] for before, after in pairwise(spans))


def test_no_paragraph_break_of_a_long_text_is_lost() -> None:
    """Every sentence is found where it stands, however much text goes before it."""
    text = "One two. Three four.\n\n" * 5000

    assert [text[start:end] for start, end in sentence_spans(text)] == ["One two. ", "Three four.", "\n\n"] * 5000


def test_long_text_is_segmented_like_its_parts() -> None:
    """Where a long text is cut for the segmenter shows nowhere in its sentences."""
    sentences = [f"Dr. Who said no. {number} is 3.14 times {'more ' * (number % 40)}than that! " for number in range(500)]
    alone = [text[start:end] for text in sentences for start, end in sentence_spans(text)]
    text = "".join(sentences)

    assert [text[start:end] for start, end in sentence_spans(text)] == alone
