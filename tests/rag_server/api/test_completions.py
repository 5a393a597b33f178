"""Text completions: passed through to the engine, or answered from a collection in the same shape."""

import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import httpx
import openai
import pytest
from openai.types import Completion, completion_create_params

from rag_server.protocols import Embedder
from tests.live import Live, live_server

QUESTION = "How many hours a day do cats sleep?"
ANSWER = "Cats sleep for sixteen hours a day."
# A value for every field of OpenAI's request.
FIELDS: dict[str, Any] = {
    "model": "scripted",
    "prompt": ["one", "two"],
    "best_of": 2,
    "echo": True,
    "frequency_penalty": 0.5,
    "logit_bias": {"50256": -100},
    "logprobs": 2,
    "max_tokens": 5,
    "n": 2,
    "presence_penalty": -1,
    "seed": 5,
    "stop": "never",
    "stream_options": {"include_usage": True},
    "suffix": "the end",
    "temperature": 0,
    "top_p": 1,
    "user": "u",
}
VLLM = {"top_k": 5, "structured_outputs": {"regex": "a+"}, "add_special_tokens": False}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server with a collection; what its engine is sent is kept."""
    with live_server(tmp_path_factory.mktemp("completions"), embedder) as server:
        store = server.create("docs")
        server.attach(store, server.upload("cats.md", f"# Cats\n\n{ANSWER} They hunt at dusk."))
        server.index_waiting()
        yield server


def ask(live: Live, **fields: Any) -> httpx.Response:
    return live.client.post("/v1/completions", json={"model": "scripted", "prompt": "one two", **fields})


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of a stream that must end in order."""
    lines = response.text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""], response.text
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def sent(live: Live) -> Any:
    """The last body that the engine was sent."""
    return json.loads(next(body for body in reversed(live.engine.sent) if body))


def test_values_are_there_for_every_field_of_openai() -> None:
    """The table above names each field of OpenAI's request."""
    assert set(get_type_hints(completion_create_params.CompletionCreateParamsBase)) == set(FIELDS)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("prompt", ["one", ["one", "two"], [5, 6], [[5], [6, 7]]])
def test_all_fields_reach_the_engine(live: Live, prompt: Any, *, stream: bool) -> None:
    """Every field arrives with the very value, in each form of a prompt, and the answer is the engine's."""
    request = {**FIELDS, **VLLM, "prompt": prompt, "stream": stream}

    response = ask(live, **request)

    assert response.status_code == 200, response.text
    assert sent(live) == request
    num_prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    answers = chunks(response) if stream else [response.json()]
    for answer in answers:
        Completion.model_validate({**answer, "choices": []}, strict=True)
    assert {choice["index"] for answer in answers for choice in answer["choices"]} == set(range(2 * num_prompts))
    assert answers[-1]["usage"]["total_tokens"] > 0


def test_stream_adds_up_to_the_completion(live: Live) -> None:
    """The parts of each choice join to its text, with null instead of a usage before the last chunk."""
    request = {"prompt": ["one", "two"], "n": 2, "echo": True}
    whole = ask(live, **request).json()
    parts = chunks(ask(live, **request, stream=True, stream_options={"include_usage": True}))

    for choice in whole["choices"]:
        own = [part for chunk in parts for part in chunk["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in own) == choice["text"]
        assert [part["finish_reason"] for part in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
    assert {chunk["usage"] for chunk in parts[:-1]} == {None}
    assert (parts[-1]["choices"], parts[-1]["usage"]) == ([], whole["usage"])
    assert len({chunk["id"] for chunk in parts}) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"prompt": [5] * 1_000_001}, "prompt"),
        ({"prompt": ["a"] * 100, "n": 21}, "prompt"),
        ({"prompt": [[5]] * 103, "best_of": 20}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"best_of": 21}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": 1}, "echo"),
        ({"stream": "yes"}, "stream"),
        ({"suffix": 5}, "suffix"),
        ({"rag": {}}, "rag.vector_store_ids"),
        ({"model": "rag/docs", "prompt": ["a", "b"]}, "prompt"),
        ({"model": "rag/docs", "prompt": [5]}, "prompt"),
        ({"model": "rag/docs", "prompt": " "}, "messages"),
        ({"model": "rag/docs", "echo": True}, "echo"),
        ({"model": "rag/docs", "suffix": "x"}, "suffix"),
        ({"model": "rag/docs", "best_of": 2}, "best_of"),
    ],
)
def test_what_is_beyond_its_bounds_does_not_reach_the_engine(live: Live, fields: dict, param: str) -> None:
    """What is of the wrong type or costs too much is 400 and names the field; the engine hears nothing of it."""
    before = len(live.engine.sent)

    response = ask(live, **fields)

    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert len(live.engine.sent) == before


def test_missing_prompt_is_named(live: Live) -> None:
    """Without a prompt there is nothing to continue."""
    response = live.client.post("/v1/completions", json={"model": "scripted"})

    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")


@pytest.mark.parametrize("model", ["none", "rag/none"])
def test_unknown_model_is_not_found(live: Live, model: str) -> None:
    """Neither the engine nor a collection has it."""
    response = ask(live, model=model)

    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


def test_prompt_is_answered_from_a_collection(live: Live) -> None:
    """The answer to the prompt comes as a text completion, with the passages and checked citations."""
    answer = ask(live, model="rag/docs", prompt=QUESTION, logprobs=2).json()

    Completion.model_validate(answer, strict=True)
    (choice,) = answer["choices"]
    (citation,) = answer["rag"]["citations"]
    assert choice["text"] == f"{ANSWER} [1]"
    assert choice["text"][citation["answer_start"] : citation["answer_end"]] == "[1]"
    assert citation["verified"]
    assert answer["rag"]["passages"][0]["filename"] == "cats.md"
    assert (answer["model"], answer["object"], choice["finish_reason"]) == ("rag/docs", "text_completion", "stop")
    for offset, token in zip(choice["logprobs"]["text_offset"], choice["logprobs"]["tokens"], strict=True):
        assert choice["text"][offset:].startswith(token)
    assert {len(top) for top in choice["logprobs"]["top_logprobs"]} == {2}
    assert len(choice["logprobs"]["token_logprobs"]) == len(choice["logprobs"]["tokens"])


def test_streamed_answer_from_a_collection_adds_up(live: Live) -> None:
    """Passages come first, citations last, and the rest is what the whole answer has."""
    request = {"model": "rag/docs", "prompt": [QUESTION], "n": 2, "logprobs": 1}
    whole = ask(live, **request).json()

    parts = chunks(ask(live, **request, stream=True, stream_options={"include_usage": True}))

    assert {chunk["object"] for chunk in parts} == {"text_completion"}
    for choice in whole["choices"]:
        own = [part for chunk in parts for part in chunk["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in own) == choice["text"]
        offsets = [offset for part in own if part["logprobs"] for offset in part["logprobs"]["text_offset"]]
        assert offsets == choice["logprobs"]["text_offset"]
    assert [passage["id"] for passage in parts[0]["rag"]["passages"]] == [passage["id"] for passage in whole["rag"]["passages"]]
    assert parts[-1]["rag"]["citations"] == whole["rag"]["citations"]
    assert parts[-1]["usage"] == whole["usage"]


def test_rag_object_chooses_collections(live: Live) -> None:
    """An engine's model with a `rag` object answers from what that names."""
    answer = ask(live, prompt=QUESTION, rag={"vector_store_ids": ["docs"], "num_passages": 1}).json()

    assert answer["model"] == "scripted"
    assert len(answer["rag"]["passages"]) == 1


async def test_official_clients_complete(live: Live) -> None:
    """OpenAI's clients read both forms."""
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        whole = client.completions.create(model="rag/docs", prompt=QUESTION)
        plain = client.completions.create(model="scripted", prompt="one two", max_tokens=2)
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        stream = await client.completions.create(model="rag/docs", prompt=QUESTION, stream=True)
        streamed = "".join([chunk.choices[0].text async for chunk in stream])

    assert whole.choices[0].text == streamed == f"{ANSWER} [1]"
    assert (plain.choices[0].text, plain.choices[0].finish_reason) == ("You said:", "length")
