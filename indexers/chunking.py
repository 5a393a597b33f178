"""Cuts a document's text into chunks of whole sentences, measured in the embedding model's tokens; knows no model itself."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import sentencex

from rag_server.types import Chunk

# The segmenter's rules for English also split on the full stops of other scripts.
SEGMENTER_LANGUAGE = "en"


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the character spans of the sentences of `text`; they follow each other without a gap and cover it."""
    spans = []
    start = 0
    for sentence in sentencex.segment(SEGMENTER_LANGUAGE, text):
        spans.append((start, start + len(sentence)))
        start += len(sentence)
    return spans


def chunk_text(text: str, token_spans: Sequence[tuple[int, int]], *, max_tokens: int, overlap_tokens: int = 0) -> list[Chunk]:
    """Return chunks of at most `max_tokens` tokens that together cover `text`; only a longer sentence is cut within.

    Args:
        text: The document's text.
        token_spans: The character span of every token of `text`, in order.
        max_tokens: The longest chunk, in tokens.
        overlap_tokens: How much of the end of the chunk before a chunk repeats, in whole sentences.
    """
    starts = [start for start, _ in token_spans]
    units = [unit for span in sentence_spans(text) for unit in _fit(text, span, starts, max_tokens)]
    sizes = [bisect_left(starts, end) - bisect_left(starts, start) for start, end in units]
    chunks: list[Chunk] = []
    first = 0
    while first < len(units):
        last = _fill(sizes, first, max_tokens)
        chunks.append(Chunk(units[first][0], units[last - 1][1]))
        first = last if last == len(units) else _step_back(sizes, first, last, overlap_tokens, max_tokens)
    return chunks


def _fill(sizes: Sequence[int], first: int, max_tokens: int) -> int:
    """Return the end of the longest run of units from `first` that fits."""
    total = 0
    for last in range(first, len(sizes)):
        total += sizes[last]
        if total > max_tokens and last > first:
            return last
    return len(sizes)


def _step_back(sizes: Sequence[int], first: int, last: int, overlap_tokens: int, max_tokens: int) -> int:
    """Return where the next chunk starts so that it repeats at most `overlap_tokens` and still holds something new."""
    start, repeated = last, 0
    # A unit may hold no token of its own, such as white space, and is then no overlap worth having.
    while start - 1 > first and sizes[start - 1] and repeated + sizes[start - 1] <= overlap_tokens:
        start -= 1
        repeated += sizes[start]
    return start if repeated + sizes[last] <= max_tokens else last


def _fit(text: str, span: tuple[int, int], starts: Sequence[int], max_tokens: int) -> list[tuple[int, int]]:
    """Cut a span that is too long, at the last white space that fits, or between tokens where there is none."""
    first, last = bisect_left(starts, span[0]), bisect_left(starts, span[1])
    cuts = [span[0]]
    while last - first > max_tokens:
        candidates = range(first + max_tokens, first + max_tokens // 2, -1)
        cut = next((index for index in candidates if text[starts[index] - 1].isspace()), first + max_tokens)
        cuts.append(starts[cut])
        first = cut
    return list(pairwise([*cuts, span[1]]))
