"""Models, completions and embeddings with the openai package."""

import math

import pytest
from openai import AsyncOpenAI, OpenAI


@pytest.fixture
def embedding_model(client: OpenAI) -> str:
    """The model that the server's own vectors are made with."""
    return next(model.id for model in client.models.list() if "minilm" in model.id.lower())


def test_models_are_those_of_the_engine_and_the_collections(client: OpenAI) -> None:
    assert {"scripted", "rag/handbook"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("rag/handbook").id == "rag/handbook"
    assert client.models.retrieve("scripted").object == "model"


def test_a_completion_whole_and_streamed(lenient_client: OpenAI) -> None:
    whole = lenient_client.completions.create(model="scripted", prompt="say it", max_tokens=8)
    streamed = lenient_client.completions.create(model="scripted", prompt="say it", max_tokens=8, stream=True)

    assert whole.choices[0].text
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == whole.choices[0].text
    assert whole.usage.completion_tokens > 0


def test_embeddings_come_in_base64_by_default_and_as_numbers_on_request(lenient_client: OpenAI, embedding_model: str) -> None:
    """The package asks for base64 and decodes it; both are the same vector of length one."""
    decoded = lenient_client.embeddings.create(model=embedding_model, input="the ferry").data[0].embedding
    numbers = (
        lenient_client.embeddings.create(model=embedding_model, input="the ferry", encoding_format="float").data[0].embedding
    )

    assert decoded == pytest.approx(numbers, abs=1e-6)
    assert math.hypot(*decoded) == pytest.approx(1.0, abs=1e-3)


def test_embeddings_keep_the_order_of_the_texts(lenient_client: OpenAI, embedding_model: str) -> None:
    """A text has the vector that it has alone, and what means the same is nearer than what does not."""
    texts = ["a boat in the port", "a ship in the harbour", "the price of bread"]
    vectors = [item.embedding for item in lenient_client.embeddings.create(model=embedding_model, input=texts).data]
    alone = lenient_client.embeddings.create(model=embedding_model, input=texts[2]).data[0].embedding

    assert vectors[2] == pytest.approx(alone, abs=1e-4)
    assert math.dist(vectors[0], vectors[1]) < math.dist(vectors[0], vectors[2])


async def test_the_asynchronous_client_embeds_and_lists(async_client: AsyncOpenAI, embedding_model: str) -> None:
    made = await async_client.embeddings.create(model=embedding_model, input=["one", "two"])

    assert [item.index for item in made.data] == [0, 1]
    assert "rag/handbook" in [model.id async for model in async_client.models.list()]
