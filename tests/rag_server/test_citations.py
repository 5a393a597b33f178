"""Citations: which passage, which quote, verified or not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexers.chunking import sentence_spans
from rag_server.citations import ground
from rag_server.types import Passage

SERVER = "The server is started with make serve. It listens on port 8000."
CATS = "Cats sleep for 16 hours a day. Dogs sleep less."


def passages(*texts: str) -> list[Passage]:
    return [Passage(n, "d", "f", "a.md", "T", text, 100, 100 + len(text), 1.0, n) for n, text in enumerate(texts, start=1)]


def shown(answer: str) -> list[tuple[str, int | None, int, str | None]]:
    """The citations of an answer from SERVER [1] and CATS [2]: the cited stretch, mark, passage and quote."""
    citations = ground(answer, passages(SERVER, CATS), sentences=sentence_spans).citations
    return [(answer[c.answer_start : c.answer_end], c.number, c.passage.id, c.quote) for c in citations]


def claims(answer: str) -> list[tuple[str, bool]]:
    """The sentences of an answer from SERVER [1] and CATS [2] that claim something, and whether they are verified."""
    found = ground(answer, passages(SERVER, CATS), sentences=sentence_spans).claims
    return [(answer[claim.answer_start : claim.answer_end], claim.verified) for claim in found]


def test_mark_is_mapped_to_passage_and_quote() -> None:
    """A mark names its passage, and the quote is the sentence of it that says so."""
    (citation,) = ground("Cats sleep 16 hours a day [2].", passages(SERVER, CATS), sentences=sentence_spans).citations

    assert (citation.number, citation.passage.id, citation.verified) == (2, 2, True)
    assert citation.quote == "Cats sleep for 16 hours a day."
    assert (citation.start, citation.end) == (100, 130)


def test_quote_is_as_stored_where_words_hold_what_nobody_sees() -> None:
    """The engine reads a text without its invisible characters; the quote and its offsets are those of the stored one."""
    stored = "Ca\u200bts sl\u00adeep for 16 hours a day. Dogs sleep less."
    (citation,) = ground("Cats sleep 16 hours a day [1].", passages(stored), sentences=sentence_spans).citations

    assert citation.quote == "Ca\u200bts sl\u00adeep for 16 hours a day."
    assert stored[citation.start - 100 : citation.end - 100] == citation.quote


def test_mark_after_the_full_stop_belongs_to_the_sentence_before() -> None:
    """Marks before and after the full stop, glued or spaced, mean the same."""
    for answer in (
        "Cats sleep 16 hours a day.[2] Good.",
        "Cats sleep 16 hours a day. [2] Good.",
        "Cats sleep 16 hours a day[2]. Good.",
    ):
        assert shown(answer) == [("[2]", 2, 2, "Cats sleep for 16 hours a day.")]


def test_every_mark_counts() -> None:
    """Several marks at one sentence give a citation each; the one that does not support it is not verified."""
    expected = [("[2]", 2, 2, "Cats sleep for 16 hours a day."), ("[1]", 1, 1, None)]

    assert shown("Cats sleep 16 hours a day [2][1].") == expected
    assert [row[1:] for row in shown("Cats sleep 16 hours a day [2, 1].")] == [row[1:] for row in expected]


def test_number_that_differs_is_not_verified() -> None:
    """A quote supports a sentence only if it holds every number of it."""
    assert shown("Cats sleep for 17 hours a day [2].") == [("[2]", 2, 2, None)]


def test_marks_of_no_passage_are_ignored() -> None:
    """A number that was not in the prompt cites nothing, and neither does the text of a link."""
    assert shown("Something unknown here [7].") == []
    assert shown("Something unknown [1](http://x) here.") == []


def test_sentence_without_mark_is_matched_by_its_words() -> None:
    """A sentence that a passage supports is cited without a mark; one that none supports is not."""
    answer = "You start the server with make serve. Bananas are yellow and sweet."

    assert shown(answer) == [("You start the server with make serve.", None, 1, "The server is started with make serve.")]


def test_two_sentences_can_support_one() -> None:
    """A quote may span two neighbouring sentences."""
    ((_, _, _, quote),) = shown("The server started with make serve listens on port 8000.")

    assert quote == SERVER


def test_headings_and_courtesies_claim_nothing() -> None:
    """Too short a sentence without a mark is not cited."""
    assert shown("Sleep.\n\nHello!") == []
    assert claims("Sleep.\n\nHello!") == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Cats sleep 16 hours a day. [2] Dogs fly.", [("Cats sleep 16 hours a day. [2]", True)]),
        ("Cats sleep for 17 hours a day [2].\n\nGood. ", [("Cats sleep for 17 hours a day [2].", False)]),
        (
            "You start the server with make serve. Bananas are yellow and sweet.",
            [("You start the server with make serve.", True), ("Bananas are yellow and sweet.", False)],
        ),
        ("Cats sleep 16 hours a day [1][2].", [("Cats sleep 16 hours a day [1][2].", True)]),
        ("Something unknown here [7].", [("Something unknown here [7].", False)]),
        ("Dogs [2]. [1]", [("Dogs [2]. [1]", True)]),
        ("[1]", []),
        ("  \n", []),
    ],
)
def test_sentences_are_verified_by_any_of_their_citations(answer: str, expected: list[tuple[str, bool]]) -> None:
    """Every sentence of three words, or of one with a mark, is told, also one that nothing supports."""
    assert claims(answer) == expected


@given(
    answer=st.text(alphabet=st.sampled_from("abé 日🐈.!?\n[]123,("), max_size=120),
    texts=st.lists(st.text(alphabet=st.sampled_from("abé 日🐈.!?\n123"), min_size=1, max_size=80), max_size=3),
)
def test_quotes_are_literal_for_any_text(answer: str, texts: list[str]) -> None:
    """Whatever the answer and the passages are, each quote is the passage's text at its offsets, inside the passage."""
    found = passages(*texts)

    grounding = ground(answer, found, sentences=sentence_spans)

    for citation in grounding.citations:
        assert 0 <= citation.answer_start < citation.answer_end <= len(answer)
        assert citation.passage in found
        if citation.quote is not None:
            base = citation.passage.start
            assert citation.quote == citation.passage.text[citation.start - base : citation.end - base]
            assert citation.quote.strip()
    # Sentences follow each other, and those with a verified citation in them are verified.
    ends = [0, *(claim.answer_end for claim in grounding.claims)]
    for claim, end in zip(grounding.claims, ends, strict=False):
        assert end <= claim.answer_start < claim.answer_end <= len(answer)
        within = [c for c in grounding.citations if claim.answer_start <= c.answer_start and c.answer_end <= claim.answer_end]
        assert claim.verified == any(citation.verified for citation in within)


def test_hostile_answer_is_bounded() -> None:
    """Thousands of marks give at most one citation each."""
    answer = "Cats sleep for 16 hours a day [1][2]. " * 500

    assert len(shown(answer)) == 1000
