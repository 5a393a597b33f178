"""Maps an answer's sentences to the passages that they rest on, and to quotes that stand literally in the stored text."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rag_server.types import Citation, Claim, Passage
from rag_server.untrusted_text import visible

Span = tuple[int, int]
SegmentSentences = Callable[[str], list[Span]]

# [2], [2, 3]; not the text of a Markdown link.
MARK = re.compile(r"\[\d{1,3}(?:\s*[,;]\s*\d{1,3})*\](?!\()")
LEADING_MARKS = re.compile(rf"(?:\s*{MARK.pattern})+")
WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
# The share of a sentence's information that a quote must hold to support it.
SUPPORT = 0.5
# Fewer shared words than this prove nothing, however large their share.
MIN_SHARED_WORDS = 2
MAX_QUOTE_SENTENCES = 2
# A shorter sentence without a mark is a heading or a word of courtesy, and claims nothing.
MIN_CLAIM_WORDS = 3


@dataclass(frozen=True, slots=True)
class Grounding:
    """What an answer rests on, in the order of the answer: its citations, and its sentences that claim something."""

    citations: tuple[Citation, ...] = ()
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class _Quote:
    """A stretch of a passage, offsets in characters of the passage's text."""

    passage: Passage
    start: int
    end: int
    words: frozenset[str]


def ground(answer: str, passages: Sequence[Passage], *, sentences: SegmentSentences) -> Grounding:
    """Return the citations of an answer, and which of its sentences they support.

    A sentence claims something if it has three words, or one and a mark of a passage. A sentence with marks gets one citation
    per mark; marks of numbers that were not in the prompt are ignored. A sentence without a mark gets one citation if some
    passage supports it. A quote supports a sentence when it holds at least half of the sentence's words, weighted by their
    rarity among the passages, and every number in it.

    Args:
        answer: What the engine wrote.
        passages: The passages in the order of the prompt; mark [n] means passages[n - 1].
        sentences: Splits a text into spans that cover it.
    """
    quotes = [list(_quotes(passage, sentences)) for passage in passages]
    weights = _rarity([quote.words for of_passage in quotes for quote in of_passage])
    citations: list[Citation] = []
    claims: list[Claim] = []
    for start, end in _sentences(answer, sentences):
        words = _words(MARK.sub(" ", answer[start:end]))
        marks = [(mark, number) for mark in MARK.finditer(answer, start, end) for number in _numbers(mark, len(passages))]
        if not marks and len(set(words)) < MIN_CLAIM_WORDS:
            continue
        span = _trimmed(answer, start, end)
        cited = []
        for mark, number in marks:
            best = _best(words, quotes[number - 1], weights)
            cited.append(_citation(passages[number - 1], best, number, mark.span()))
        if not marks:
            best = _best(words, [quote for of_passage in quotes for quote in of_passage], weights)
            cited += [] if best is None else [_citation(best.passage, best, None, span)]
        citations += cited
        if words:
            claims.append(Claim(*span, verified=any(citation.verified for citation in cited)))
    return Grounding(tuple(citations), tuple(claims))


def _citation(passage: Passage, quote: _Quote | None, number: int | None, answer_span: Span) -> Citation:
    if quote is None:
        return Citation(passage, number, *answer_span, quote=None, start=None, end=None)
    return Citation(
        passage,
        number,
        *answer_span,
        quote=passage.text[quote.start : quote.end],
        start=passage.start + quote.start,
        end=passage.start + quote.end,
    )


def _sentences(answer: str, sentences: SegmentSentences) -> list[Span]:
    """Return the answer's sentences; marks that follow a full stop belong to the sentence before them."""
    spans: list[Span] = []
    for start, end in sentences(answer):
        leading = LEADING_MARKS.match(answer, start, end) if spans else None
        cut = leading.end() if leading else start
        if leading:
            spans[-1] = (spans[-1][0], cut)
        if cut < end:
            spans.append((cut, end))
    return spans


def _numbers(mark: re.Match[str], num_passages: int) -> list[int]:
    numbers = [int(number) for number in re.findall(r"\d+", mark.group())]
    return [number for number in dict.fromkeys(numbers) if 1 <= number <= num_passages]


def _quotes(passage: Passage, sentences: SegmentSentences) -> Iterator[_Quote]:
    """Yield every run of one or two neighbouring sentences of the passage."""
    spans = [_trimmed(passage.text, start, end) for start, end in sentences(passage.text)]
    spans = [span for span in spans if span[0] < span[1]]
    for length in range(1, MAX_QUOTE_SENTENCES + 1):
        for first in range(len(spans) - length + 1):
            start, end = spans[first][0], spans[first + length - 1][1]
            yield _Quote(passage, start, end, frozenset(_words(passage.text[start:end])))


def _best(words: list[str], quotes: Sequence[_Quote], weights: Callable[[str], float]) -> _Quote | None:
    """Return the shortest of the quotes that support the words best, or None if none supports them enough."""
    claimed = set(words)
    total = sum(weights(word) for word in claimed)
    numbers = {word for word in claimed if word[0].isdigit()}
    best, best_score = None, 0.0
    for quote in quotes:
        shared = claimed & quote.words
        if len(shared) < min(MIN_SHARED_WORDS, len(claimed)) or not numbers <= quote.words:
            continue
        score = sum(weights(word) for word in shared) / total if total else 0.0
        if score >= SUPPORT and score > best_score:
            best, best_score = quote, score
    return best


def _rarity(texts: Sequence[frozenset[str]]) -> Callable[[str], float]:
    """Return the weight of a word: log(1 + texts / texts that hold it), so that common words of any language count little."""
    counts = Counter(word for words in texts for word in words)
    return lambda word: math.log1p(len(texts) / max(counts[word], 1))


def _words(text: str) -> list[str]:
    # As the engine was given it, which has no characters that cannot be seen; a quote is cut from the stored text.
    return [word.casefold() for word in WORD.findall(visible(text))]


def _trimmed(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end
