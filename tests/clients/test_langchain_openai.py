"""langchain-openai's chat model and embeddings against a live server."""

import math

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Crossing(BaseModel):
    """What a structured answer is parsed into."""

    ferry: str
    minutes: int


@tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"fog at {place}"


def chat(server, model: str = "rag/handbook", **options: object) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=server.base_url, api_key=server.key, max_retries=0, **options)


def test_chat_whole_and_streamed(server) -> None:
    """The parts of a stream add up to the whole, with its usage."""
    whole = chat(server).invoke("Who is the harbour master?")
    parts = list(chat(server, stream_usage=True).stream("Who is the harbour master?"))
    added = parts[0]
    for part in parts[1:]:
        added += part

    assert "Ingrid Solberg" in whole.content
    assert added.content == whole.content
    assert added.usage_metadata == whole.usage_metadata
    assert whole.usage_metadata["total_tokens"] > 0


async def test_the_asynchronous_calls(server) -> None:
    whole = await chat(server).ainvoke("Who is the harbour master?")
    streamed = "".join([part.content async for part in chat(server).astream("Who is the harbour master?")])

    assert streamed == whole.content


def test_a_tool_is_called_and_its_result_used(server) -> None:
    model = chat(server, "scripted").bind_tools([weather])
    question = HumanMessage('call weather with {"place": "Utsira"}')

    asked = model.invoke([question])
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"place": "Utsira"})

    answer = model.invoke([question, asked, ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])])
    assert isinstance(answer, AIMessage)
    assert "fog at Utsira" in answer.content


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_a_structured_answer_is_parsed(server, method: str) -> None:
    structured = chat(server, "scripted").with_structured_output(Crossing, method=method)

    assert isinstance(structured.invoke("The next crossing?"), Crossing)


def test_the_responses_api_with_file_search(server) -> None:
    """With `use_responses_api` the same class speaks the other endpoint."""
    with openai.OpenAI(base_url=server.base_url, api_key=server.key) as client:
        store_id = next(store.id for store in client.vector_stores.list() if store.name == "handbook")
    model = chat(server, "scripted", use_responses_api=True)

    answer = model.bind_tools([{"type": "file_search", "vector_store_ids": [store_id]}]).invoke("Who is the harbour master?")

    assert "Ingrid Solberg" in answer.text
    annotations = [annotation for block in answer.content_blocks for annotation in block.get("annotations", [])]
    assert annotations


def test_embeddings(server) -> None:
    """Without its own count of tokens, for which tiktoken would download OpenAI's vocabulary."""
    embeddings = OpenAIEmbeddings(
        model="default", base_url=server.base_url, api_key=server.key, check_embedding_ctx_length=False
    )

    vectors = embeddings.embed_documents(["a boat in the port", "a ship in the harbour", "the price of bread"])

    assert math.dist(vectors[0], vectors[1]) < math.dist(vectors[0], vectors[2])
    assert embeddings.embed_query("the price of bread") == pytest.approx(vectors[2], abs=1e-4)


def test_typed_errors(server) -> None:
    with pytest.raises(openai.NotFoundError):
        chat(server, "rag/nowhere").invoke("hello")
    with pytest.raises(openai.AuthenticationError):
        ChatOpenAI(model="scripted", base_url=server.base_url, api_key="rag-wrong", max_retries=0).invoke("hello")
