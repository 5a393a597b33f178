"""LiteLLM against a live server: chat, completions, embeddings, responses and reranking through its adapters."""

import litellm
import pytest

QUESTION = [{"role": "user", "content": "Who is the harbour master?"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}},
}


@pytest.fixture
def connection(server) -> dict[str, str]:
    return {"api_base": server.base_url, "api_key": server.key}


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_a_chat_completion(connection, provider: str) -> None:
    answer = litellm.completion(model=f"{provider}/rag/handbook", messages=QUESTION, **connection)

    assert "Ingrid Solberg" in answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


def test_a_stream_with_usage(connection) -> None:
    chunks = list(
        litellm.completion(
            model="openai/rag/handbook",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
            **connection,
        )
    )
    answer = litellm.stream_chunk_builder(chunks)

    assert "Ingrid Solberg" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


async def test_the_asynchronous_calls(connection) -> None:
    answer = await litellm.acompletion(model="openai/scripted", messages=[{"role": "user", "content": "hello"}], **connection)

    assert "hello" in answer.choices[0].message.content


def test_a_tool_is_called(connection) -> None:
    answer = litellm.completion(
        model="openai/scripted",
        messages=[{"role": "user", "content": 'call weather with {"place": "Utsira"}'}],
        tools=[TOOL],
        **connection,
    )

    (call,) = answer.choices[0].message.tool_calls
    assert (call.function.name, "Utsira" in call.function.arguments) == ("weather", True)


def test_a_text_completion(connection) -> None:
    answer = litellm.text_completion(model="text-completion-openai/scripted", prompt="say it", max_tokens=8, **connection)

    assert answer.choices[0].text


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_embeddings(connection, provider: str) -> None:
    answer = litellm.embedding(
        model=f"{provider}/default", input=["the ferry", "the harbour"], encoding_format="float", **connection
    )

    assert [len(item["embedding"]) for item in answer.data] == [384, 384]


@pytest.mark.parametrize(("provider", "path"), [("hosted_vllm", "/v1"), ("cohere", "/v2/rerank"), ("jina_ai", "/v1/rerank")])
def test_reranking_through_each_adapter(server, provider: str, path: str) -> None:
    """Each speaks a dialect of its own; all get the same order."""
    documents = ["The ferry leaves at seven.", "The lighthouse was built in 1859."]

    answer = litellm.rerank(
        model=f"{provider}/none",
        query="When was it built?",
        documents=documents,
        top_n=2,
        api_base=server.url + path,
        api_key=server.key,
    )

    assert [result["index"] for result in answer.results] == [0, 1]
    assert [result["relevance_score"] for result in answer.results] == [1.0, 0.5]


def test_a_response(connection) -> None:
    answer = litellm.responses(model="openai/scripted", input="good morning", **connection)

    assert "good morning" in answer.output[0].content[0].text


def test_typed_errors(connection) -> None:
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(model="openai/scripted", messages=QUESTION, api_base=connection["api_base"], api_key="rag-wrong")
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/rag/nowhere", messages=QUESTION, **connection)
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(model="openai/scripted", messages=QUESTION, n=1000, **connection)
