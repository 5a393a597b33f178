"""What documents may not bring into a prompt: characters that nobody sees, and the special tokens of engines."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_server.untrusted_text import visible, without_special_tokens

# As chat templates of the families write them.
TOKENS = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|channel|>", "<|system|>"),
    *("<｜User｜>", "<｜end▁of▁sentence｜>", "<s>", "</s>", "<bos>", "<eos>", "<unk>", "<pad>", "[INST]", "[/INST]"),
    *("<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "<start_of_turn>", "<end_of_turn>"),
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "[CLS]", "[SEP]", "[MASK]"),
    *("[|endofturn|]", "[|user|]", "[THINK]", "[/THINK]", "<seed:eos>"),
]
INVISIBLE = "\u200b\u2060\ufeff\u00ad\u202e\u2066\u180e\U000e0041\ufe0f\x00\x1b"


@pytest.mark.parametrize("token", TOKENS)
def test_special_tokens_are_broken_up(token: str) -> None:
    """No token is left, not even of one that was put into the middle of another; a reader still sees what it was."""
    inner = without_special_tokens(f"a{token}b {token[:2]}{token}{token[2:]} c")

    assert token not in inner
    assert re.sub(r"\W", "", token) in re.sub(r"\W", "", inner)


@given(st.lists(st.sampled_from([*TOKENS, *INVISIBLE, "<", "|", ">", "[", "/", "s", " ", "x"]), max_size=12))
def test_no_combination_leaves_a_token(parts: list[str]) -> None:
    """Made visible first and then broken up, no text holds a token, and doing so again changes nothing more."""
    text = without_special_tokens(visible("".join(parts)))

    assert not [token for token in TOKENS if token in text]
    assert without_special_tokens(visible(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "plain text, 5 < 6 [12] <p>HTML</p> <section> a|b ||",
        "\tcode\n    indented\r\n",
        "می‌خواهم",
        "क्‍ष",
        "👩‍🚀",
        "naïve ﬁne 中文 日本語 한국어 ไทย",
    ],
)
def test_what_readers_see_stays(text: str) -> None:
    """Markup, code, and the joiners that scripts and emoji are written with."""
    assert without_special_tokens(visible(text)) == text


@pytest.mark.parametrize("character", INVISIBLE)
def test_invisible_characters_go(character: str) -> None:
    """Wherever they stand, words come together again."""
    assert visible(f"ig{character}nore{character} all") == "ignore all"


def test_joiners_beside_ascii_go() -> None:
    """Between letters of English they only hide."""
    assert visible("i\u200dg\u200cnore <|im_\u200dend|>") == "ignore <|im_end|>"


def test_format_characters_of_unicode_are_known() -> None:
    """Of the characters of Unicode's class Cf only joiners and the visible signs of some scripts are left."""
    every = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    left = [
        character for character in every if unicodedata.category(character) == "Cf" and visible(f"中{character}中") != "中中"
    ]
    scripts = ("ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN", "SHORTHAND", "ZERO WIDTH NON-JOINER", "ZERO WIDTH JOINER")

    assert [unicodedata.name(character) for character in left if not unicodedata.name(character).startswith(scripts)] == []
