"""A batch of OpenAI's client goes on after `kill -9` of the server, as if nothing had been."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types import Batch

from eval.bench.tools import free_port, inherited_environment, process

ENDPOINT = "/v1/chat/completions"
NUM_ROWS = 60
WITHIN_S = 120.0

StartEngine = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def engine(scripted_engine: StartEngine) -> Iterator[str]:
    """An engine that answers two requests at a time, about twenty in a second."""
    with scripted_engine(time_to_first_token_s=0.1, max_running=2) as url:
        yield url


@contextmanager
def serving(data_dir: Path, engine: str, port: int) -> Iterator[Callable[[], None]]:
    """Run the server in a process; give what kills it."""
    environment = {**inherited_environment(), "RAG_DATA_DIR": str(data_dir), "RAG_ENGINE__BASE_URL": engine}
    command = ["-m", "eval.batch_crash.command", "serve", "--port", str(port)]
    with process(command, f"http://127.0.0.1:{port}", environment) as (server, _):
        yield server.kill


def until(client: OpenAI, batch_id: str, reached: Callable[[Batch], bool]) -> Batch:
    """Poll a batch until it is as wanted."""
    gives_up_at = time.monotonic() + WITHIN_S
    while not reached(found := client.batches.retrieve(batch_id)):
        assert time.monotonic() < gives_up_at, found
        time.sleep(0.05)
    return found


def lines(client: OpenAI, file_id: str | None) -> list[dict]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_a_batch_outlives_its_server(tmp_path: Path, engine: str) -> None:
    """The server is killed in the middle; the next one ends the batch, with every request answered once."""
    rows = [
        {"custom_id": f"r{number}", "method": "POST", "url": ENDPOINT, "body": {"model": "scripted", "messages": messages}}
        for number in range(NUM_ROWS)
        for messages in ([{"role": "user", "content": f"message {number}"}],)
    ]
    port = free_port()
    with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client:
        with serving(tmp_path / "data", engine, port) as kill:
            content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
            file = client.files.create(file=("requests.jsonl", content), purpose="batch")
            batch = client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
            before = until(client, batch.id, lambda found: found.request_counts.completed >= 10)
            kill()
        with serving(tmp_path / "data", engine, port):
            taken_up = client.batches.retrieve(batch.id)
            after = until(client, batch.id, lambda found: found.status == "completed")
            answers = lines(client, after.output_file_id)

    assert 10 <= before.request_counts.completed < NUM_ROWS
    assert taken_up.request_counts.completed >= before.request_counts.completed
    assert (after.request_counts.total, after.request_counts.completed, after.request_counts.failed) == (NUM_ROWS, NUM_ROWS, 0)
    assert after.error_file_id is None
    assert Counter(answer["custom_id"] for answer in answers) == dict.fromkeys((row["custom_id"] for row in rows), 1)
    for answer in answers:
        said = answer["response"]["body"]["choices"][0]["message"]["content"]
        assert said == f"You said: message {answer['custom_id'].removeprefix('r')}"
