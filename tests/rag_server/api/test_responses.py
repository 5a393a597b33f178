"""Responses: made, read, gone on from, counted, deleted, refused, and seen by nobody else."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from rag_server.protocols import Embedder
from tests.dialogue import WEATHER, checked, checked_items, refused, respond, sent_chat, text_of
from tests.live import Live, live_server

PNG = b"\x89PNG\r\n\x1a\n"
USER = {"role": "user", "content": "Hello"}
CALL = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server; what its engine is sent is kept."""
    with live_server(tmp_path_factory.mktemp("responses"), embedder) as server:
        yield server


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


# Making, reading, deleting


def test_response_is_made_and_read_again(live: Live) -> None:
    """What was answered is what is read, and its input is one item."""
    made = respond(live.client, "Hello there", metadata={"topic": "x"}, user="ann", instructions="Be brief.")

    assert (made["status"], text_of(made), made["metadata"], made["user"]) == (
        "completed",
        "You said: Hello there",
        {"topic": "x"},
        "ann",
    )
    assert made["usage"]["input_tokens"] == 4
    assert live.client.get(f"/v1/responses/{made['id']}").json() == made
    (item,) = checked_items(live.client.get(f"/v1/responses/{made['id']}/input_items").json())
    assert (item["role"], item["content"]) == ("user", [{"type": "input_text", "text": "Hello there"}])


def test_deleted_response_is_gone_with_its_items(live: Live) -> None:
    """After deletion nothing of it is found, and nothing can follow it."""
    made = respond(live.client, "secret word xyzzy")
    answer = live.client.delete(f"/v1/responses/{made['id']}").json()

    assert (answer["id"], answer["deleted"]) == (made["id"], True)
    for path in ("", "/input_items"):
        assert live.client.get(f"/v1/responses/{made['id']}{path}").status_code == 404
    assert refused(live.client, previous_response_id=made["id"])["code"] == "previous_response_not_found"
    assert refused(live.client, input=[{"type": "item_reference", "id": made["output"][0]["id"]}])["param"] == "input"
    with live.services.store.database.read() as connection:
        held = connection.exec_driver_sql("SELECT count(*) FROM response_items WHERE item LIKE '%xyzzy%'").scalar_one()
    assert held == 0


def test_response_with_store_false_is_not_kept(live: Live) -> None:
    """It is answered in full, and then it is nowhere."""
    made = respond(live.client, "forget this", store=False)

    assert (text_of(made), made["store"]) == ("You said: forget this", False)
    assert live.client.get(f"/v1/responses/{made['id']}").status_code == 404
    assert refused(live.client, previous_response_id=made["id"])["code"] == "previous_response_not_found"


def test_input_items_are_paged_both_ways(live: Live) -> None:
    """Pages of every size, put together, are the items in their order."""
    texts = [f"part {number}" for number in range(7)]
    made = respond(live.client, [{"role": "user", "content": text} for text in texts])
    path = f"/v1/responses/{made['id']}/input_items"
    for limit in (1, 2, 3, 7, 100):
        for order, expected in (("asc", texts), ("desc", texts[::-1])):
            found: list[str] = []
            page: dict[str, Any] = {"has_more": True, "last_id": None}
            while page["has_more"]:
                after = {} if page["last_id"] is None else {"after": page["last_id"]}
                page = live.client.get(path, params={"limit": limit, "order": order, **after}).json()
                found += [item["content"][0]["text"] for item in checked_items(page)]
            assert found == expected
    assert live.client.get(path, params={"after": "msg_other"}).status_code == 400


def test_model_may_be_left_out(live: Live) -> None:
    """Then the engine's default answers."""
    answer = live.client.post("/v1/responses", json={"input": "Hello"})

    assert checked(answer.json())["model"] == "scripted"


# What comes before


def test_response_follows_others_without_their_instructions(live: Live) -> None:
    """The whole chain is sent, in its order, each answer once; instructions count for their own response only."""
    first = respond(live.client, "My boat is called Skarv.", instructions="Be loud.")
    second = respond(live.client, "And my cat Odd.", previous_response_id=first["id"])
    third = respond(live.client, "So?", previous_response_id=second["id"], instructions="Be quiet.")

    assert third["previous_response_id"] == second["id"]
    assert sent_chat(live.engine.sent)["messages"] == [
        {"role": "system", "content": "Be quiet."},
        {"role": "user", "content": "My boat is called Skarv."},
        {"role": "assistant", "content": text_of(first)},
        {"role": "user", "content": "And my cat Odd."},
        {"role": "assistant", "content": text_of(second)},
        {"role": "user", "content": "So?"},
    ]
    listed = checked_items(live.client.get(f"/v1/responses/{third['id']}/input_items").json())
    assert [item["content"][0]["text"] for item in listed] == ["So?"]


def test_several_responses_may_follow_the_same_one(live: Live) -> None:
    """A conversation can branch; the branches see nothing of each other."""
    first = respond(live.client, "one")
    for text in ("left", "right"):
        respond(live.client, text, previous_response_id=first["id"])

        assert [message["content"] for message in sent_chat(live.engine.sent)["messages"]] == ["one", text_of(first), text]


def test_items_are_referred_to_by_their_ids(live: Live) -> None:
    """A reference is as good as the item, whichever response or conversation holds it."""
    first = respond(live.client, "My boat is called Skarv.")
    conversation = live.client.post("/v1/conversations", json={"items": [{"role": "user", "content": "In May."}]}).json()
    (said,) = live.client.get(f"/v1/conversations/{conversation['id']}/items").json()["data"]

    respond(live.client, [{"type": "item_reference", "id": said["id"]}, {"id": first["output"][0]["id"]}, USER])

    assert sent_chat(live.engine.sent)["messages"] == [
        {"role": "user", "content": "In May."},
        {"role": "assistant", "content": text_of(first)},
        USER,
    ]


def test_history_that_does_not_fit_is_cut_only_when_asked(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> None:
    """`auto` leaves out whole turns, the oldest first, and no more than needed; `disabled` is refused by its name."""
    overrides: dict[str, Any] = {"prompt": {"answer_tokens": 20}}
    with live_server(tmp_path_factory.mktemp("long"), embedder, **overrides) as live:
        # The scripted engine says 8,192; its tokens are words.
        turns = [{"role": "user", "content": f"{number} " + "word " * 1999} for number in range(6)]
        kept = respond(live.client, turns, truncation="auto", instructions="Be brief.")
        messages = sent_chat(live.engine.sent)["messages"]
        long = {"model": "scripted", "input": turns}
        refusal = live.client.post("/v1/responses", json=long)
        one = {"model": "scripted", "input": "word " * 9000, "truncation": "auto"}
        too_long = live.client.post("/v1/responses", json=one)

    assert kept["truncation"] == "auto"
    assert [message["content"].split()[0] for message in messages] == ["Be", "2", "3", "4", "5"]
    for answer in (refusal, too_long):
        assert answer.status_code == 400
    assert "context length" in refusal.json()["error"]["message"]
    assert (too_long.json()["error"]["code"], too_long.json()["error"]["param"]) == ("context_length_exceeded", "input")


# Counting


@pytest.mark.parametrize(
    "fields",
    [
        {"input": "one two three"},
        {"input": [USER, CALL, OUTPUT], "instructions": "Be very brief."},
    ],
)
def test_tokens_of_an_input_are_those_that_the_engine_reads(client: openai.OpenAI, live: Live, fields: dict[str, Any]) -> None:
    """The count is what the usage of the same request says."""
    first = respond(live.client, "four words are here")
    counted = client.responses.input_tokens.count(model="scripted", previous_response_id=first["id"], **fields)
    made = respond(live.client, fields.pop("input"), previous_response_id=first["id"], **fields)

    assert counted.object == "response.input_tokens"
    assert counted.input_tokens == made["usage"]["input_tokens"]


def test_tools_count(live: Live) -> None:
    """What describes a function is read by the engine too."""
    path, body = "/v1/responses/input_tokens", {"model": "scripted", "input": "Hello"}

    bare = live.client.post(path, json=body).json()["input_tokens"]
    assert live.client.post(path, json={**body, "tools": [WEATHER]}).json()["input_tokens"] > bare + 5


# Whose it is


def revoke_all(live: Live) -> None:
    keys = live.services.store.keys
    for key in keys.list():
        if key.revoked_at is None:
            keys.revoke(key.id)


def test_others_see_nothing_of_a_response(live: Live) -> None:
    """For another tenant, and for a key with other principals, a response is not there, in any way of asking for it."""
    owner = live.as_key(live.make_key(principals=["ann"]))
    same = live.as_key(live.make_key(principals=["ann"]))
    whole = live.as_key(live.make_key())
    others = [live.as_key(live.make_key(tenant="b")), live.as_key(live.make_key(principals=["bob"]))]
    try:
        made = respond(owner, "mine")
        path = f"/v1/responses/{made['id']}"
        for other in others:
            answers = [
                other.get(path),
                other.get(f"{path}/input_items"),
                other.get(path, params={"stream": True}),
                other.post(f"{path}/cancel"),
                other.delete(path),
            ]
            assert {answer.status_code for answer in answers} == {404}
            following = other.post(
                "/v1/responses", json={"model": "scripted", "input": "x", "previous_response_id": made["id"]}
            )
            assert following.json()["error"]["code"] == "previous_response_not_found"
            reference = [{"type": "item_reference", "id": made["output"][0]["id"]}]
            assert other.post("/v1/responses", json={"model": "scripted", "input": reference}).status_code == 400
        for friend in (same, whole):
            assert friend.get(path).json() == made
    finally:
        revoke_all(live)


def test_files_that_were_uploaded_reach_the_engine(live: Live) -> None:
    """An image and a file are sent by their ids, and another tenant's are not there."""
    image, file = live.upload("a.png", PNG), live.upload("b.txt", "words")
    parts = [{"type": "input_image", "file_id": image}, {"type": "input_file", "file_id": file}]
    foreign = live.as_key(live.make_key(tenant="b"))
    try:
        respond(live.as_key(live.make_key()), [{"role": "user", "content": parts}])
        answer = foreign.post("/v1/responses", json={"model": "scripted", "input": [{"role": "user", "content": parts}]})
    finally:
        revoke_all(live)

    first, second = sent_chat(live.engine.sent)["messages"][0]["content"]
    assert first["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert second["file"]["filename"] == "b.txt"
    assert base64.b64decode(second["file"]["file_data"].partition(",")[2]) == b"words"
    assert answer.status_code == 404


# What is refused


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input.0"),
        ({"input": [{"role": "user"}]}, "input.0.message.content"),
        ({"input": [{"role": "critic", "content": "x"}]}, "input.0.message.role"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input.0.message.content.0"),
        ({"input": [USER] * 1001}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://x/"}]}]}, "input"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"x": "y" * 513}}, "metadata.x"),
        ({"include": ["everything"]}, "include.0"),
        ({"tools": [{"type": "function"}]}, "tools.0.function.name"),
        ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools.0.file_search.vector_store_ids"),
        ({"tools": [WEATHER] * 129}, "tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "other"}}, "tool_choice"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
        ({"truncation": "middle"}, "truncation"),
        ({"stream": "yes"}, "stream"),
        ({"background": True, "store": False}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, None),
        ({"rag": {}}, "rag.vector_store_ids"),
        ({"previous_response_id": "resp_none"}, "previous_response_id"),
        ({"previous_response_id": "resp_none", "conversation": "conv_none"}, "previous_response_id"),
    ],
)
def test_faulty_request_is_refused_with_its_field(live: Live, fields: dict[str, Any], param: str | None) -> None:
    """Whatever is wrong is a 400 that names it, and nothing is kept."""
    error = refused(live.client, **fields)

    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": "conv_none"},
        {"model": "rag/none"},
        {"model": "none"},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_none"]}]},
    ],
)
def test_what_is_not_there_is_404(live: Live, fields: dict[str, Any]) -> None:
    """A conversation, model or vector store that does not exist is told with its status, also in a stream."""
    for stream in (False, True):
        body = {"model": "scripted", "input": "Hello", "stream": stream, **fields}

        assert live.client.post("/v1/responses", json=body).status_code == 404


def test_chain_of_responses_is_bounded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that follows too many is refused with what to do."""
    monkeypatch.setattr("rag_server.store.responses.MAX_CHAIN", 2)
    made = respond(live.client, "one")
    made = respond(live.client, "two", previous_response_id=made["id"])

    made = respond(live.client, "three", previous_response_id=made["id"])
    assert "at most 2" in refused(live.client, previous_response_id=made["id"])["message"]


def test_openai_client_knows_the_errors(client: openai.OpenAI) -> None:
    """Typed exceptions come out of the statuses."""
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_none")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="scripted", input="x", previous_response_id="resp_none")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(client.responses.create(model="scripted", input="x").id)


def test_engine_that_is_down_is_told_by_its_status(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before an answer begins, a stream has the status of its error too; nothing is kept."""
    monkeypatch.setattr("rag_server.engines.replicas.addresses_in", lambda _: ["http://127.0.0.1:9/v1"])
    with live.services.store.database.read() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM responses").scalar_one()
    answers: list[httpx.Response] = [
        live.client.post("/v1/responses", json={"model": "scripted", "input": "Hello", "stream": stream})
        for stream in (False, True)
    ]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert {answer.json()["error"]["code"] for answer in answers} == {"engine_unavailable"}
    with live.services.store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM responses").scalar_one() == before
