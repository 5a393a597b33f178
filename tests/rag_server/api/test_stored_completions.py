"""Chat completions with `store: true`: kept, listed, found by metadata, changed and deleted, each by its owner alone."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import openai
import pytest

from rag_server.api.joined_chunks import JoinedChunks
from rag_server.config import Settings
from rag_server.protocols import Embedder
from tests.conftest import running_server
from tests.live import Live, live_server
from tests.rag_server.api.test_admission import _wait_for

PATH = "/v1/chat/completions"
StartEngine = Callable[..., AbstractContextManager[str]]
PARTS = [{"type": "text", "text": "What is"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": PARTS},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f"}}]},
    {"role": "tool", "content": "a cat", "tool_call_id": "c"},
]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server; each test has a tenant of its own."""
    with live_server(tmp_path_factory.mktemp("stored"), embedder, auth={"required": True}) as server:
        yield server


@pytest.fixture
def client(live: Live, request: pytest.FixtureRequest) -> httpx.Client:
    """A client of a tenant that nothing is stored for yet."""
    return live.as_key(live.make_key(tenant=request.node.name))


def ask(client: httpx.Client, text: str = "one two", **fields: Any) -> dict[str, Any]:
    """Ask with `store: true`; return the completion."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": text}], "store": True, **fields}
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def ids(client: httpx.Client, **params: Any) -> list[str]:
    """The ids of a list, which must be well formed."""
    found = client.get(PATH, params=params).json()
    listed = [completion["id"] for completion in found["data"]]
    assert (found["first_id"], found["last_id"]) == ((listed[0], listed[-1]) if listed else (None, None))
    return listed


def test_stored_completion_is_what_was_answered(client: httpx.Client) -> None:
    """What is found later is the answer with its metadata, under the id that the client was told."""
    answer = ask(client, n=2, metadata={"topic": "cats"})

    found = client.get(f"{PATH}/{answer['id']}").json()

    assert found == {**answer, "metadata": {"topic": "cats"}}
    assert ids(client) == [answer["id"]]


@pytest.mark.parametrize("store", [False, None])
def test_nothing_is_kept_unasked(client: httpx.Client, store: bool | None) -> None:
    """Without `store: true` there is no trace of a completion."""
    answer = ask(client, store=store, metadata={"a": "b"})

    assert ids(client) == []
    assert client.get(f"{PATH}/{answer['id']}").status_code == 404


@pytest.mark.parametrize("fields", [{"n": 2, "logprobs": True, "top_logprobs": 1}, {"tools": [WEATHER]}])
def test_streamed_completion_is_kept_as_if_it_were_whole(client: httpx.Client, fields: dict) -> None:
    """What the chunks add up to is what the same request gives without a stream."""
    text = 'call weather with {"a": 1} and call weather with {"b": [2]}'
    whole = ask(client, text, seed=3, **fields)
    body = {"model": "scripted", "messages": [{"role": "user", "content": text}], "store": True, "seed": 3, **fields}

    streamed = client.post(PATH, json={**body, "stream": True, "stream_options": {"include_usage": True}}).text

    chunks = [json.loads(line.removeprefix("data: ")) for line in streamed.split("\n\n")[:-2]]
    (chunk_id,) = {chunk["id"] for chunk in chunks}
    found = client.get(f"{PATH}/{chunk_id}").json()
    own = ("id", "created", "metadata")
    for completion in (found, whole):
        for choice in completion["choices"]:
            for call in choice["message"].get("tool_calls", []):
                call.pop("id")
    assert {name: value for name, value in found.items() if name not in own} == {
        name: value for name, value in whole.items() if name not in own
    }


def test_stream_that_is_given_up_is_not_kept(settings: Settings, scripted_engine: StartEngine) -> None:
    """Half an answer is none."""
    body = {"model": "scripted", "messages": [{"role": "user", "content": "go on"}], "store": True, "stream": True}
    # Slow enough that it is not over, and on its way, before the client is gone.
    with (
        scripted_engine(answer="word " * 1000, tokens_per_s=20) as engine,
        running_server(settings, engine=engine) as client,
    ):
        with client.stream("POST", PATH, json=body) as response:
            next(response.iter_lines())
        _wait_for(engine, "aborted", 1)

        assert ids(client) == []


def test_list_is_paged_oldest_first(client: httpx.Client) -> None:
    """Pages join to the whole list, in either order; a foreign cursor is 400."""
    made = [ask(client)["id"] for _ in range(5)]

    assert ids(client) == made
    assert ids(client, order="desc") == made[::-1]
    assert ids(client, limit=2) == made[:2]
    assert ids(client, limit=2, after=made[1]) == made[2:4]
    assert ids(client, limit=9, after=made[2], order="desc") == [made[1], made[0]]
    assert client.get(PATH, params={"limit": 2}).json()["has_more"] is True
    assert client.get(PATH, params={"limit": 5}).json()["has_more"] is False
    assert client.get(PATH, params={"after": "chatcmpl-none"}).json()["error"]["param"] == "after"
    assert client.get(PATH, params={"limit": 0}).status_code == 400


def test_list_is_narrowed_by_model_and_metadata(client: httpx.Client) -> None:
    """Every entry of the metadata has to be there with its very value; odd keys are no syntax."""
    odd = {'a"b\\.c[0]': "x' OR 1=1 --", "%": "_"}
    first = ask(client, metadata={"topic": "cats", "lang": "en"})["id"]
    second = ask(client, metadata={"topic": "cats", "lang": "de"})["id"]
    third = ask(client, metadata=odd)["id"]

    assert ids(client, **{"metadata[topic]": "cats"}) == [first, second]
    assert ids(client, **{"metadata[topic]": "cats", "metadata[lang]": "de"}) == [second]
    assert ids(client, **{"metadata[topic]": "cat"}) == []
    assert ids(client, **{f"metadata[{key}]": value for key, value in odd.items()}) == [third]
    assert ids(client, model="scripted") == [first, second, third]
    assert ids(client, model="other") == []


def test_metadata_is_replaced(client: httpx.Client) -> None:
    """An update replaces the metadata, which lists go by at once; nothing else of the completion changes."""
    answer = ask(client, metadata={"a": "1", "b": "2"})
    path = f"{PATH}/{answer['id']}"

    changed = client.post(path, json={"metadata": {"b": "3"}}).json()

    assert changed == client.get(path).json() == {**answer, "metadata": {"b": "3"}}
    assert ids(client, **{"metadata[a]": "1"}) == []
    assert ids(client, **{"metadata[b]": "3"}) == [answer["id"]]
    assert client.post(path, json={"metadata": None}).json()["metadata"] == {}
    for faulty in ({}, {"metadata": {"a": 1}}, {"metadata": []}, {"metadata": {}, "x": 1}):
        assert client.post(path, json=faulty).status_code == 400


def test_deleted_completion_is_gone(client: httpx.Client) -> None:
    """After a deletion nothing of it is found."""
    answer = ask(client, metadata={"a": "1"})
    path = f"{PATH}/{answer['id']}"

    deleted = client.delete(path).json()

    assert deleted == {"object": "chat.completion.deleted", "id": answer["id"], "deleted": True}
    assert ids(client) == []
    for response in (client.get(path), client.delete(path), client.get(f"{path}/messages")):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    assert client.post(path, json={"metadata": {}}).status_code == 404


def test_messages_are_those_of_the_request(client: httpx.Client) -> None:
    """Each message has an id, and parts of a content stand apart from its text; pages join to the whole."""
    answer = ask(client, messages=MESSAGES)
    path = f"{PATH}/{answer['id']}/messages"

    found = client.get(path).json()["data"]

    assert [message["id"] for message in found] == [f"{answer['id']}-{index}" for index in range(4)]
    assert [message["role"] for message in found] == ["system", "user", "assistant", "tool"]
    assert [message["content"] for message in found] == ["Be brief.", "What is", None, "a cat"]
    assert [message["content_parts"] for message in found] == [None, PARTS, None, None]
    assert {message["refusal"] for message in found} == {None}
    assert found[2]["tool_calls"] == MESSAGES[2]["tool_calls"]
    one = client.get(path, params={"limit": 1, "after": found[1]["id"]}).json()
    assert (one["data"], one["has_more"]) == ([found[2]], True)
    assert client.get(path, params={"order": "desc"}).json()["data"] == found[::-1]
    assert client.get(path, params={"after": "none"}).status_code == 400


def test_nobody_else_sees_a_stored_completion(live: Live) -> None:
    """Another tenant sees nothing; within a tenant, keys with principals see what keys like them made, others all."""
    all_, red, blue = (live.as_key(live.make_key("owners", principals)) for principals in (None, ["red"], ["blue"]))
    foreign = live.as_key(live.make_key("foreign"))
    made = ask(red, metadata={"a": "1"})["id"]

    assert ids(all_) == ids(red) == [made]
    for client in (blue, foreign):
        path = f"{PATH}/{made}"
        assert ids(client) == ids(client, **{"metadata[a]": "1"}) == []
        assert client.get(path).status_code == client.get(f"{path}/messages").status_code == 404
        assert client.delete(path).status_code == client.post(path, json={"metadata": {}}).status_code == 404
        assert client.get(PATH, params={"after": made}).status_code == 400
    assert red.get(f"{PATH}/{made}").status_code == 200


def test_ids_are_not_the_engines(client: httpx.Client) -> None:
    """Ids are this server's and long, whatever the engine counts."""
    made = {ask(client)["id"] for _ in range(3)}

    assert len(made) == 3
    assert all(len(found) > len("chatcmpl-") + 28 for found in made)


async def test_official_client_manages_stored_completions(live: Live) -> None:
    """OpenAI's client stores, lists with its own encoding of metadata, updates, reads and deletes."""
    key = live.make_key(tenant="official")
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key=key) as client:
        messages: list[Any] = [{"role": "user", "content": "hello"}]
        made = await client.chat.completions.create(
            model="scripted", messages=messages, store=True, metadata={"topic": "a b&c"}
        )
        completions = client.chat.completions
        listed = [found.id async for found in completions.list(metadata={"topic": "a b&c"}, limit=1, order="desc")]
        updated = await completions.update(made.id, metadata={"x": "y"})
        read = await completions.retrieve(made.id)
        said = [message async for message in completions.messages.list(made.id)]
        deleted = await completions.delete(made.id)

    assert listed == [made.id]
    assert updated.metadata == read.metadata == {"x": "y"}
    assert read.choices[0].message.content == "You said: hello"
    assert [message.content for message in said] == ["hello"]
    assert deleted.deleted


def test_reasoning_and_function_calls_are_joined() -> None:
    """Fields that only some engines stream are joined like the others."""
    joined = JoinedChunks()
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "reasoning_content": "I "},
        {"reasoning_content": "think", "content": None},
        {"function_call": {"name": "f", "arguments": "{"}},
        {"function_call": {"arguments": "}"}, "annotations": [1]},
    ]
    for delta in deltas:
        joined.add({"id": "a", "rag": {str(len(delta)): 1}, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    (choice,) = joined.completion()["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "I think",
        "function_call": {"name": "f", "arguments": "{}"},
        "annotations": [1],
    }
    assert joined.completion()["rag"] == {"1": 1, "2": 1}
