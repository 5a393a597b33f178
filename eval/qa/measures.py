"""Measures of one answer: how near it is to the right ones, what it cites and quotes, and whether it refuses."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

from rag_server.citations import MARK

ARTICLES = {"a", "an", "the"}
# Chinese characters and kana, which are written without spaces between words.
CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")

_SOURCE = r"(?:passages?|documents?|texts?|sources?|context|excerpts?)"
_HOLD = (
    r"(?:contain|hold|mention|say|state|provide|include|specify|give|answer|address|tell|discuss|describe|indicate|list|explain"
    r"|offer|cover|reveal)"
)
_HELD = (
    r"(?:contained|held|mentioned|said|stated|provided|included|specified|given|answered|addressed|discussed|described|indicated"
    r"|listed|explained|covered|found|appear)"
)
_FIND = r"(?:answer|determine|find|found|tell)"
_NOT = r"(?:not|never|n[’']t)"
_GERMAN_SOURCE = r"(?:passagen?|abschnitte?n?|texte?n?|dokumente?n?|quellen?)"
_GERMAN_NOT = r"(?:nicht|keine?n?)"


def _near(*words: str, apart: int = 30) -> str:
    """Return a pattern of words in this order in one sentence, at most so many characters between two of them."""
    return r"\b" + rf"\b[^.!?\n]{{0,{apart}}}?\b".join(words) + r"\b"


REFUSALS = re.compile(
    "|".join(
        (
            _near(_SOURCE, rf"(?:do|does|did|can)(?:\s?{_NOT}|not)", _HOLD),
            _near(_SOURCE, r"(?:contain|hold|provide|include|give|offer)s? no"),
            _near(r"(?:none|no|neither)", _SOURCE, rf"{_HOLD}s?", apart=20),
            _near(rf"(?:\w+)?{_NOT}", _HELD, r"(?:in|by)", _SOURCE),
            r"\b(?:no|not enough|insufficient) (?:\w+ )?(?:information|answer|mention|details?)\b",
            rf"\b(?:can|could) ?{_NOT} (?:be )?{_FIND}",
            rf"\b(?:(?:un|not )able|(?:im|not )possible) to {_FIND}",
            r"\b(?:i|we) (?:do not|don[’']t) know\b",
            _near(_GERMAN_SOURCE, _GERMAN_NOT, apart=60),
            _near(_GERMAN_NOT, _GERMAN_SOURCE, apart=60),
            r"\bkeine (?:angaben?|informationen?|antwort)\b",
            r"(?:没有|没|未|并未|并没有)(?:提到|提及|说明|提供|给出|包含|回答)|无法(?:回答|确定|得知)|不(?:包含|知道)",
            r"没有(?:相关|足够)?的?(?:信息|答案)",
        )
    ),
    re.IGNORECASE,
)


def normalise(text: str) -> str:
    """Return the text in the form in which answers are compared, as words with one space between them.

    SQuAD's normalisation (Rajpurkar et al. 2016, evaluate-v1.1.py): lower case, no punctuation, no "a", "an", "the", white
    space collapsed. For other languages, as in MLQA (Lewis et al. 2020): punctuation is Unicode's and each Chinese character
    or kana is a word. Characters are first brought to one form (NFKC), so that a full-width digit is a digit. Articles of
    other languages stay; languages that write without spaces in other scripts (Thai) stay in one piece. A text of nothing
    but articles keeps them, since it would be found in every answer.
    """
    kept = "".join(character for character in unicodedata.normalize("NFKC", text).casefold() if not _is_punctuation(character))
    words = kept.split()
    return " ".join(CJK.sub(r" \1 ", " ".join(word for word in words if word not in ARTICLES) or " ".join(words)).split())


def exact_match(answer: str, answers: Sequence[str]) -> float:
    """Return 1 if the answer is one of the right ones, normalised, else 0."""
    given = normalise(without_marks(answer))
    return float(bool(given) and any(given == normalise(right) for right in answers))


def token_f1(answer: str, answers: Sequence[str]) -> float:
    """Return the best F1 of the answer's words over the right answers, normalised (SQuAD's).

    F1 = 2pr / (p + r), p the share of the answer's words that the right one has (each as often), r the reverse.
    """
    given = Counter(normalise(without_marks(answer)).split())
    return max((_f1(given, Counter(normalise(right).split())) for right in answers), default=0.0)


def substring_match(answer: str, answers: Sequence[str]) -> float:
    """Return 1 if one of the right answers stands in the answer, normalised, else 0.

    The accuracy of Liu et al., Lost in the Middle (arXiv 2307.03172); they read the first line of the answer, this all of it.
    As there, a part of a word counts: "30" is found in "1930". A right answer of nothing but punctuation is never found.
    """
    given = normalise(without_marks(answer))
    return float(any(right in given for right in map(normalise, answers) if right))


def citation_precision(cited: Sequence[str], gold: Sequence[str]) -> float:
    """Return the share of an answer's citations whose passage is a gold one; 0 for an answer that cites nothing.

    Args:
        cited: The text of the passage of each citation, again for each citation of it.
        gold: The texts of the question's gold passages.
    """
    right = sum(any(is_same_passage(text, passage) for passage in gold) for text in cited)
    return right / len(cited) if cited else 0.0


def citation_recall(cited: Sequence[str], gold: Sequence[str]) -> float:
    """Return the share of the question's gold passages that the answer cites; arguments as for `citation_precision`.

    Raises:
        ZeroDivisionError: The question has no gold passage, so that there is nothing to cite.
    """
    return sum(any(is_same_passage(text, passage) for text in cited) for passage in gold) / len(gold)


def is_same_passage(one: str, other: str) -> bool:
    """Return whether one text is a stretch of the other, white space aside, since a server cuts passages in its own way."""
    one, other = " ".join(one.split()), " ".join(other.split())
    return bool(one) and bool(other) and (one in other or other in one)


def refuses(answer: str) -> bool:
    """Return whether the answer says that the passages do not hold it.

    A list of phrases ("the passages do not say", "no information", "cannot be determined"), in English, German and Chinese,
    found anywhere in the answer. It misses refusals in other words or languages, takes an answer that refuses a part for a
    refusal, and an empty answer for none.
    """
    return REFUSALS.search(answer) is not None


def without_marks(answer: str) -> str:
    """Return the answer without its citation marks, which are no part of what it says."""
    return MARK.sub(" ", answer)


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _f1(given: Counter[str], right: Counter[str]) -> float:
    shared = (given & right).total()
    return 2 * shared / (given.total() + right.total()) if shared else 0.0
