"""The scripted engine: the protocol that it speaks, its answers, and its misbehaviour."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import jsonschema_rs
import numpy as np
import pytest

from rag_server.engines.scripted_answers import count_tokens, scripted_answer
from rag_server.prompt import build_prompt
from rag_server.types import Passage

StartEngine = Callable[..., AbstractContextManager[str]]
HELLO = [{"role": "user", "content": "one two three"}]
BODY = {"model": "scripted", "messages": HELLO}
HEADERS = {"content-type": "application/json"}


@pytest.fixture
def engine(scripted_engine: StartEngine) -> Callable[..., AbstractContextManager[httpx.Client]]:
    """Start an engine and give a client of it: `with engine(answer=...) as client`."""

    class Started:
        def __init__(self, **script: object) -> None:
            self._running = scripted_engine(**script)

        def __enter__(self) -> httpx.Client:
            self._client = httpx.Client(base_url=self._running.__enter__(), trust_env=False, timeout=30.0)
            return self._client

        def __exit__(self, *error: object) -> None:
            self._client.close()
            self._running.__exit__(*error)

    return Started


def chat(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/chat/completions", json={**BODY, **fields})


def events(response: httpx.Response) -> Iterator[dict]:
    """Yield the objects of a stream, and see to its framing and its end."""
    parts = response.text.split("\n\n")

    assert response.headers["content-type"].startswith("text/event-stream")
    assert parts[-2:] == ["data: [DONE]", ""]
    for part in parts[:-2]:
        yield json.loads(part.removeprefix("data: "))


def stats(client: httpx.Client) -> dict[str, int]:
    return client.get(str(client.base_url).replace("/v1/", "/scripted/stats")).json()


def wait_for_stats(client: httpx.Client, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + 10
    while stats(client) != expected:
        assert time.monotonic() < deadline, stats(client)
        time.sleep(0.01)


def passage(text: str, number: int) -> Passage:
    return Passage(number, "d", "f", "a.txt", f"Title {number}", text, 0, len(text), 1.0, number)


async def count(_: object) -> int:
    return 0


async def test_answer_is_the_sentence_that_shares_most_words() -> None:
    """Of a prompt of rag_server/prompt.py the best passage's best sentence comes back, with its mark."""
    texts = ["Dogs bark.", "It rains. Cats sleep all day long! Then they eat.", "Fish swim all day."]
    passages = [passage(text, number) for number, text in enumerate(texts, start=1)]
    question = [{"role": "user", "content": "How long do cats sleep?"}]
    prompt = await build_prompt(question, passages, place=list, count_tokens=count, max_tokens=1)

    assert scripted_answer(prompt.messages) == "Cats sleep all day long! [2]"


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        (HELLO, "You said: one two three"),
        ([*HELLO, {"role": "assistant", "content": "four"}], "You said: one two three"),
        ([{"role": "user", "content": [{"type": "text", "text": "parts"}, {"type": "image_url"}]}], "You said: parts"),
        ([{"role": "system", "content": "be brief"}], "You said: "),
        ([], "You said: "),
    ],
)
def test_without_passages_the_question_is_said_back(messages: list[dict], answer: str) -> None:
    """A conversation without passages is answered with its last user message."""
    assert scripted_answer(messages) == answer


def test_completion_has_the_protocols_shape(engine: Callable) -> None:
    """A completion names its model and reason to stop, counts its tokens, and ignores fields that it does not know."""
    with engine(answer="a b c") as client:
        answer = chat(client, n=2, seed=7, temperature=0.3, rag={"x": 1}).json()

    assert (answer["object"], answer["model"]) == ("chat.completion", "scripted")
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert {choice["message"]["content"] for choice in answer["choices"]} == {"a b c"}
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"stop"}
    assert [answer["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")] == [3, 6, 9]


def test_stream_adds_up_to_the_completion(engine: Callable) -> None:
    """The chunks of each choice join to its text; the first names the role, the last the reason, the usage comes on demand."""
    with engine(answer=" a  b\nc ") as client:
        whole = chat(client).json()["choices"][0]["message"]["content"]
        chunks = list(events(chat(client, stream=True, n=2, stream_options={"include_usage": True})))
        without_usage = list(events(chat(client, stream=True)))

    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert whole == " a  b\nc "
    for index in (0, 1):
        own = [choice for choice in choices if choice["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in own) == whole
        assert own[0]["delta"]["role"] == "assistant"
        assert [choice["finish_reason"] for choice in own] == [None] * (len(own) - 1) + ["stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 3
    assert not any("usage" in chunk for chunk in without_usage)
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("limit", "answer", "reason"), [(2, "a b", "length"), (3, "a b c", "stop"), (4, "a b c", "stop")])
def test_answer_is_cut_at_its_limit(engine: Callable, field: str, limit: int, answer: str, reason: str) -> None:
    """The limit on tokens is kept, and told as the reason only where it cut."""
    with engine(answer="a b c") as client:
        choice = chat(client, **{field: limit}).json()["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == (answer, reason)


def test_tokens_are_words(engine: Callable) -> None:
    """/tokenize counts the words of messages or of a prompt, as the usage does, and tells the context length."""
    with engine(context_length=50) as client:
        url = str(client.base_url).replace("/v1/", "/tokenize")
        of_messages = client.post(url, json={"model": "scripted", "messages": HELLO}).json()
        of_prompt = client.post(url, json={"model": "scripted", "prompt": "one two one two"}).json()
        shown = client.post(url, json={"model": "scripted", "prompt": "one two one two", "return_token_strs": True}).json()
        model = client.get("/models").json()["data"][0]

    assert of_messages == {"count": 3, "max_model_len": 50, "tokens": [0, 1, 2], "token_strs": None}
    assert of_prompt["count"] == count_tokens("one two one two") == 4
    # Equal words, with the space before them, are equal tokens.
    assert shown["token_strs"] == ["one", " two", " one", " two"]
    assert shown["tokens"] == of_prompt["tokens"]
    assert shown["tokens"][1] == shown["tokens"][3] != shown["tokens"][0]
    assert (model["id"], model["max_model_len"]) == ("scripted", 50)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"not json", 400),
        (b"[]", 400),
        (b'{"model": "scripted"}', 400),
        (b'{"model": "other", "messages": []}', 404),
        (json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "w " * 5}]}).encode(), 400),
    ],
)
def test_bad_requests_are_refused(engine: Callable, body: bytes, status: int) -> None:
    """A body that is none, an unknown model and a prompt that leaves no room for an answer are errors of the client."""
    with engine(context_length=5) as client:
        response = client.post("/chat/completions", content=body, headers=HEADERS)

    assert response.status_code == status
    assert response.json()["error"]["message"]


def test_every_nth_request_fails(engine: Callable) -> None:
    """`fail_every` makes each n-th request a 503 that says when to come back."""
    with engine(fail_every=3) as client:
        responses = [chat(client) for _ in range(6)]

    assert [response.status_code for response in responses] == [200, 200, 503, 200, 200, 503]
    assert responses[2].headers["retry-after"] == "1"


def test_broken_stream_is_a_cut_connection(engine: Callable) -> None:
    """`break_after_tokens` cuts the connection after that many tokens, which is more than an end without [DONE]."""
    received = ""
    with engine(answer="a b c d", break_after_tokens=2) as client:
        with client.stream("POST", "/chat/completions", json={**BODY, "stream": True}) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                for text in response.iter_text():
                    received += text
        seen = stats(client)

    contents = [json.loads(line[6:])["choices"][0]["delta"].get("content") for line in received.split("\n\n") if line]
    assert contents == ["", "a", " b"]
    assert seen == {"requests": 1, "finished": 0, "aborted": 1, "running": 0}


def test_answer_shorter_than_the_break_is_whole(engine: Callable) -> None:
    """A stream that ends before the break ends in order."""
    with engine(answer="a", break_after_tokens=2) as client:
        assert len(list(events(chat(client, stream=True)))) == 3


@pytest.mark.parametrize("stream", [True, False])
def test_speed_is_as_scripted(engine: Callable, *, stream: bool) -> None:
    """The first token comes after its time, and the others at their rate."""
    with engine(answer="a b c d e", time_to_first_token_s=0.2, tokens_per_s=50) as client:
        started = time.monotonic()
        chat(client, stream=stream)
        elapsed_s = time.monotonic() - started

    assert elapsed_s >= 0.2 + 5 / 50


@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_is_counted_at_once(engine: Callable, *, stream: bool) -> None:
    """An answer that nobody waits for is given up, and counts as aborted, long before it would have been finished."""
    with engine(answer="w " * 1000, tokens_per_s=1) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/chat/completions", json={**BODY, "stream": stream}, timeout=0.5)
        wait_for_stats(client, {"requests": 1, "finished": 0, "aborted": 1, "running": 0})


def test_finished_answers_are_counted(engine: Callable) -> None:
    """Answers that were sent to their end count as finished, streamed or not."""
    with engine() as client:
        chat(client)
        chat(client, stream=True)

        assert stats(client) == {"requests": 2, "finished": 2, "aborted": 0, "running": 0}


def test_running_answers_are_counted(engine: Callable) -> None:
    """Answers on their way count as running, streamed or not, until they end."""
    with engine(answer="w " * 1000, tokens_per_s=20) as client:
        with client.stream("POST", "/chat/completions", json={**BODY, "stream": True}) as response:
            lines = response.iter_lines()
            next(lines)
            wait_for_stats(client, {"requests": 1, "finished": 0, "aborted": 0, "running": 1})
        wait_for_stats(client, {"requests": 1, "finished": 0, "aborted": 1, "running": 0})


# What is said on demand

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string"},
                "days": {"type": "integer", "minimum": 2},
                "unit": {"enum": ["C", "F"]},
            },
            "required": ["place", "days", "unit"],
        },
    },
}


def calls(client: httpx.Client, text: str, **fields: object) -> list[tuple[str, object]]:
    """The tool calls of an answer, which must be the same in a stream."""
    request = {"messages": [{"role": "user", "content": text}], "tools": [TOOL], **fields}
    message = chat(client, **request).json()["choices"][0]["message"]
    whole = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])]
    parts: dict[int, list[str]] = {}
    for chunk in events(chat(client, **request, stream=True)):
        for part in chunk["choices"][0]["delta"].get("tool_calls", []):
            name, arguments = parts.setdefault(part["index"], ["", ""])
            function = part["function"]
            parts[part["index"]] = [name + function.get("name", ""), arguments + function["arguments"]]
    assert [tuple(part) for part in parts.values()] == whole
    return [(name, json.loads(arguments)) for name, arguments in whole]


def test_tools_are_called_when_the_user_says_so(engine: Callable) -> None:
    """The words of the user, or the tool choice, call tools; a passage, an unknown tool or `none` do not."""
    one = 'call weather with {"place": {"name": "Köln"}}'
    instance = {"place": "scripted", "days": 2, "unit": "C"}
    with engine() as client:
        assert calls(client, one) == [("weather", {"place": {"name": "Köln"}})]
        assert calls(client, f"{one} and {one}", parallel_tool_calls=False) == calls(client, one)
        assert len(calls(client, f"{one} and {one}")) == 2
        assert calls(client, f"Passages:\n---\n[1] a\n{one}\n---\n\nQuestion: What?") == []
        assert calls(client, "call other with {}") == calls(client, "call weather with {nonsense") == []
        assert calls(client, one, tool_choice="none") == []
        assert calls(client, "hello", tool_choice="required") == [("weather", instance)]
        assert calls(client, "hello", tool_choice={"type": "function", "function": {"name": "weather"}}) == [
            ("weather", instance)
        ]
        after = [{"role": "user", "content": one}, {"role": "tool", "content": "rain", "tool_call_id": "c"}]
        assert chat(client, messages=after, tools=[TOOL]).json()["choices"][0]["message"]["content"] == "The tool said: rain"


SCHEMA = {
    "$defs": {"Part": {"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {}]}}, "required": ["next"]}},
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 12, "maxLength": 12},
        "count": {"type": ["null", "integer"], "minimum": 3},
        "kind": {"const": "x"},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}, "minItems": 2},
        "open": {"type": "boolean"},
        "left_out": {"type": "number"},
    },
    "required": ["name", "count", "kind", "parts", "open"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [SCHEMA, {"type": "object"}, {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}}])
def test_structured_answer_fits_its_schema(engine: Callable, schema: dict) -> None:
    """An answer with a response_format is JSON that a validator of the standard accepts."""
    response_format = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    with engine() as client:
        content = chat(client, response_format=response_format).json()["choices"][0]["message"]["content"]

    jsonschema_rs.validator_for(schema).validate(json.loads(content))


def test_log_probabilities_are_of_the_tokens(engine: Callable) -> None:
    """Each token has as many likeliest ones as asked for, the most likely first, and the stream has the same."""
    with engine(answer="a b") as client:
        whole = chat(client, logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]
        parts = [chunk["choices"][0]["logprobs"] for chunk in events(chat(client, logprobs=True, top_logprobs=2, stream=True))]
        without = chat(client).json()["choices"][0]["logprobs"]

    assert [entry["token"] for entry in whole["content"]] == ["a", " b"]
    for entry in whole["content"]:
        assert bytes(entry["bytes"]).decode() == entry["token"] == entry["top_logprobs"][0]["token"]
        assert entry["top_logprobs"][0]["logprob"] > entry["top_logprobs"][1]["logprob"]
    assert [entry for part in parts if part for entry in part["content"]] == whole["content"]
    assert without is None


def test_stop_and_seed_are_heeded(engine: Callable) -> None:
    """An answer ends before the first stop string, and the fingerprint says which seed arrived."""
    with engine(answer="one two three") as client:
        answer = chat(client, stop=["three", " two"], seed=7).json()

    assert answer["choices"][0]["message"]["content"] == "one"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["system_fingerprint"] == "scripted-7"


def test_text_completions_answer_each_prompt(engine: Callable) -> None:
    """Each prompt has its choices in order, echoed on demand, and token ids mean the words of /tokenize."""
    with engine() as client:
        url = str(client.base_url).replace("/v1/", "/tokenize")
        ids = client.post(url, json={"model": "scripted", "prompt": "three four"}).json()["tokens"]
        request = {"model": "scripted", "prompt": ["one", "two"], "n": 2, "echo": True}
        texts = [choice["text"] for choice in client.post("/completions", json=request).json()["choices"]]
        of_tokens = client.post("/completions", json={"model": "scripted", "prompt": ids, "max_tokens": 3}).json()["choices"]
        refused = client.post("/completions", json={"model": "scripted"})

    assert texts == ["oneYou said: one"] * 2 + ["twoYou said: two"] * 2
    assert [(choice["text"], choice["finish_reason"]) for choice in of_tokens] == [("You said: three", "length")]
    assert refused.status_code == 400


def test_embeddings_depend_on_the_text_alone(engine: Callable) -> None:
    """Equal texts have equal unit vectors of the dimension asked for, others have others, and base64 says the same."""
    request = {"model": "scripted", "input": ["a", "b", "a"], "dimensions": 40}
    with engine() as client:
        data = client.post("/embeddings", json=request).json()["data"]
        coded = client.post("/embeddings", json={**request, "encoding_format": "base64"}).json()["data"]

    vectors = np.array([found["embedding"] for found in data])
    decoded = np.stack([np.frombuffer(base64.b64decode(found["embedding"]), "<f4") for found in coded])
    assert vectors.shape == (3, 40)
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] != vectors[1]).any()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    np.testing.assert_allclose(decoded, vectors, atol=1e-6)
