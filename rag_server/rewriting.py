"""Turns a follow-up question into a query that can be searched for by itself: by the engine, within a deadline."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import Counter

from rag_server.conversation import text_of
from rag_server.errors import RagServerError
from rag_server.protocols import Engine, Json
from rag_server.usage import note_usage

log = structlog.get_logger()

REWRITES = Counter("rag_rewrites_total", "Rewritings of questions; all but `rewritten` use the original.", ["outcome"])

# What a follow-up refers to is nearly always a turn or two ago, and the engine reads every word of it first.
MAX_HISTORY_MESSAGES = 6
MAX_MESSAGE_CHARACTERS = 400
# Whoever writes so much has said what it is about.
MAX_QUESTION_CHARACTERS = 2000
MAX_OUTPUT_TOKENS = 64
MAX_WORDS = 40
# A shorter one may well begin as an earlier message does.
MIN_REPEATED_WORDS = 4
# Of the words of a rewriting, the share that the conversation must hold: an answer brings new ones.
MIN_FAMILIAR = 0.5
# Of the words of a follow-up, the share that its rewriting must keep: small models ask the first question again.
MIN_KEPT = 1 / 3

# Short and without examples: small models repeat examples, and lose themselves in long instructions.
FOLLOW_UP = (
    "Conversation:\n{history}\n\nFollow-up question: {question}\n\n"
    "Rewrite the follow-up question so that it can be understood without the conversation: put the names in the place of "
    "words like it, he, she, they or there. Do not answer it. Write the question only."
)
SINGLE = "Question: {question}\n\nWrite a short search query for this question. Do not answer it. Write the query only."

# Some chat templates open the thoughts in the prompt, so that only their end is in the answer.
_THOUGHTS = re.compile(r"\A.*</think>", re.DOTALL)
_LABEL = re.compile(r"^[*#\s]*(?:[\w-]+ ){0,3}(?:question|query|rewriting)\s*[*]*:[*\s]*", re.IGNORECASE)
_QUOTES = "\"'`“”‘’„«»* "
# Chinese characters and kana, which are written without spaces between words.
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What to search for; `fallback` says why it is the original question, None if the engine wrote it."""

    text: str
    fallback: str | None = None


def rewriting_version() -> str:
    """Return what changes with the way in which questions are rewritten."""
    bounds = (MAX_HISTORY_MESSAGES, MAX_MESSAGE_CHARACTERS, MAX_QUESTION_CHARACTERS, MAX_OUTPUT_TOKENS)
    return f"{FOLLOW_UP}\n{SINGLE}\n{bounds}"


def has_turns(history: Sequence[Json]) -> bool:
    """Return whether anything was said before, so that a question may refer to it."""
    return bool(_turns(history))


class QueryRewriter:
    """Asks the engine; where that fails, takes too long or gives no query, the original question is searched for."""

    def __init__(self, engine: Engine, *, deadline_s: float) -> None:
        self._engine = engine
        self._deadline_s = deadline_s

    async def rewrite(self, question: str, history: Sequence[Json] = (), *, model: str | None = None) -> Rewritten:
        """Return the question as a query that needs no conversation.

        Args:
            question: As it was asked.
            history: The messages before it, of which the last few are read.
            model: The engine's model to ask; None is its default.
        """
        if len(question) > MAX_QUESTION_CHARACTERS:
            return _original(question, "long_question", f"the question has more than {MAX_QUESTION_CHARACTERS:,} characters")
        turns = _turns(history)
        try:
            async with asyncio.timeout(self._deadline_s):
                completion = await self._engine.chat(await self._body(question, turns, model))
        except TimeoutError:
            reason = f"the engine did not rewrite it within {self._deadline_s:g} s (RAG_REWRITE__DEADLINE_S)"
            return _original(question, "deadline", reason)
        except RagServerError as error:
            return _original(question, "engine_error", str(error))
        if isinstance(usage := completion.get("usage"), dict):
            note_usage(usage)
        return _checked(completion, question, [text for _, text in turns])

    async def _body(self, question: str, turns: Sequence[tuple[str, str]], model: str | None) -> Json:
        history = "\n".join(f"{role.capitalize()}: {text}" for role, text in turns)
        prompt = (FOLLOW_UP if turns else SINGLE).format(history=history, question=question)
        return {
            "model": model or await self._engine.default_model(),
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            # A rewriting repeats the words of the conversation.
            "frequency_penalty": 0,
            "max_tokens": MAX_OUTPUT_TOKENS,
        }


def _turns(history: Sequence[Json]) -> list[tuple[str, str]]:
    """Return role and text of the last messages of user and assistant, each on one line and no longer than is read."""
    said = [(str(message.get("role")), " ".join(text_of(message.get("content")).split())) for message in history]
    kept = [(role, text[:MAX_MESSAGE_CHARACTERS]) for role, text in said if role in ("user", "assistant") and text]
    return kept[-MAX_HISTORY_MESSAGES:]


def _checked(completion: Json, question: str, said: Sequence[str]) -> Rewritten:
    """Return what the engine wrote if it can be a query, else the question."""
    choice: Json = next(iter(completion.get("choices") or []), {})
    written = _query((choice.get("message") or {}).get("content"))
    words = _words(written)
    if not words:
        return _original(question, "empty", "the engine wrote no query")
    if choice.get("finish_reason") == "length" or len(words) > MAX_WORDS:
        return _original(question, "too_long", f"the engine wrote more than a query of {MAX_WORDS} words")
    if any(_repeats(words, _words(text)) for text in said):
        return _original(question, "repetition", "the engine repeated an earlier message")
    familiar = {word for text in (question, *said) for word in _words(text)}
    if sum(word in familiar for word in words) < MIN_FAMILIAR * len(words):
        return _original(question, "answer", "the engine wrote words that are not of the conversation, as if it answered")
    asked = _words(question)
    if said and sum(word in words for word in asked) < MIN_KEPT * len(asked):
        return _original(question, "other_question", "the engine asked something else")
    REWRITES.labels("rewritten").inc()
    return Rewritten(written)


def _repeats(words: Sequence[str], said: Sequence[str]) -> bool:
    return words == said or (len(words) >= MIN_REPEATED_WORDS and words == said[: len(words)])


def _query(content: object) -> str:
    """Return the first line of what was written, without thoughts, a label before it and quotes round it."""
    text = _THOUGHTS.sub("", content) if isinstance(content, str) else ""
    line = next((line for line in text.splitlines() if line.strip(_QUOTES)), "")
    return _LABEL.sub("", line.strip(_QUOTES)).strip(_QUOTES)


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _original(question: str, outcome: str, reason: str) -> Rewritten:
    REWRITES.labels(outcome).inc()
    log.info("the question is searched for as it was asked", reason=reason)
    return Rewritten(question, reason)
