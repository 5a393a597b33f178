"""LlamaIndex's OpenAI-like models against a live server; it asks for the openai package's major version before."""

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

QUESTION = [ChatMessage(role="user", content="Who is the harbour master?")]


class Crossing(BaseModel):
    """What a structured answer is parsed into."""

    ferry: str
    minutes: int


def model(server, name: str = "rag/handbook", **fields: object) -> OpenAILike:
    options = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 8192, "max_retries": 0, **fields}
    return OpenAILike(model=name, api_base=server.base_url, api_key=server.key, **options)


def test_chat_whole_and_streamed(server) -> None:
    whole = model(server).chat(QUESTION)
    parts = list(model(server).stream_chat(QUESTION))

    assert "Ingrid Solberg" in whole.message.content
    assert parts[-1].message.content == whole.message.content
    assert "".join(part.delta or "" for part in parts) == whole.message.content


def test_completions_as_chat_and_as_text(server) -> None:
    """`complete` asks the chat endpoint of a chat model, and the completions endpoint of another."""
    assert "good morning" in model(server, "scripted").complete("good morning").text
    assert model(server, "scripted", is_chat_model=False, is_function_calling_model=False).complete("good morning").text


async def test_the_asynchronous_calls(server) -> None:
    whole = await model(server).achat(QUESTION)
    parts = [part async for part in await model(server).astream_chat(QUESTION)]

    assert "Ingrid Solberg" in whole.message.content
    assert parts[-1].message.content == whole.message.content


def test_a_tool_is_called(server) -> None:
    tool = FunctionTool.from_defaults(lambda place: f"fog at {place}", name="weather", description="The weather of a place.")
    asked = model(server, "scripted")

    answer = asked.chat_with_tools([tool], user_msg='call weather with {"place": "Utsira"}')

    (call,) = asked.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("weather", {"place": "Utsira"})


def test_a_structured_answer_is_parsed(server) -> None:
    structured = model(server, "scripted", should_use_structured_outputs=True).as_structured_llm(Crossing)

    assert isinstance(structured.complete("The next crossing?").raw, Crossing)


def test_embeddings(server) -> None:
    embedding = OpenAILikeEmbedding(model_name="default", api_base=server.base_url, api_key=server.key)

    vectors = embedding.get_text_embedding_batch(["the ferry", "the harbour"])

    assert [len(vector) for vector in vectors] == [384, 384]
    assert embedding.get_query_embedding("the ferry") == pytest.approx(vectors[0], abs=1e-4)
