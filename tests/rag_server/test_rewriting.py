"""Rewriting of follow-up questions: what the engine is asked, what is taken for a query, and what is done without one."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from rag_server import rewriting
from rag_server.config import Settings, load_settings
from rag_server.engines.openai_http import OpenAIHttpEngine
from rag_server.factory import default_options
from rag_server.protocols import Json
from rag_server.rewriting import MAX_HISTORY_MESSAGES, MAX_MESSAGE_CHARACTERS, QueryRewriter
from tests.conftest import running_server

HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who wrote the Principia Mathematica of 1910?"},
    {"role": "assistant", "content": "Bertrand Russell and Alfred North Whitehead wrote it [1]."},
]
QUESTION = "Where was he born?"
STANDALONE = "Where was Alfred North Whitehead born?"
StartEngine = Callable[..., AbstractContextManager[str]]


class Says:
    """An engine that says what it is told to, and keeps what it was asked."""

    def __init__(self, content: object, finish_reason: str = "stop") -> None:
        self.asked: list[Json] = []
        self._choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}

    async def default_model(self) -> str:
        return "m"

    async def chat(self, body: Json) -> Json:
        self.asked.append(body)
        return {"choices": [self._choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


async def rewritten(content: object, question: str = QUESTION, history: list[Json] = HISTORY, **said: Any) -> tuple[str, bool]:
    """What is searched for, and whether it is the question for want of a query."""
    found = await QueryRewriter(Says(content, **said), deadline_s=60).rewrite(question, history)
    return found.text, found.fallback is not None


@pytest.mark.parametrize(
    "written",
    [
        STANDALONE,
        f'"{STANDALONE}"',
        f"Standalone question: {STANDALONE}",
        f"**Rewritten follow-up question:** {STANDALONE}",
        f"Query: “{STANDALONE}”\n\nThis question names the person.",
        f"<think>\nHe is Whitehead.\n</think>\n\n{STANDALONE}",
        # Of templates that open the thoughts in the prompt.
        f"The user asks where he was born, which is Whitehead.\n</think>\n{STANDALONE}",
    ],
)
async def test_query_is_read_out_of_what_the_engine_wrote(written: str) -> None:
    """Labels, quotes, thoughts and explanations round the query are no part of it."""
    assert await rewritten(written) == (STANDALONE, False)


@pytest.mark.parametrize(
    ("written", "finish_reason"),
    [
        ("", "stop"),
        (None, "stop"),
        (["parts"], "stop"),
        ("?!", "stop"),
        # An answer: words that nobody said.
        ("In Ramsgate, a seaside town in Kent, on 15 February 1861.", "stop"),
        # What was said before, whole or its beginning.
        ("Who wrote the Principia Mathematica of 1910?", "stop"),
        ("Bertrand Russell and Alfred North Whitehead wrote it", "stop"),
        # Another question of the same words.
        ("What did Alfred North Whitehead of Principia Mathematica write?", "stop"),
        ("where he was born " * 11, "stop"),
        (STANDALONE, "length"),
        ("<think> Where was he born? He is", "length"),
    ],
)
async def test_what_is_no_query_is_not_searched_for(written: object, finish_reason: str) -> None:
    """Nothing, an answer, a repetition, too much, or something cut off: the question itself is used, and why is told."""
    before = sum(value for outcome, value in outcomes().items() if outcome != "rewritten")

    assert await rewritten(written, finish_reason=finish_reason) == (QUESTION, True)
    assert sum(value for outcome, value in outcomes().items() if outcome != "rewritten") == before + 1


def outcomes() -> dict[str, float]:
    return {
        sample.labels["outcome"]: sample.value
        for metric in rewriting.REWRITES.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


async def test_scripts_without_spaces_are_compared_by_character() -> None:
    """A Chinese query of the conversation's characters is taken, a Chinese answer of others is not."""
    history = [{"role": "user", "content": "谁写了数学原理?"}, {"role": "assistant", "content": "怀特海写了它。"}]

    assert await rewritten("怀特海在哪里出生?", "他在哪里出生?", history) == ("怀特海在哪里出生?", False)
    assert await rewritten("英国肯特郡拉姆斯盖特镇", "他在哪里出生?", history) == ("他在哪里出生?", True)


async def test_engine_reads_the_last_turns_only() -> None:
    """Of a long conversation the last messages of user and assistant are sent, each cut; greedily, for a short output."""
    engine = Says("q")
    history = [{"role": role, "content": f"{role}{number} " + "x" * 5000} for number in range(50) for role in ("user", "tool")]
    history.append({"role": "assistant", "content": [{"type": "text", "text": "parts"}, {"type": "image_url"}]})
    await QueryRewriter(engine, deadline_s=60).rewrite(QUESTION, history, model="named")

    (body,) = engine.asked
    (message,) = body["messages"]
    said = [line for line in message["content"].splitlines() if line.startswith(("User: ", "Assistant: "))]
    assert [line.split()[1] for line in said] == [f"user{n}" for n in range(45, 50)] + ["parts"]
    assert len(said) == MAX_HISTORY_MESSAGES
    assert max(map(len, said)) <= MAX_MESSAGE_CHARACTERS + len("Assistant: ")
    assert "tool" not in message["content"]
    assert QUESTION in message["content"]
    assert (body["model"], body["temperature"], body["max_tokens"] <= 64) == ("named", 0, True)


async def test_question_alone_becomes_a_query() -> None:
    """Without a conversation the engine is asked for a query; a page of text is searched for as it is."""
    engine = Says("Whitehead birthplace")
    rewriter = QueryRewriter(engine, deadline_s=60)
    found = await rewriter.rewrite("Could you please tell me Whitehead's birthplace?")
    long = await rewriter.rewrite("word " * 1000)

    assert (found.text, found.fallback) == ("Whitehead birthplace", None)
    assert "Conversation" not in engine.asked[0]["messages"][0]["content"]
    assert len(engine.asked) == 1
    assert long.fallback is not None


async def test_slow_engine_is_not_waited_for(scripted_engine: StartEngine) -> None:
    """After the deadline the question is searched for, the reason names the setting, and the engine's work has ended."""
    with scripted_engine(answer=STANDALONE, time_to_first_token_s=30) as url:
        engine = OpenAIHttpEngine(lambda: url)
        started = time.perf_counter()
        found = await QueryRewriter(engine, deadline_s=0.2).rewrite(QUESTION, HISTORY)
        took = time.perf_counter() - started
        await engine.aclose()
        running = 1
        async with httpx.AsyncClient(base_url=url.removesuffix("/v1"), trust_env=False) as client:
            while running:
                running = (await client.get("/scripted/stats")).json()["running"]

    assert found.text == QUESTION
    assert "RAG_REWRITE__DEADLINE_S" in (found.fallback or "")
    assert took < 15


async def test_engine_that_fails_costs_no_answer(scripted_engine: StartEngine) -> None:
    """A refusal is told as the reason."""
    with scripted_engine(context_length=4) as url:
        engine = OpenAIHttpEngine(lambda: url)
        found = await QueryRewriter(engine, deadline_s=60).rewrite(QUESTION, HISTORY)
        await engine.aclose()

    assert found.text == QUESTION
    assert "400" in (found.fallback or "")


def test_packaged_model_does_not_rewrite_unless_told_to() -> None:
    """The default depends on the engine; the setting and the request decide otherwise."""
    packaged, other = load_settings({}), load_settings({"RAG_ENGINE__BASE_URL": "http://127.0.0.1:1/v1"})
    told = load_settings({"RAG_REWRITE__KIND": "engine"})

    assert [default_options(settings).rewrite for settings in (packaged, other, told)] == [False, True, True]


DOCS = {
    "whitehead.md": "# Whitehead\n\nAlfred North Whitehead was born in Ramsgate.",
    "russell.md": "# Russell\n\nBertrand Russell was born in Trellech.",
    "noise.md": "# Noise\n\nWhere he was, he was not.",
}


def ask(client: httpx.Client, **rag: object) -> Json:
    body = {"model": "rag/docs", "messages": [*HISTORY, {"role": "user", "content": QUESTION}]}
    answer = client.post("/v1/chat/completions", json={**body, "rag": {"retrieve": "lexical", **rag}})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def test_rewritten_question_is_searched_for_and_the_original_is_asked(
    settings: Settings, scripted_engine: StartEngine, index: Callable[..., None]
) -> None:
    """The search finds what only the rewriting names; the prompt holds the question as it was asked."""
    index("docs", DOCS)
    with scripted_engine(answer=STANDALONE) as url, running_server(settings, engine=url) as client:
        on = ask(client, num_passages=1)
        off = ask(client, num_passages=1, rewrite=False)
        body = {"model": "rag/docs", "messages": [{"role": "user", "content": QUESTION}], "rag": {"rewrite": True}}
        first = client.post("/v1/chat/completions", json=body).json()
        streamed = client.post(
            "/v1/chat/completions",
            json={"model": "rag/docs", "messages": [*HISTORY, {"role": "user", "content": QUESTION}], "stream": True},
        )

    assert [passage["filename"] for passage in on["rag"]["passages"]] == ["whitehead.md"]
    assert [passage["filename"] for passage in off["rag"]["passages"]] == ["noise.md"]
    assert on["rag"]["query"] == {"original": QUESTION, "searched": STANDALONE, "rewritten": True, "fallback": None}
    assert off["rag"]["query"] == {"original": QUESTION, "searched": QUESTION, "rewritten": False, "fallback": None}
    assert first["rag"]["query"]["rewritten"] is False
    assert "rewrite" in on["rag"]["timings_ms"]
    assert "rewrite" not in off["rag"]["timings_ms"]
    assert "rewrite" not in first["rag"]["timings_ms"]
    begin = json.loads(streamed.text.split("\n\n")[0].removeprefix("data: "))
    assert begin["rag"]["query"]["searched"] == STANDALONE


def test_answer_says_when_the_question_was_not_rewritten(
    settings: Settings, scripted_engine: StartEngine, index: Callable[..., None]
) -> None:
    """An engine that answers instead of rewriting is found out."""
    index("docs", DOCS)
    with scripted_engine(answer="Presumably in Cambridge, somewhere.") as url, running_server(settings, engine=url) as client:
        query = ask(client)["rag"]["query"]

    assert (query["searched"], query["rewritten"]) == (QUESTION, False)
    assert "as if it answered" in query["fallback"]
