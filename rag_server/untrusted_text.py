"""Makes text of documents harmless inside a prompt: without what a reader cannot see, and without special tokens of engines."""

import re

# Zero-width characters, marks that turn the direction of writing, fillers, tags, and selectors of variants, which hide whole
# sentences; control characters but for tab and line ends.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Persian, the scripts of India and emoji are written with joiners between their characters; nothing is next to ASCII.
_JOINER = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f])")

# ChatML, Llama 3, Phi and gpt-oss write <|im_end|>, DeepSeek the same with a wide bar, EXAONE [|endofturn|].
_BAR_TOKEN = re.compile("([<\\[])[|\uff5c]")
# Mistral, Llama 2, Gemma, Seed, BERT and T5 use words in brackets.
_BRACKET_TOKEN = re.compile(
    r"([\[<])(?=(?:/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|CLS|SEP|PAD|MASK|UNK)\]"
    r"|/?(?:s|bos|eos|unk|pad|cls|sep|mask|think|tool_call|tool_response|seed:\w+|(?:start|end)_of_(?:turn|image|text))>"
    r"|</?SYS>>))",
    re.IGNORECASE,
)


def visible(text: str) -> str:
    """Return the text without the characters that a reader cannot see, among which orders can hide."""
    return _JOINER.sub("", _INVISIBLE.sub("", text))


def without_special_tokens(text: str) -> str:
    """Return the text with special tokens broken up: <|im_end|> would end a turn of the prompt, <|embed_token|> a passage.

    vLLM removes those that mark a passage, but only once: of one put into the middle of another, the other is left.
    """
    return _BRACKET_TOKEN.sub(r"\1 ", _BAR_TOKEN.sub("\\1\xa6", text))
