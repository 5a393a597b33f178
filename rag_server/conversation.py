"""Reads and changes the text of messages, whose content is a string or a list of parts."""

from collections.abc import Mapping, Sequence
from typing import Any


def text_of(content: object) -> str:
    """Return the text of a message's content; its text parts are joined by line ends."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(text for text in texts if isinstance(text, str))
    return ""


def with_text(content: object, text: str) -> object:
    """Return the content with its text replaced and every other part (images, files) kept."""
    if not isinstance(content, list):
        return text
    others = [part for part in content if not (isinstance(part, dict) and part.get("type") == "text")]
    return [{"type": "text", "text": text}, *others]


def question_place(messages: Sequence[Mapping[str, Any]]) -> int | None:
    """Return where the question stands, which is the last message of the user; None without one."""
    return max((place for place, message in enumerate(messages) if message.get("role") == "user"), default=None)
