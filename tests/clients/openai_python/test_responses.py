"""Responses and conversations with the openai package."""

import json
import time

import pytest
from openai import AsyncOpenAI, NotFoundError, OpenAI
from pydantic import BaseModel

QUESTION = "Who is the harbour master?"
FILE_SEARCH = {"type": "file_search", "vector_store_ids": ["handbook"], "max_num_results": 3}
FUNCTION = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"place": {"type": "string"}},
        "required": ["place"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Crossing(BaseModel):
    """What a structured answer is parsed into."""

    ferry: str
    minutes: int


@pytest.fixture(scope="module")
def handbook(server) -> str:
    """The id of the vector store, as OpenAI's clients know it."""
    with OpenAI(base_url=server.base_url, api_key=server.key) as client:
        return next(store.id for store in client.vector_stores.list() if store.name == "handbook")


def test_a_response_is_made_read_and_deleted(client: OpenAI) -> None:
    made = client.responses.create(model="scripted", input="good morning", metadata={"case": "plain"})

    assert (made.status, made.error) == ("completed", None)
    assert "good morning" in made.output_text
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0
    assert client.responses.retrieve(made.id).output_text == made.output_text
    (item,) = client.responses.input_items.list(made.id).data
    assert item.content[0].text == "good morning"
    client.responses.delete(made.id)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(made.id)


def test_a_stream_has_numbered_events_and_the_whole_response_at_the_end(client: OpenAI) -> None:
    events = list(client.responses.create(model="scripted", input="one two three", stream=True))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == "You said: one two three"


def test_the_stream_helper_puts_the_parts_together(client: OpenAI) -> None:
    with client.responses.stream(model="scripted", input="one two three") as stream:
        for _ in stream:
            pass
        response = stream.get_final_response()

    assert response.output_text == "You said: one two three"


def test_file_search_answers_with_results_and_annotations(client: OpenAI, handbook: str) -> None:
    tool = {**FILE_SEARCH, "vector_store_ids": [handbook]}

    made = client.responses.create(model="scripted", input=QUESTION, tools=[tool], include=["file_search_call.results"])

    search = next(item for item in made.output if item.type == "file_search_call")
    assert (search.status, bool(search.queries)) == ("completed", True)
    assert "harbour.md" in [result.filename for result in search.results]
    message = next(item for item in made.output if item.type == "message")
    assert "Ingrid Solberg" in made.output_text
    citations = [annotation for annotation in message.content[0].annotations if annotation.type == "file_citation"]
    assert citations[0].filename == "harbour.md"


def test_file_search_streams_its_events(client: OpenAI, handbook: str) -> None:
    tool = {**FILE_SEARCH, "vector_store_ids": [handbook]}

    kinds = [event.type for event in client.responses.create(model="scripted", input=QUESTION, tools=[tool], stream=True)]

    in_order = [
        "response.created",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.completed",
    ]
    places = [kinds.index(kind) for kind in in_order if kind != "response.output_text.annotation.added"]
    assert places == sorted(places)
    assert set(in_order) <= set(kinds)


def test_a_response_goes_on_from_the_one_before(client: OpenAI) -> None:
    first = client.responses.create(model="scripted", input="my boat is called Skarv")

    second = client.responses.create(model="scripted", input="and now?", previous_response_id=first.id)

    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens + 2


def test_a_function_is_called_and_its_output_used(client: OpenAI) -> None:
    first = client.responses.create(model="scripted", input='call weather with {"place": "Utsira"}', tools=[FUNCTION])
    call = next(item for item in first.output if item.type == "function_call")

    assert (call.name, json.loads(call.arguments)) == ("weather", {"place": "Utsira"})

    output = {"type": "function_call_output", "call_id": call.call_id, "output": "fog"}
    second = client.responses.create(model="scripted", input=[output], previous_response_id=first.id, tools=[FUNCTION])

    assert "fog" in second.output_text


def test_a_structured_answer_is_parsed(client: OpenAI) -> None:
    made = client.responses.parse(model="scripted", input="The next crossing?", text_format=Crossing)

    assert isinstance(made.output_parsed, Crossing)


def test_a_response_in_the_background_is_polled(client: OpenAI) -> None:
    made = client.responses.create(model="scripted", input="take your time", background=True)

    assert made.status in ("queued", "in_progress", "completed")
    ends = time.monotonic() + 20
    while made.status in ("queued", "in_progress") and time.monotonic() < ends:
        time.sleep(0.1)
        made = client.responses.retrieve(made.id)
    assert made.status == "completed"
    assert "take your time" in made.output_text


def test_a_response_that_was_not_stored_is_not_found(client: OpenAI) -> None:
    made = client.responses.create(model="scripted", input="forget this", store=False)

    with pytest.raises(NotFoundError):
        client.responses.retrieve(made.id)


def test_a_conversation_collects_what_is_said_in_it(client: OpenAI) -> None:
    conversation = client.conversations.create(
        metadata={"case": "talk"}, items=[{"type": "message", "role": "user", "content": "my boat is called Skarv"}]
    )
    made = client.responses.create(model="scripted", input="good morning", conversation=conversation.id)

    assert made.conversation.id == conversation.id
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.role for item in items] == ["user", "user", "assistant"]
    assert client.conversations.items.retrieve(items[0].id, conversation_id=conversation.id).content[0].text.endswith("Skarv")
    client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    assert len(list(client.conversations.items.list(conversation.id))) == 2
    added = client.conversations.items.create(
        conversation.id, items=[{"type": "message", "role": "user", "content": "one more"}]
    )
    assert [item.role for item in added.data] == ["user"]
    assert client.conversations.update(conversation.id, metadata={"case": "over"}).metadata == {"case": "over"}
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(NotFoundError):
        client.conversations.retrieve(conversation.id)


async def test_the_asynchronous_client_responds_and_streams(async_client: AsyncOpenAI) -> None:
    made = await async_client.responses.create(model="scripted", input="good evening")
    events = [event async for event in await async_client.responses.create(model="scripted", input="hello", stream=True)]

    assert "good evening" in made.output_text
    assert events[-1].type == "response.completed"
