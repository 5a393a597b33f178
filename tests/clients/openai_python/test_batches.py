"""Batches with the openai package: a file is uploaded, a batch made of it, and its output downloaded."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator

import openai
import pytest
from openai import OpenAI
from openai.types import Batch

CHAT = "/v1/chat/completions"
ENDS_WITHIN_S = 120.0
ENDED = ("completed", "failed", "expired", "cancelled")
# Of each endpoint that a batch may have, a body that is answered.
BODIES = {
    CHAT: {"model": "rag/handbook", "messages": [{"role": "user", "content": "Who is the harbour master?"}]},
    "/v1/completions": {"model": "scripted", "prompt": "The harbour closes"},
    "/v1/embeddings": {"model": "scripted", "input": "The harbour closes"},
    "/v1/responses": {"model": "scripted", "input": "When does the harbour close?"},
}


def line(custom_id: str, body: dict[str, object] | None = None, **fields: object) -> dict[str, object]:
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body or BODIES[CHAT], **fields}


@pytest.fixture
def upload(client: OpenAI) -> Iterator[Callable[[Iterable[object]], str]]:
    """Upload lines for a batch; return the id of the file, which is gone after the test, as are the outputs of its batches."""
    made: list[str] = []

    def call(lines: Iterable[object]) -> str:
        text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
        made.append(client.files.create(file=("requests.jsonl", text.encode()), purpose="batch").id)
        return made[-1]

    yield call
    for batch in client.batches.list():
        if batch.input_file_id in made:
            for file_id in {batch.output_file_id, batch.error_file_id} - {None}:
                client.files.delete(file_id)
    for file_id in made:
        client.files.delete(file_id)


def ended(client: OpenAI, batch: Batch) -> Batch:
    """Poll until a batch has ended."""
    gives_up_at = time.monotonic() + ENDS_WITHIN_S
    while (found := client.batches.retrieve(batch.id)).status not in ENDED:
        assert time.monotonic() < gives_up_at, found
        time.sleep(0.1)
    return found


def rows(client: OpenAI, file_id: str | None) -> dict[str, dict]:
    """Return the lines of a file by their custom_id; each is there once."""
    assert file_id is not None
    found = [json.loads(one) for one in client.files.content(file_id).text.splitlines()]
    assert len({row["custom_id"] for row in found}) == len(found)
    return {row["custom_id"]: row for row in found}


def test_a_batch_is_made_polled_and_downloaded(client: OpenAI, upload) -> None:
    """Answers come in one file, refusals in the other, and each request is in one of them, once."""
    asked = [line(f"question {number}") for number in range(5)]
    asked.append(line("faulty", {**BODIES[CHAT], "messages": []}))
    made = client.batches.create(
        input_file_id=upload(asked), endpoint=CHAT, completion_window="24h", metadata={"for": "the harbour"}
    )
    assert (made.object, made.endpoint, made.completion_window, made.metadata) == ("batch", CHAT, "24h", {"for": "the harbour"})
    assert made.status in ("validating", "in_progress")
    assert made.expires_at == made.created_at + 24 * 3600

    batch = ended(client, made)

    assert batch.status == "completed"
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (6, 5, 1)
    assert made.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    answers, errors = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
    assert set(answers) == {f"question {number}" for number in range(5)}
    answer = answers["question 0"]
    assert (answer["error"], answer["response"]["status_code"]) == (None, 200)
    assert "Ingrid Solberg" in answer["response"]["body"]["choices"][0]["message"]["content"]
    assert set(errors) == {"faulty"}
    assert errors["faulty"]["response"]["status_code"] == 400
    assert errors["faulty"]["response"]["body"]["error"]["param"] == "messages"
    output = client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")


@pytest.mark.parametrize("endpoint", BODIES)
def test_every_endpoint_that_a_batch_may_have(client: OpenAI, upload, endpoint: str) -> None:
    """An answer in the output is what the endpoint answers a request of its own, but for names and times."""
    file_id = upload([line("one", BODIES[endpoint], url=endpoint)])

    batch = ended(client, client.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window="24h"))

    alone = client.post(endpoint.removeprefix("/v1"), body=BODIES[endpoint], cast_to=object)
    body = rows(client, batch.output_file_id)["one"]["response"]["body"]
    assert set(body) == set(alone)
    assert body["object"] == alone["object"]
    assert (batch.usage.total_tokens > 0) == (alone["usage"]["total_tokens"] > 0)
    for name in ("data", "usage"):
        if name in alone:
            assert body[name] == alone[name]


def test_batches_are_listed_page_by_page(client: OpenAI, upload) -> None:
    """The newest comes first; the package asks for the next page until there is none."""
    file_id = upload([line("one")])
    made = [client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h").id for _ in range(3)]
    for batch_id in made:
        ended(client, client.batches.retrieve(batch_id))

    listed = [batch.id for batch in client.batches.list(limit=2)]

    assert [batch_id for batch_id in listed if batch_id in made] == sorted(made, key=listed.index)
    assert set(made) <= set(listed[:3])
    assert len(set(listed)) == len(listed)


def test_a_batch_is_cancelled(client: OpenAI, upload) -> None:
    """What was not answered by then is in the file of errors: no request is lost, none is there twice."""
    words = " ".join(f"word{number}" for number in range(500))
    asked = [
        {**BODIES[CHAT], "model": "scripted", "messages": [{"role": "user", "content": f"{number} {words}"}]}
        for number in range(3000)
    ]
    file_id = upload(line(f"r{number}", body) for number, body in enumerate(asked))
    made = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")

    assert client.batches.cancel(made.id).status == "cancelling"
    batch = ended(client, made)

    assert batch.status == "cancelled"
    assert batch.cancelling_at <= batch.cancelled_at
    answers = rows(client, batch.output_file_id) if batch.output_file_id else {}
    errors = rows(client, batch.error_file_id) if batch.error_file_id else {}
    assert answers.keys().isdisjoint(errors)
    assert {row["error"]["code"] for row in errors.values()} <= {"batch_cancelled"}
    assert len(answers) + len(errors) == batch.request_counts.total
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(made.id)


FAULTY = [
    ([line("a"), "{"], "invalid_json_line", 2, None),
    ([line("a"), line("b", url="/v1/embeddings")], "url_mismatch", 2, "url"),
    ([line("a"), line("b"), line("a")], "duplicate_custom_id", 3, "custom_id"),
    ([line("a", {**BODIES[CHAT], "model": "no-such-model"})], "model_not_found", 1, "body.model"),
    ([line("a", {**BODIES[CHAT], "model": "rag/nowhere"})], "model_not_found", 1, "body.model"),
    ([line("a", method="GET")], "invalid_method", 1, "method"),
    ([line("a", {**BODIES[CHAT], "stream": True})], "invalid_value", 1, "body.stream"),
    ([""], "empty_file", None, None),
]


@pytest.mark.parametrize(("asked", "code", "number", "param"), FAULTY, ids=[case[1] for case in FAULTY])
def test_a_faulty_file_fails_the_batch_and_says_where(client: OpenAI, upload, asked, code, number, param) -> None:
    """No request of it is answered; the error names the line and the field."""
    batch = ended(client, client.batches.create(input_file_id=upload(asked), endpoint=CHAT, completion_window="24h"))

    assert batch.status == "failed"
    assert [(error.code, error.line, error.param) for error in batch.errors.data] == [(code, number, param)]
    assert batch.errors.data[0].message
    assert (batch.output_file_id, batch.request_counts.completed) == (None, 0)


def test_what_is_no_batch_is_refused_at_once(client: OpenAI, upload) -> None:
    """Files that are not there or not for batches, and endpoints and windows that there are none of."""
    with contextlib.ExitStack() as stack:
        other = client.files.create(file=("notes.txt", b"notes"), purpose="assistants").id
        stack.callback(client.files.delete, other)
        good = {"input_file_id": upload([line("a")]), "endpoint": CHAT, "completion_window": "24h"}
        for changed, raised, param in (
            ({"input_file_id": "file-nowhere"}, openai.NotFoundError, None),
            ({"input_file_id": other}, openai.BadRequestError, "input_file_id"),
            ({"endpoint": "/v1/moderations"}, openai.BadRequestError, "endpoint"),
            ({"completion_window": "1h"}, openai.BadRequestError, "completion_window"),
        ):
            with pytest.raises(raised) as caught:
                client.batches.create(**{**good, **changed})
            assert param in (None, caught.value.param)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_nowhere")


def test_another_tenants_batches_are_not_there(client: OpenAI, server, upload) -> None:
    """Neither the batch nor what it wrote is found with another tenant's key, and its file is none to make a batch of."""
    file_id = upload([line("a")])
    batch = ended(client, client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"))
    with OpenAI(base_url=server.base_url, api_key=server.foreign_key, max_retries=0) as foreign:
        for find in (
            lambda: foreign.batches.retrieve(batch.id),
            lambda: foreign.batches.cancel(batch.id),
            lambda: foreign.files.content(batch.output_file_id),
            lambda: foreign.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"),
        ):
            with pytest.raises(openai.NotFoundError):
                find()
        assert list(foreign.batches.list()) == []
