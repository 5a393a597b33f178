"""The openai-agents package against a live server: tools, file search, both APIs, streams."""

from collections.abc import AsyncIterator

import pytest
from agents import (
    Agent,
    FileSearchTool,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
)
from openai import AsyncOpenAI
from pydantic import BaseModel


class Crossing(BaseModel):
    """What a structured answer is parsed into."""

    ferry: str
    minutes: int


@function_tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"fog at {place}"


@pytest.fixture
async def client(server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as client:
        yield client


@pytest.fixture
async def handbook(client: AsyncOpenAI) -> str:
    return next(store.id for store in (await client.vector_stores.list()).data if store.name == "handbook")


@pytest.mark.parametrize("kind", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
async def test_an_agent_calls_a_tool_and_uses_its_result(client: AsyncOpenAI, kind: type) -> None:
    agent = Agent(name="pilot", model=kind(model="scripted", openai_client=client), tools=[weather])

    result = await Runner.run(agent, 'call weather with {"place": "Utsira"}')

    assert "fog at Utsira" in result.final_output


async def test_an_agent_searches_files_and_cites_them(client: AsyncOpenAI, handbook: str) -> None:
    search = FileSearchTool(vector_store_ids=[handbook], max_num_results=3, include_search_results=True)
    model = OpenAIResponsesModel(model="scripted", openai_client=client)
    agent = Agent(name="clerk", model=model, tools=[search])

    result = await Runner.run(agent, "Who is the harbour master?")

    assert "Ingrid Solberg" in result.final_output
    output = [item for response in result.raw_responses for item in response.output]
    searched = next(item for item in output if item.type == "file_search_call")
    assert "harbour.md" in [found.filename for found in searched.results]
    message = next(item for item in output if item.type == "message")
    assert [annotation.filename for annotation in message.content[0].annotations if annotation.type == "file_citation"]


async def test_an_agent_streams(client: AsyncOpenAI, handbook: str) -> None:
    search = FileSearchTool(vector_store_ids=[handbook])
    agent = Agent(name="clerk", model=OpenAIResponsesModel(model="scripted", openai_client=client), tools=[search])

    result = Runner.run_streamed(agent, "Who is the harbour master?")
    deltas = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]

    assert "".join(deltas) == result.final_output
    assert "Ingrid Solberg" in result.final_output


async def test_an_agent_answers_in_a_structure(client: AsyncOpenAI) -> None:
    model = OpenAIResponsesModel(model="scripted", openai_client=client)
    agent = Agent(name="clerk", model=model, output_type=Crossing, model_settings=ModelSettings(temperature=0))

    result = await Runner.run(agent, "The next crossing?")

    assert isinstance(result.final_output, Crossing)


async def test_an_agent_goes_on_from_the_response_before(client: AsyncOpenAI) -> None:
    agent = Agent(name="clerk", model=OpenAIResponsesModel(model="scripted", openai_client=client))

    first = await Runner.run(agent, "my boat is called Skarv")
    second = await Runner.run(agent, "and now?", previous_response_id=first.last_response_id)

    assert second.raw_responses[0].usage.input_tokens > first.raw_responses[0].usage.input_tokens
