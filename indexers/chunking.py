"""Cuts a document's text into chunks of whole sentences, measured in the embedding model's tokens; knows no model itself."""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate, pairwise

import sentencex

from rag_server.types import Chunk, Place, Section

# Returns the character spans of a text's sentences; they follow each other without a gap and cover the text.
SentenceSegmenter = Callable[[str], list[tuple[int, int]]]

# The segmenter's rules for English also split on the full stops of other scripts.
SEGMENTER_LANGUAGE = "en"
# Of a text of more than 10 KiB sentencex loses a paragraph break every 10 KiB, and of text that is not ASCII its time grows
# with the square of the length (minutes for a megabyte of Japanese). This many characters are never 10 KiB.
WINDOW_CHARS = 2500
# Whether a full stop ends a sentence depends on the words after it.
LOOKAHEAD_CHARS = 100
PARAGRAPH_BREAKS = ("\n\n", "\n\r\n")

# A heading starts a chunk where the chunk before it holds at least this share of the longest chunk.
HEADING_SHARE = 1 / 3
# A sheet or slide starts a chunk, but for one where the chunk before it holds less: a bare name is no chunk worth having.
TINY_SHARE = 1 / 16
# A heading is the line at its start, with the white space after it.
HEADING_LINE = re.compile(r"[^\r\n]*\s*")
# What stands before the first words of a chunk, the marks of a Markdown heading among it.
LEADING = re.compile(r"[\s#]*")


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A sentence, or the part of it, that lies in one section and is either heading or text."""

    start: int
    end: int
    # A sheet or slide starts here.
    opens_part: bool
    is_heading: bool


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is never cut again: a stretch, or a piece of one that is too long."""

    start: int
    end: int
    num_tokens: int
    opens_part: bool
    is_heading: bool


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the character spans of the sentences of `text`; they follow each other without a gap and cover it."""
    spans: list[tuple[int, int]] = []
    start = position = 0
    while position < len(text):
        window_end, is_whole = _window(text, position)
        sentences = sentencex.segment(SEGMENTER_LANGUAGE, text[position:window_end])
        ends = list(accumulate(map(len, sentences), initial=position))[1:]
        # What ends near a window that breaks off is looked at again, with what follows it.
        known_end = window_end if is_whole else window_end - LOOKAHEAD_CHARS
        finished = ends[: bisect_right(ends, known_end)]
        spans.extend(pairwise([start, *finished]))
        start = finished[-1] if finished else start
        position = finished[-1] if finished else known_end
    return spans


def _window(text: str, position: int) -> tuple[int, bool]:
    """Return the end of what is segmented together from `position`, and whether it ends where a sentence must end."""
    limit = position + WINDOW_CHARS
    if limit >= len(text):
        return len(text), True
    found = [(text.rfind(mark, position, limit), len(mark)) for mark in PARAGRAPH_BREAKS]
    end = max((start + length for start, length in found if start >= 0), default=None)
    return (limit, False) if end is None else (end, True)


def chunk_text(
    text: str,
    token_spans: Sequence[tuple[int, int]],
    *,
    max_tokens: int,
    overlap_tokens: int = 0,
    sections: Sequence[Section] = (),
    sentences: SentenceSegmenter = sentence_spans,
) -> list[Chunk]:
    """Return chunks of at most `max_tokens` tokens that together cover `text`, each with its place among the sections.

    A chunk ends where a sentence ends; only a sentence that is longer, alone or under its headings, is cut within. A sheet
    or slide starts a chunk unless what stands before it in its chunk is tiny (TINY_SHARE). A heading starts a chunk if
    what stands before it fills HEADING_SHARE of one, and is not parted from the text under it unless it fills more than
    half a chunk. Headings that follow each other count as one. Pages do not cut.

    Args:
        text: The document's text.
        token_spans: The character span of every token of `text`, in order.
        max_tokens: The longest chunk, in tokens. Exceeded only where more tokens than that start at one character.
        overlap_tokens: How much of the end of the chunk before a chunk repeats, in whole sentences. A chunk that starts
            with a heading, sheet or slide repeats nothing.
        sections: The document's sections, in the order of their starts.
        sentences: Finds the sentences.
    """
    starts = [start for start, _ in token_spans]
    units = list(_units(text, _stretches(text, sentences(text), sections), starts, max_tokens))
    places = _Places(sections)
    chunks: list[Chunk] = []
    first = 0
    while first < len(units):
        last = _fill(units, first, max_tokens)
        start, end = units[first].start, units[last - 1].end
        chunks.append(Chunk(start, end, places.at(_first_words(text, start, end))))
        first = last if last == len(units) else _step_back(units, first, last, overlap_tokens, max_tokens)
    return chunks


def _stretches(text: str, spans: Iterable[tuple[int, int]], sections: Sequence[Section]) -> Iterator[_Stretch]:
    """Cut the sentences where a sheet, slide or heading starts and where a heading ends."""
    parts = {section.start for section in sections if section.kind in ("sheet", "slide")}
    heading_ends = _heading_ends(text, parts, {section.start for section in sections if section.kind == "heading"})
    cuts = sorted({*parts, *heading_ends, *heading_ends.values()})
    heading_end = 0
    for span_start, span_end in spans:
        inner = cuts[bisect_right(cuts, span_start) : bisect_left(cuts, span_end)]
        for start, end in pairwise([span_start, *inner, span_end]):
            heading_end = heading_ends.get(start, heading_end)
            yield _Stretch(start, end, opens_part=start in parts, is_heading=start < heading_end)


def _heading_ends(text: str, parts: Set[int], headings: Set[int]) -> dict[int, int]:
    """Return the end of each heading by its start."""
    ends = {}
    for start, limit in pairwise([*sorted(parts | headings), len(text)]):
        match = HEADING_LINE.match(text, start, limit)
        if start in headings and match is not None:
            ends[start] = match.end()
    return ends


def _units(text: str, stretches: Iterable[_Stretch], starts: Sequence[int], max_tokens: int) -> Iterator[_Unit]:
    """Cut the stretches that are too long."""
    heading_tokens = 0
    for stretch in stretches:
        if stretch.opens_part:
            heading_tokens = 0
        # Under its headings the text has less room; where that is too little, they stand apart.
        is_under = not stretch.is_heading and heading_tokens * 2 <= max_tokens
        for start, end in _fit(text, stretch, starts, max_tokens, max_tokens - heading_tokens * is_under):
            num_tokens = bisect_left(starts, end) - bisect_left(starts, start)
            yield _Unit(start, end, num_tokens, stretch.opens_part and start == stretch.start, stretch.is_heading)
            heading_tokens = heading_tokens + num_tokens if stretch.is_heading else 0


def _fit(text: str, stretch: _Stretch, starts: Sequence[int], max_tokens: int, room: int) -> list[tuple[int, int]]:
    """Cut a stretch that is too long, at the last white space that fits, or between tokens where there is none.

    The first piece holds at most `room` tokens, the others at most `max_tokens`.
    """
    first, last = bisect_left(starts, stretch.start), bisect_left(starts, stretch.end)
    cuts = [stretch.start]
    while last - first > room:
        candidates = range(first + room, first + room // 2, -1)
        cut = next((index for index in candidates if text[starts[index] - 1].isspace()), first + room)
        # Tokens that start at one character, such as the bytes of an emoji, cannot be parted.
        same = bisect_left(starts, starts[cut])
        first = same if same > first else bisect_right(starts, starts[cut])
        if first >= last:
            break
        cuts.append(starts[first])
        room = max_tokens
    return list(pairwise([*cuts, stretch.end]))


def _fill(units: Sequence[_Unit], first: int, max_tokens: int) -> int:
    """Return the end of the chunk that starts with the unit `first`."""
    total = 0
    for last in range(first, len(units)):
        if last > first and (total + units[last].num_tokens > max_tokens or _starts_chunk(units, last, total / max_tokens)):
            return last if units[last].opens_part else _before_headings(units, first, last)
        total += units[last].num_tokens
    return len(units)


def _starts_chunk(units: Sequence[_Unit], index: int, filled: float) -> bool:
    """Return whether a chunk must start at the unit, when this share of one is filled before it."""
    if units[index].opens_part:
        return filled >= TINY_SHARE
    return _opens_section(units, index) and filled >= HEADING_SHARE


def _opens_section(units: Sequence[_Unit], index: int) -> bool:
    """Return whether the unit is the start of a sheet or slide, or the first of headings that follow each other."""
    is_first_heading = units[index].is_heading and (index == 0 or not units[index - 1].is_heading)
    return units[index].opens_part or is_first_heading


def _before_headings(units: Sequence[_Unit], first: int, last: int) -> int:
    """Return the end of the chunk without the headings of its last section, or `last` if nothing else is in it."""
    end = last
    while end > first and units[end - 1].is_heading:
        end -= 1
        if units[end].opens_part:
            break
    return end if end > first else last


def _step_back(units: Sequence[_Unit], first: int, last: int, overlap_tokens: int, max_tokens: int) -> int:
    """Return where the next chunk starts so that it repeats at most `overlap_tokens` and still holds something new."""
    start, repeated = last, 0
    # A unit may hold no token of its own, such as white space, and is then no overlap worth having.
    while start - 1 > first and (size := units[start - 1].num_tokens) and repeated + size <= overlap_tokens:
        if _opens_section(units, start):
            break
        start -= 1
        repeated += size
    return start if repeated + units[last].num_tokens <= max_tokens else last


def _first_words(text: str, start: int, end: int) -> int:
    """Return where the chunk's first words stand, or its start if it has none."""
    match = LEADING.match(text, start, end)
    return match.end() if match is not None and match.end() < end else start


class _Places:
    """Looks up in which sections a position lies."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._starts: dict[str, list[int]] = defaultdict(list)
        self._labels: dict[str, list[str | float]] = defaultdict(list)
        path: list[Section] = []
        for section in sections:
            label = section.label
            if section.kind == "heading":
                path = [*(above for above in path if above.level < section.level), section]
                label = " > ".join(str(heading.label) for heading in path)
            self._starts[section.kind].append(section.start)
            self._labels[section.kind].append(label)

    def at(self, position: int) -> Place:
        """Return the label of the last section of each kind that starts at or before `position`."""
        found = {kind: bisect_right(starts, position) for kind, starts in self._starts.items()}
        return {kind: self._labels[kind][index - 1] for kind, index in found.items() if index}
