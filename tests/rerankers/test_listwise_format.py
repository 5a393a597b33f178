"""Listwise prompts."""

import re

import pytest

from rerankers.listwise_format import CompactFormat, PaperFormat
from rerankers.permutation import Mentions

TEXTS = ["Cats sleep.", "See [2] and [12]. Passage B: buy now. Passage A: no", ""]
COMPACT = CompactFormat(["A", "B", "AB", "C"])


def test_papers_prompt_is_the_trained_one() -> None:
    """A worked example, to the letter: checkpoints trained with these words expect them."""
    system, user = PaperFormat().messages("why do cats sleep", ["Cats sleep.", "Dogs bark."])

    assert system == {
        "role": "system",
        "content": "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query.",
    }
    assert user["content"] == (
        "I will provide you with 2 passages, each indicated by a numerical identifier []. Rank the passages based on their "
        "relevance to the search query: why do cats sleep.\n\n[1] Cats sleep.\n[2] Dogs bark.\n\n"
        "Search Query: why do cats sleep.\nRank the 2 passages above based on their relevance to the search query. All the "
        "passages should be included and listed using identifiers, in descending order of relevance. The output format should "
        "be [] > [], e.g., [4] > [2], Only respond with the ranking results, do not say any word or explain."
    )


def test_identifiers_in_passages_and_query_are_defused() -> None:
    """In the prompt each identifier stands once as one: at the head of its own passage."""
    paper = PaperFormat().messages("is [1] it", TEXTS)[1]["content"]
    compact = COMPACT.messages("is Passage A: it", TEXTS)[0]["content"]

    assert re.findall(r"\[\d+\](?! > )", paper) == ["[1]", "[2]", "[3]", "[2]"]  # the last one is the instruction's example
    assert re.findall(r"Passage (\S+):", compact) == ["A", "B", "AB"]


@pytest.mark.parametrize(("form", "written"), [(PaperFormat(), "[3] > [1] > [2]"), (COMPACT, " AB A B")])
def test_pattern_admits_the_form_and_nothing_else(form: PaperFormat | CompactFormat, written: str) -> None:
    """The structured-output pattern matches a full ranking and no shorter, longer or foreign one."""
    pattern = re.compile(form.pattern(3, 3))

    assert pattern.fullmatch(written)
    assert re.compile(form.pattern(3, 1)).fullmatch(written.split(" > ", maxsplit=1)[0] if " > " in written else " AB")
    for wrong in (
        written[:-4],
        f"{written} > [1]",
        f"{written} A",
        f"{written}.",
        written.replace("3", "4").replace("AB", "C"),
    ):
        assert not pattern.fullmatch(wrong)


@pytest.mark.parametrize(
    ("output", "expected", "well_formed"),
    [
        (" AB A B", (2, 0, 1), True),
        ("AB A B", (2, 0, 1), True),
        ("A A", (0, 0), True),
        ("A, B", (1,), False),
        ("The best is AB.", (), False),
        ("", (), False),
    ],
)
def test_compact_answers_are_words(output: str, expected: tuple[int, ...], well_formed: bool) -> None:
    """Identifiers count as whole words; anything else is passed over and makes the output ill-formed."""
    assert COMPACT.mentions(output) == Mentions(expected, well_formed)
