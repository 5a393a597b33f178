"""Chat completions with the openai package."""

import json

from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

QUESTION = [{"role": "user", "content": "Who is the harbour master?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
CALL = [{"role": "user", "content": 'call weather with {"place": "Utsira"}'}]


class Crossing(BaseModel):
    """What a structured answer is parsed into."""

    ferry: str
    minutes: int


def test_a_model_of_the_engine_answers_without_documents(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "good morning"}])

    assert completion.choices[0].message.content == "You said: good morning"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0


def test_a_collection_answers_as_a_model_with_annotations(lenient_client: OpenAI) -> None:
    """The annotations are of OpenAI's type, and cover the mark in the answer."""
    message = lenient_client.chat.completions.create(model="rag/handbook", messages=QUESTION).choices[0].message

    assert "Ingrid Solberg" in message.content
    citation = next(annotation.url_citation for annotation in message.annotations if annotation.type == "url_citation")
    assert citation.title == "Harbour"
    assert message.content[citation.start_index : citation.end_index] == "[1]"


def test_the_rag_object_goes_in_and_out_as_extra_fields(lenient_client: OpenAI) -> None:
    completion = lenient_client.chat.completions.create(
        model="scripted", messages=QUESTION, extra_body={"rag": {"vector_store_ids": ["handbook"], "num_passages": 1}}
    )

    (passage,) = completion.model_extra["rag"]["passages"]
    assert passage["filename"] == "harbour.md"


def test_a_stream_ends_with_its_usage(client: OpenAI) -> None:
    """With include_usage the last chunk has no choices and the tokens of the whole."""
    chunks = list(
        client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "one two three"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "You said: one two three"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5
    assert [chunk for chunk in chunks[:-1] if chunk.usage is not None] == []


def test_a_stream_from_a_collection_adds_up_to_the_answer(client: OpenAI) -> None:
    """The stream helper of the package puts the parts together as if they had come at once."""
    with client.chat.completions.stream(model="rag/handbook", messages=QUESTION) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message

    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert "Ingrid Solberg" in message.content


def test_tools_are_called_and_their_results_used(client: OpenAI) -> None:
    completion = client.chat.completions.create(model="scripted", messages=CALL, tools=[TOOL])
    message = completion.choices[0].message
    (call,) = message.tool_calls

    assert completion.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"place": "Utsira"}

    result = {"role": "tool", "tool_call_id": call.id, "content": "fog"}
    answer = client.chat.completions.create(model="scripted", messages=[*CALL, message, result], tools=[TOOL])

    assert "fog" in answer.choices[0].message.content


def test_tools_are_called_in_a_stream(client: OpenAI) -> None:
    """The deltas carry their index, without which the helper could not put them together."""
    with client.chat.completions.stream(model="scripted", messages=CALL, tools=[TOOL]) as stream:
        completion = stream.get_final_completion()

    (call,) = completion.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"place": "Utsira"}


def test_a_structured_answer_is_parsed(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="scripted", messages=[{"role": "user", "content": "The next crossing?"}], response_format=Crossing
    )

    assert isinstance(completion.choices[0].message.parsed, Crossing)


def test_several_choices_with_log_probabilities(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "hello"}], n=2, logprobs=True, top_logprobs=2
    )

    assert [choice.index for choice in completion.choices] == [0, 1]
    tokens = completion.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == completion.choices[0].message.content
    assert [len(token.top_logprobs) for token in tokens] == [2] * len(tokens)


def test_a_stored_completion_is_found_changed_and_deleted(lenient_client: OpenAI) -> None:
    made = lenient_client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "keep this"}], store=True, metadata={"case": "stored"}
    )

    assert lenient_client.chat.completions.retrieve(made.id).choices[0].message.content == "You said: keep this"
    assert [found.id for found in lenient_client.chat.completions.list(metadata={"case": "stored"})] == [made.id]
    assert [message.content for message in lenient_client.chat.completions.messages.list(made.id)] == ["keep this"]
    assert lenient_client.chat.completions.update(made.id, metadata={"case": "changed"}).metadata == {"case": "changed"}
    assert lenient_client.chat.completions.delete(made.id).deleted
    assert [found.id for found in lenient_client.chat.completions.list(metadata={"case": "changed"})] == []


async def test_the_asynchronous_client_answers_and_streams(async_client: AsyncOpenAI) -> None:
    whole = await async_client.chat.completions.create(model="rag/handbook", messages=QUESTION)
    stream = await async_client.chat.completions.create(model="rag/handbook", messages=QUESTION, stream=True)
    streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert "Ingrid Solberg" in whole.choices[0].message.content
    assert streamed == whole.choices[0].message.content
