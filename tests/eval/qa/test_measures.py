"""Every measure of an answer by a worked example."""

import pytest

from eval.qa.measures import (
    citation_precision,
    citation_recall,
    exact_match,
    is_same_passage,
    normalise,
    refuses,
    substring_match,
    token_f1,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        # SQuAD's own: case, punctuation (a hyphen joins), articles, white space.
        ("The  Panthers' co-op, in the U.S.", "panthers coop in us"),
        ("an Apple a day", "apple day"),
        # Not articles, though they hold one.
        ("theatre another", "theatre another"),
        # German and Arabic punctuation; German articles stay.
        ("„Die Straße“", "die strasse"),
        ("نعم؟", "نعم"),
        # Each Chinese character and kana is a word, spaces or not; full-width digits are digits.
        ("死亡人数：１２人。", "死 亡 人 数 12 人"),
        ("12 人", "12 人"),
        ("カナ", "カ ナ"),
        # A combining accent is the accented letter.
        ("Rontge\u0301n", "rontgén"),
        ("The", "the"),
        ("?!", ""),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    """Answers are compared without case, punctuation, English articles and white space, in any script."""
    assert normalise(text) == normal


def test_exact_match_is_the_whole_answer() -> None:
    """One right answer is enough, a mark is no part of the answer, a longer answer is no match."""
    assert exact_match("the Tampa, Florida! [2]", ["Miami", "Tampa Florida"]) == 1.0
    assert exact_match("In Tampa, Florida", ["Tampa, Florida"]) == 0.0
    assert exact_match("", ["?"]) == 0.0


def test_token_f1_is_the_worked_example() -> None:
    """F1 of the words, as often as each is there, best over the right answers."""
    # Five words were said, "in tampa florida in 2021"; two of them are the right answer's two.
    precision, recall = 2 / 5, 2 / 2

    f1 = token_f1("In Tampa, Florida, in 2021 [1]", ["Miami", "Tampa, Florida"])

    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))
    # A word said twice counts once where the right answer has it once: p = 1/2, r = 1/1.
    assert token_f1("no no", ["no"]) == pytest.approx(2 / 3)
    assert token_f1("", ["no"]) == 0.0
    assert token_f1("anything", []) == 0.0


def test_token_f1_counts_chinese_characters() -> None:
    """Where words are not separated, each character is a word: three of four are shared, and all of three."""
    assert token_f1("黑豹队赢", ["黑豹队"]) == pytest.approx(2 * 3 / (4 + 3))


def test_substring_match_finds_the_answer_inside() -> None:
    """The right answer may stand anywhere, after normalisation; nothing is found in nothing."""
    assert substring_match("It was the Denver-Broncos, I think.", ["Panthers", "denver broncos"]) == 0.0
    assert substring_match("It was the Denver Broncos, I think.", ["Panthers", "denver broncos"]) == 1.0
    assert substring_match("死亡12人", ["12 人"]) == 1.0
    assert substring_match("anything", ["?"]) == 0.0
    assert substring_match("anything", []) == 0.0


def test_mark_is_no_part_of_an_answer() -> None:
    """The number of a passage is not taken for an answer."""
    assert substring_match("Nobody knows [12]", ["12"]) == 0.0


def test_citation_precision_counts_citations() -> None:
    """Of three citations two are of gold passages, one of them cited twice; who cites nothing has cited nothing rightly."""
    assert citation_precision(["gold one", "gold one", "other"], ["gold one", "gold two"]) == pytest.approx(2 / 3)
    assert citation_precision([], ["gold one"]) == 0.0


def test_citation_recall_counts_gold_passages() -> None:
    """Of two gold passages one is cited, however often."""
    assert citation_recall(["gold one", "gold one", "other"], ["gold one", "gold two"]) == pytest.approx(1 / 2)
    assert citation_recall([], ["gold one"]) == 0.0


def test_passage_is_the_same_when_cut_otherwise() -> None:
    """A chunk of a gold passage is that passage, whatever its white space; nothing is no passage."""
    assert is_same_passage("the second\nsentence.", "The first. Then the second  sentence.")
    assert is_same_passage("Before. The passage. After.", "The passage.")
    assert not is_same_passage("another", "The passage.")
    assert not is_same_passage("", "The passage.")


@pytest.mark.parametrize(
    "answer",
    [
        "The passages do not say who won the match.",
        "The given passages don't mention the year.",
        "I'm sorry, but the text cannot answer that question.",
        "None of the passages mentions him.",
        "The document contains no answer.",
        "The name of the king is not mentioned in the passages.",
        "This isn't stated in any passage [1].",
        "There is not enough information to answer.",
        "There is no mention of a king.",
        "The year cannot be determined.",
        "I am unable to find the answer.",
        "I don’t know.",
        "Die Passagen enthalten die Antwort nicht.",
        "Dazu findet sich in den Texten keine Angabe.",
        "文中没有提到死亡人数。",
        "根据文章无法回答这个问题。",
    ],
)
def test_refusals_are_told(answer: str) -> None:
    """An answer that says that the passages do not hold it is a refusal."""
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Wilhelm Conrad Röntgen [1].",
        "The passages say that it was Röntgen.",
        "He did not win the prize.",
        "According to the text, the prize was given in 1901.",
        "No, it is in Florida.",
        "The document was found in the desert.",
        "Er wurde nicht gewählt.",
        "死亡12人。",
    ],
)
def test_answers_are_no_refusals(answer: str) -> None:
    """A negation, or a mention of the passages, is no refusal."""
    assert not refuses(answer)
