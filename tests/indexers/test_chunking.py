"""Chunking: cover, length, whole sentences, overlap."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from indexers.chunking import chunk_text, sentence_spans

TEXTS = st.text(alphabet=st.sampled_from("ab é日🐈.!?\n\t#-\u200b"), max_size=300)


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
