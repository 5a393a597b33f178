"""Conversations: what is put into them, by hand and by responses, and who finds it there."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.conversations import Conversation

from rag_server.protocols import Embedder
from tests.dialogue import CONVERSATION_ITEM, Json, checked_items, respond, stream, text_of
from tests.live import Live, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server."""
    with live_server(tmp_path_factory.mktemp("conversations"), embedder) as server:
        yield server


def said(*texts: str) -> list[Json]:
    return [{"type": "message", "role": "user", "content": text} for text in texts]


def answered(**part: Any) -> Json:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", **part}]}


def begin(live: Live, *texts: str, **fields: Any) -> Json:
    """Begin a conversation; return it."""
    answer = live.client.post("/v1/conversations", json={"items": said(*texts), **fields})
    assert answer.status_code == 200, answer.text
    Conversation.model_validate_json(answer.text, strict=True)
    made: Json = answer.json()
    return made


def items(live: Live, conversation: Json, **params: Any) -> list[Json]:
    """The items, the oldest first."""
    path = f"/v1/conversations/{conversation['id']}/items"
    return checked_items(live.client.get(path, params={"order": "asc", **params}).json(), CONVERSATION_ITEM)


def texts(found: list[Json]) -> list[str]:
    return [item["content"][0]["text"] for item in found]


def test_conversation_is_made_read_changed_and_deleted(live: Live) -> None:
    """It has its metadata until they are replaced, and is gone with its items when it is deleted."""
    made = begin(live, "secret word xyzzy", metadata={"topic": "x"})
    path = f"/v1/conversations/{made['id']}"

    assert (made["object"], made["metadata"]) == ("conversation", {"topic": "x"})
    assert live.client.get(path).json() == made
    assert live.client.post(path, json={"metadata": {"a": "b"}}).json() == {**made, "metadata": {"a": "b"}}
    assert live.client.post(path, json={"metadata": None}).json()["metadata"] == {}
    assert live.client.delete(path).json() == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    assert {live.client.get(path + end).status_code for end in ("", "/items")} == {404}
    with live.services.store.database.read() as connection:
        held = connection.exec_driver_sql("SELECT count(*) FROM conversation_items WHERE item LIKE '%xyzzy%'").scalar_one()
    assert held == 0


def test_conversation_needs_no_body(live: Live) -> None:
    """Without anything it is an empty one."""
    for body in ({}, {"json": {}}, {"json": {"items": None, "metadata": None}}):
        made = live.client.post("/v1/conversations", **body).json()

        assert items(live, made) == []


def test_items_are_added_read_and_removed(live: Live) -> None:
    """New ones stand at the end, each under an id of its own, and one can be taken out."""
    made = begin(live, "one")
    path = f"/v1/conversations/{made['id']}/items"
    call = {"type": "function_call", "id": "mine", "call_id": "c1", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So.", "annotations": []}]}
    added = checked_items(live.client.post(path, json={"items": [call, output, answer]}).json(), CONVERSATION_ITEM)

    assert [item["type"] for item in added] == ["function_call", "function_call_output", "message"]
    assert items(live, made)[1:] == added
    assert len({item["id"] for item in added} | {"mine"}) == 4
    one = f"{path}/{added[0]['id']}"
    assert live.client.get(one).json() == added[0]
    assert live.client.delete(one).json() == made
    assert live.client.get(one).status_code == live.client.delete(one).status_code == 404
    assert [item["type"] for item in items(live, made)] == ["message", "function_call_output", "message"]


def test_what_was_answered_can_be_brought_back(live: Live) -> None:
    """Annotations, probabilities and results of searches are kept as they were; what OpenAI's types do not know is not."""
    citation = {"type": "url_citation", "url": "https://a.example/", "title": "A", "start_index": 0, "end_index": 2}
    file = {"type": "file_citation", "file_id": "file-1", "filename": "a.md", "index": 3}
    token = {"token": "So", "bytes": [83, 111], "logprob": -0.5}
    part = {
        "type": "output_text",
        "text": "So.",
        "annotations": [citation, file],
        "logprobs": [{**token, "top_logprobs": [token]}],
    }
    found = {"file_id": "file-1", "filename": "a.md", "text": "t", "score": 0.5, "attributes": {"year": 1999, "old": True}}
    search = {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"], "results": [found]}
    made = begin(live, "one")
    path = f"/v1/conversations/{made['id']}/items"
    include = {"include": ["message.output_text.logprobs", "file_search_call.results"]}
    answer = live.client.post(
        path, params=include, json={"items": [answered(**{**part, "annotations": [citation, {**file, "later": 1}]}), search]}
    ).json()
    added = checked_items(answer, CONVERSATION_ITEM)

    assert added[0]["content"] == [part]
    assert added[1]["results"] == [found]


def test_items_are_paged_both_ways(live: Live) -> None:
    """Pages of every size, put together, are the items in their order; the newest come first unless asked otherwise."""
    expected = [f"part {number}" for number in range(7)]
    made = begin(live, *expected)
    path = f"/v1/conversations/{made['id']}/items"

    assert texts(live.client.get(path).json()["data"]) == expected[::-1]
    for limit in (1, 2, 3, 7):
        found: list[str] = []
        page: Json = {"has_more": True, "last_id": None}
        while page["has_more"]:
            after = {} if page["last_id"] is None else {"after": page["last_id"]}
            page = live.client.get(path, params={"limit": limit, "order": "asc", **after}).json()
            found += texts(page["data"])
        assert found == expected


def test_openai_client_pages_through_a_conversation(live: Live) -> None:
    """OpenAI's client gets all items, in both orders, and single ones."""
    made = begin(live, *map(str, range(20)))
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        listed: Any = list(client.conversations.items.list(made["id"], order="asc", limit=8))
        first: Any = client.conversations.items.retrieve(listed[0].id, conversation_id=made["id"])

        assert [item.content[0].text for item in listed] == list(map(str, range(20)))
        assert first.content[0].text == "0"


# With responses


@pytest.mark.parametrize("how", ["id", "object", "stream", "background"])
def test_response_is_part_of_its_conversation(live: Live, how: str) -> None:
    """The engine reads all of it, and what was said and answered stands at its end afterwards, once."""
    made = begin(live, "My boat is called Skarv.")
    reference: Any = {"id": made["id"]} if how == "object" else made["id"]
    if how in ("stream", "background"):
        events = stream(live.client, "And now?", conversation=reference, background=how == "background")
        response = events[-1]["response"]
    else:
        response = respond(live.client, "And now?", conversation=reference)
    second = respond(live.client, "So?", conversation=made["id"])

    assert response["conversation"] == {"id": made["id"]}
    assert response["usage"]["input_tokens"] == 7
    found = items(live, made)
    assert texts(found) == ["My boat is called Skarv.", "And now?", text_of(response), "So?", text_of(second)]
    assert found[2] == response["output"][0]
    inputs = live.client.get(f"/v1/responses/{response['id']}/input_items").json()["data"]
    assert inputs == found[1:2]


def test_response_that_is_not_kept_still_belongs_to_its_conversation(live: Live) -> None:
    """`store: false` is about the response."""
    made = begin(live)
    response = respond(live.client, "Hello", conversation=made["id"], store=False)

    assert len(items(live, made)) == 2
    assert live.client.get(f"/v1/responses/{response['id']}").status_code == 404


def test_failed_response_leaves_its_conversation_alone(live: Live) -> None:
    """Neither input nor output of an answer that did not come about is added."""
    made = begin(live, "one")
    body = {"model": "scripted", "input": "word " * 9000, "conversation": made["id"]}

    assert live.client.post("/v1/responses", json=body).status_code == 400
    assert texts(items(live, made)) == ["one"]


def test_conversation_that_is_deleted_during_an_answer_is_told(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response fails whole: it is not kept as completed beside a conversation that lacks it."""
    made = begin(live, "one")
    store = live.services.store
    real = store.conversations.items

    def read_then_gone(conversation_id: str, access: Any) -> list[Json]:
        found = real(conversation_id, access)
        store.conversations.delete(conversation_id, access)
        return found

    monkeypatch.setattr(type(store.conversations), "items", lambda _, *arguments: read_then_gone(*arguments))
    answer = live.client.post("/v1/responses", json={"model": "scripted", "input": "two", "conversation": made["id"]})

    assert answer.status_code == 404
    with store.database.read() as connection:
        held = connection.exec_driver_sql(f"SELECT count(*) FROM responses WHERE response LIKE '%{made['id']}%'").scalar_one()
    assert held == 0


# Whose it is, and what is refused


def test_others_see_nothing_of_a_conversation(live: Live) -> None:
    """For another tenant, and for a key with other principals, it is not there, in any way of asking for it."""
    keys = live.services.store.keys
    owner = live.as_key(live.make_key(principals=["ann"]))
    others = [live.as_key(live.make_key(tenant="b")), live.as_key(live.make_key(principals=["bob"]))]
    try:
        made = owner.post("/v1/conversations", json={"items": said("mine")}).json()
        path = f"/v1/conversations/{made['id']}"
        (item,) = owner.get(f"{path}/items").json()["data"]
        for other in others:
            answers = [
                other.get(path),
                other.post(path, json={"metadata": {}}),
                other.delete(path),
                other.get(f"{path}/items"),
                other.post(f"{path}/items", json={"items": said("x")}),
                other.get(f"{path}/items/{item['id']}"),
                other.delete(f"{path}/items/{item['id']}"),
                other.post("/v1/responses", json={"model": "scripted", "input": "x", "conversation": made["id"]}),
            ]
            assert {answer.status_code for answer in answers} == {404}
        assert owner.get(f"{path}/items").json()["data"] == [item]
    finally:
        for key in keys.list():
            if key.revoked_at is None:
                keys.revoke(key.id)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": said(*map(str, range(21)))}, "items"),
        ({"items": [{"type": "mcp_call", "id": "x"}]}, "items"),
        ({"items": [{"type": "item_reference", "id": "msg_none"}]}, "items"),
        ({"items": [answered(annotations=[{"type": "file_path", "file_id": "f"}])]}, "items"),
        ({"items": [answered(logprobs=[{"token": "x"}])]}, "items"),
        ({"items": [{"type": "file_search_call", "queries": [], "results": [{"text": {}}]}]}, "items"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata"),
        ({"metadata": {"x" * 65: "y"}}, "metadata.x"),
    ],
)
def test_faulty_conversation_is_refused(live: Live, body: Json, param: str) -> None:
    """The bounds are OpenAI's."""
    answer = live.client.post("/v1/conversations", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


def test_length_of_a_conversation_is_bounded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would make it too long is refused whole, with what to do."""
    monkeypatch.setattr("rag_server.store.conversations.MAX_CONVERSATION_ITEMS", 3)
    made = begin(live, "one", "two")
    answer = live.client.post(f"/v1/conversations/{made['id']}/items", json={"items": said("three", "four")})

    assert answer.status_code == 400
    assert "at most 3" in answer.json()["error"]["message"]
    assert texts(items(live, made)) == ["one", "two"]
