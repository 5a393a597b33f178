"""Remembered answers: which ones, as what they come back, and what is done with a cache that lies."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_server.cache.keys import cache_key
from rag_server.observability import CACHE_LOOKUPS
from rag_server.pipeline import RagOptions, RagRequest
from rag_server.plain_answer import PlainAnswer, chunks_of, completion_of, has_one_answer
from rag_server.protocols import Embedder, Json
from rag_server.similar_questions import MAX_NEAREST, MAX_QUESTIONS, nearest, record_type, unpacked, with_question
from rag_server.types import Access
from tests.contracts.cache_world import Asked, Asking, World, stores_of
from tests.live import Live, live_server

QUESTION = "How many hours a day do cats sleep?"
BODY = {"model": "rag/docs", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class Memory(dict[str, bytes]):
    """A cache in a dictionary."""

    async def get(self, key: str) -> bytes | None:  # type: ignore[override]
        return dict.get(self, key)

    async def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self[key] = value


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    cache = {"answers": "semantic", "semantic_threshold": 0.97}
    with live_server(tmp_path_factory.mktemp("answers") / "data", embedder, cache=cache) as live:
        live.create("docs")
        for name, text in {"cats.md": "Cats sleep for sixteen hours a day.", "dogs.md": "Dogs sleep for ten."}.items():
            live.attach("docs", live.upload(name, text))
        live.index_waiting()
        while live.services.cache_child.url is None:
            time.sleep(0.01)
        yield live


def ask(live: Live, client: httpx.Client | None = None, **fields: Any) -> Json:
    response = (client or live.client).post("/v1/chat/completions", json={**BODY, **fields})
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


def stream(live: Live, **fields: Any) -> list[Json]:
    response = live.client.post("/v1/chat/completions", json={**BODY, **fields, "stream": True})
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text_of(chunks: list[Json]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def rag_of(chunks: list[Json]) -> Json:
    return {name: value for chunk in chunks for name, value in chunk.get("rag", {}).items()}


def essence(rag: Json) -> Json:
    return {name: value for name, value in rag.items() if name not in ("timings_ms", "cached")}


def test_same_request_is_answered_once(live: Live) -> None:
    """The second time the engine is not counted on: same text, passages and citations, marked, under an id of its own."""
    first, before = ask(live, seed=1), len(live.engine.sent)
    again = ask(live, seed=1)
    asked = [body for body in live.engine.sent[before:] if b"Passages:" in body and b"temperature" in body]

    assert asked == []
    assert (first["rag"]["cached"], again["rag"]["cached"]) == (None, "exact")
    assert essence(again["rag"]) == essence(first["rag"])
    assert again["choices"][0]["message"] == first["choices"][0]["message"]
    assert again["usage"] == first["usage"]
    assert again["model"] == "rag/docs"
    assert again["id"] != first["id"]
    assert "generate" not in again["rag"]["timings_ms"]


def test_whole_and_streamed_are_one_answer(live: Live) -> None:
    """What was remembered whole is streamed in chunks, with the usage where it is asked for; and the reverse."""
    whole = ask(live, seed=2)
    plain, counted = stream(live, seed=2), stream(live, seed=2, stream_options={"include_usage": True})
    new = stream(live, seed=3, stream_options={"include_usage": True})
    after = ask(live, seed=3)

    for chunks in (plain, counted):
        assert rag_of(chunks)["cached"] == "exact"
        assert text_of(chunks) == whole["choices"][0]["message"]["content"]
        assert essence(rag_of(chunks)) == essence(whole["rag"])
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in plain)
    assert counted[-1]["usage"] == whole["usage"]
    assert after["rag"]["cached"] == "exact"
    assert after["usage"] == new[-1]["usage"]
    assert after["choices"][0]["message"]["content"] == text_of(new)


def test_answer_without_usage_serves_those_who_do_not_ask_for_it(live: Live) -> None:
    """A stream that was not asked for its usage cannot answer a whole request, which tells it."""
    stream(live, seed=4)

    assert rag_of(stream(live, seed=4))["cached"] == "exact"
    whole = ask(live, seed=4)
    assert whole["rag"]["cached"] is None
    assert whole["usage"]["total_tokens"] > 0
    assert ask(live, seed=4)["rag"]["cached"] == "exact"


def test_addresses_are_those_of_the_client(live: Live) -> None:
    """Nobody is given the name under which somebody else reached the server."""
    ask(live, seed=5)
    url = live.url.replace("127.0.0.1", "localhost")
    response = httpx.post(f"{url}/v1/chat/completions", json={**BODY, "seed": 5}, trust_env=False, timeout=30).json()

    assert response["rag"]["cached"] == "exact"
    assert "127.0.0.1" not in json.dumps(response)
    assert response["rag"]["passages"][0]["url"].startswith(f"{url}/v1/passages/")


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": None},
        {"temperature": 0.1},
        {"n": 2},
        {"tools": [TOOL]},
        {"logprobs": True},
        {"max_tokens": 2},
    ],
)
def test_what_may_come_out_otherwise_is_not_remembered(live: Live, fields: Json) -> None:
    """Sampling, several answers, tools, more than text, and what was cut."""
    told = [ask(live, **{"seed": 6, **fields})["rag"]["cached"] for _ in range(2)]

    assert told == [None, None]


def test_answer_of_a_stage_that_failed_is_not_remembered(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first stage's order stands in for a reranker's, or the question for its rewriting, better may come."""
    ask(live)
    monkeypatch.setattr(live.services._pipeline._rerankers["full_ranking"], "_deadline_s", 0.0)
    history = [{"role": "user", "content": "Which animals?"}, {"role": "assistant", "content": "Ants."}]
    reranked = [ask(live, seed=10, rag={"rerank": "full_ranking"})["rag"] for _ in range(2)]
    rewritten = [ask(live, seed=11, messages=[*history, *BODY["messages"]])["rag"] for _ in range(2)]

    for told in (reranked, rewritten):
        assert [rag["cached"] for rag in told] == [None, None]
    assert reranked[0]["rerank"]["fallback"] is not None
    assert rewritten[0]["query"]["fallback"] is not None


def test_question_in_other_words_gets_the_answer_of_its_like(live: Live) -> None:
    """As an option: the same words in another spelling are near enough, another animal is not."""
    first = ask(live, seed=7)
    like = ask(live, seed=7, messages=[{"role": "user", "content": "How many hours per day do cats sleep?"}])
    other = ask(live, seed=7, messages=[{"role": "user", "content": "How many hours a day do dogs sleep?"}])
    elsewhere = ask(live, seed=8, messages=[{"role": "user", "content": "How many hours per day do cats sleep?"}])

    assert like["rag"]["cached"] == "semantic"
    assert like["choices"][0]["message"]["content"] == first["choices"][0]["message"]["content"]
    assert like["rag"]["query"]["original"] == "How many hours per day do cats sleep?"
    assert like["rag"]["query"]["searched"] == QUESTION
    assert other["rag"]["cached"] is None
    assert elsewhere["rag"]["cached"] is None


def test_without_its_server_everything_is_answered(tmp_path: Path, embedder: Embedder) -> None:
    """A Redis that is not there is a miss."""
    with live_server(tmp_path / "data", embedder, redis={"url": "redis://127.0.0.1:1"}) as live:
        live.create("docs")
        live.attach("docs", live.upload("cats.md", "Cats sleep for sixteen hours a day."))
        live.index_waiting()
        told = [ask(live) for _ in range(2)]

    assert [answer["rag"]["cached"] for answer in told] == [None, None]
    assert told[0]["choices"][0]["message"]["content"] == told[1]["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0, "n": 1, "tools": [], "seed": 3, "stop": ["x"]}, True),
        ({"temperature": 0, "stream_options": {"include_usage": True, "include_obfuscation": False}}, True),
        ({}, False),
        ({"temperature": False}, False),
        ({"temperature": "0"}, False),
        ({"temperature": 0, "n": 2}, False),
        ({"temperature": 0, "tools": [TOOL]}, False),
        ({"temperature": 0, "stream_options": {"continuous_usage_stats": True}}, False),
    ],
)
def test_one_answer_takes_temperature_0(body: Json, expected: bool) -> None:
    """Said by the request itself: what an engine does by default may change."""
    assert has_one_answer(body) is expected


def finished(**message: object) -> Json:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}], "usage": {"a": 1}}


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([finished(content="yes", refusal=None, tool_calls=[])], "yes"),
        (list(chunks_of("a long answer " * 30, {"total_tokens": 3}, "m")), "a long answer " * 30),
        ([completion_of("whole", None, "m")], "whole"),
        (list(chunks_of("cut", None, "m"))[:-1], None),
        ([finished(content="yes", reasoning="I think")], None),
        ([finished(content=None, tool_calls=[{"id": "1"}])], None),
        ([finished(content="")], None),
        ([{"choices": [{"index": 0, "message": {"content": "no end"}, "finish_reason": "length"}]}], None),
        ([{"choices": [{"index": 1, "message": {"content": "second"}, "finish_reason": "stop"}]}], None),
        ([], None),
    ],
)
def test_only_a_finished_plain_text_is_kept(parts: list[Json], content: str | None) -> None:
    """Chunks and wholes are joined alike; with anything else in them, or without their end, they are no answer."""
    joined = PlainAnswer()
    for part in parts:
        joined.add(part)

    assert joined.content == content


async def test_stream_that_nobody_reads_to_its_end_is_not_kept(tmp_path: Path) -> None:
    """A client that goes away leaves no part of an answer behind."""
    memory = Memory()
    with stores_of(tmp_path) as (both, store, indexes):
        asking = Asking(both, store, indexes, memory, cache_key)
        world = World(store, indexes, asking)
        pipeline = asking._pipelines[0, True]
        options = RagOptions("lexical", 4, "none", "none", 4)
        body = {"messages": [{"role": "user", "content": "mast?"}], "temperature": 0, "stream": True}
        request = RagRequest(body, "rag/x", None, (world.stores[0],), options, str, Access("a"))
        async with aclosing(pipeline.stream(await pipeline.prepare(request))) as chunks:
            await anext(chunks)
        left = [key for key in memory if key.startswith("answer:")]
        async with aclosing(pipeline.stream(await pipeline.prepare(request))) as chunks:
            async for _ in chunks:
                pass

    assert left == []
    assert [key for key in memory if key.startswith("answer:")] != []


NO_VALUES = [b"", b"\xff\x00", b"null", b"7", b"{}", b"[[1]]", b'[["1", 2]]', b"[[1e400, 1]]", b"[[1, NaN]]", b"[" * 9999]
NO_PARTS = [None, -1, "x", [], {}, 10**30, [[7, None]], [{"chunk_id": 2**70, "score": 1.0}], [{"chunk_id": 1}]]


def garbled(value: bytes, generator: random.Random) -> bytes:
    """Something else: other bytes, JSON of another shape, or the same with one part replaced."""
    if generator.random() < 0.3:
        return generator.choice([*NO_VALUES, generator.randbytes(40), value[:-1]])
    wrong = generator.choice(NO_PARTS)
    try:
        known = json.loads(value)
    except ValueError:
        return value[4:] + b"\xff\xff\xff\xff"
    if isinstance(known, list):
        return json.dumps([*known, [wrong, 1.0]]).encode()
    name = generator.choice(["usage_x", "hits", "num_dropped", "report", "rewritten"])
    return json.dumps({**known, name: [wrong]}).encode()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[World, Memory]]]:
    """For each kind of cache a world, and what it remembers."""
    with stores_of(tmp_path_factory.mktemp("garbled")) as (both, store, indexes):
        made = {}
        for kind in ("exact", "semantic"):
            of_kind = [one.model_copy(update={"cache": one.cache.model_copy(update={"answers": kind})}) for one in both]
            memory = Memory()
            made[kind] = (World(store, indexes, Asking(of_kind, store, indexes, memory, cache_key)), memory)
        yield made


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["exact", "semantic"]), retrieve=st.sampled_from(["lexical", "dense"]))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_garbled_values_are_misses(worlds: dict[str, tuple[World, Memory]], seed: int, kind: str, retrieve: str) -> None:
    """Whatever stands in the cache where a value should be, the answer is that of a server without one."""
    world, memory = worlds[kind]
    memory.clear()
    generator = random.Random(seed)
    asked = Asked(retrieve=retrieve)
    expected = await world.told(asked, cached=True)
    for key, value in list(memory.items()):
        memory[key] = garbled(value, generator)

    assert await world.told(asked, cached=True) == expected


def test_nearest_questions_are_those_of_brute_force() -> None:
    """By cosine, the most like first, from the threshold on, and a few."""
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    record = record_type(3, 6)
    packed = b""
    for number, vector in enumerate(vectors):
        packed = with_question(unpacked(packed, record), f"k{number:02}", vector)
    questions = unpacked(packed, record)
    query = vectors[7]
    by_hand = sorted(range(40), key=lambda number: -float(vectors[number] @ query))
    like = [f"k{number:02}" for number in by_hand if float(vectors[number] @ query) >= 0.3][:MAX_NEAREST]

    assert nearest(questions, query, threshold=0.3) == like
    assert like[0] == "k07"
    assert nearest(questions, -query, threshold=0.999) == []


def test_oldest_questions_are_forgotten() -> None:
    """A bucket holds so many; one that is asked again is the newest."""
    record = record_type(4, 2)
    packed = b""
    for number in [*range(MAX_QUESTIONS), 0, 9000]:
        packed = with_question(unpacked(packed, record), f"{number:04}", np.array([1, 0], np.float32))
    keys = [key.decode() for key in unpacked(packed, record)["key"]]

    assert len(keys) == MAX_QUESTIONS
    assert keys[-2:] == ["0000", "9000"]
    assert "0001" not in keys
    assert unpacked(packed + b"x", record) is None
    assert unpacked(packed * 2, record) is None


def test_lookups_are_counted_by_what_was_looked_for(live: Live) -> None:
    """The metrics tell answers from hits."""
    before = CACHE_LOOKUPS.labels("answer", "hit")._value.get()
    ask(live, seed=9)
    ask(live, seed=9)

    assert CACHE_LOOKUPS.labels("answer", "hit")._value.get() == before + 1
