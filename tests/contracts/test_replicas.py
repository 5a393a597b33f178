"""Two servers on one PostgreSQL and one Redis are as good as one: whatever a client does at one goes on at the other."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from eval.replicas.fleet import NotInstalledError, Server, Shared, running_servers, shared_services
from eval.replicas_test import killing, print_report, restart_in_turn, run_test
from rag_server import factory
from rag_server.config import load_settings

ENDPOINT = "/v1/chat/completions"
WITHIN_S = 120.0
NUM_ROWS = 120


class Two:
    """Two running servers, and a client of each."""

    def __init__(self, servers: list[Server], key: str, stack: ExitStack) -> None:
        self.servers = servers
        self.key = key
        self._stack = stack

    def client(self, number: int, key: str | None = None) -> OpenAI:
        url = f"{self.servers[number].url}/v1"
        return self._stack.enter_context(OpenAI(base_url=url, api_key=key or self.key, max_retries=0, timeout=60.0))

    def http(self, number: int, key: str | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {key or self.key}"}
        url = self.servers[number].url
        return self._stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60.0, trust_env=False))


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """PostgreSQL, Redis and the engine."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(shared_services())
        except NotInstalledError as error:
            pytest.skip(str(error))
        yield found


@pytest.fixture(scope="module")
def two(shared: Shared) -> Iterator[Two]:
    """Two servers."""
    with running_servers(shared) as (servers, key), ExitStack() as stack:
        yield Two(servers, key, stack)


def until(reached: Callable[[], bool]) -> None:
    gives_up_at = time.monotonic() + WITHIN_S
    while not reached():
        assert time.monotonic() < gives_up_at
        time.sleep(0.05)


def test_what_one_takes_in_the_other_finds_at_once(two: Two) -> None:
    """Uploaded to the first and listed as completed there, a file is found by the second; deleted at the second, it is gone."""
    first, second = two.client(0), two.client(1)
    store = first.vector_stores.create(name="shared")
    file = second.files.create(file=("cats.md", b"Cats purr softly."), purpose="assistants")
    first.vector_stores.files.create(vector_store_id=store.id, file_id=file.id)
    until(lambda: first.vector_stores.files.retrieve(file.id, vector_store_id=store.id).status == "completed")
    found = [client.vector_stores.search(store.id, query="purr").data for client in (second, first)]
    answer = second.chat.completions.create(model="rag/shared", messages=[{"role": "user", "content": "Who purrs?"}])
    second.vector_stores.files.delete(file.id, vector_store_id=store.id)
    left = first.vector_stores.search(store.id, query="purr").data

    assert [[result.filename for result in results] for results in found] == [["cats.md"]] * 2
    assert "Cats purr softly." in str(answer.choices[0].message.content)
    assert left == []


def test_a_conversation_goes_on_at_the_other(two: Two) -> None:
    """A response that one has stored is continued by the other, which tells both; so is a conversation."""
    first, second = two.client(0), two.client(1)
    begun = first.responses.create(model="scripted", input="My name is Ada.")
    continued = second.responses.create(model="scripted", input="Who am I?", previous_response_id=begun.id)
    conversation = first.conversations.create()
    second.responses.create(model="scripted", input="Hello.", conversation=conversation.id)
    said = first.conversations.items.list(conversation.id).data

    assert first.responses.retrieve(continued.id).previous_response_id == begun.id
    # Its words are the engine's tokens: what was said, "You said: My name is Ada." and the question.
    assert continued.usage is not None
    assert continued.usage.input_tokens == 4 + 6 + 3
    assert len(said) == 2


def test_a_response_in_the_background_is_followed_and_cancelled_elsewhere(two: Two) -> None:
    """Made by the first, read and cancelled at the second."""
    first, second = two.client(0), two.client(1)
    made = first.responses.create(model="scripted", input="short", background=True)
    until(lambda: second.responses.retrieve(made.id).status == "completed")
    long = first.responses.create(model="scripted", input="word " * 3000, background=True)
    cancelled = second.responses.cancel(long.id)

    assert cancelled.status == "cancelled"
    until(lambda: first.responses.retrieve(long.id).status == "cancelled")


def test_parts_of_an_upload_may_go_to_either(two: Two) -> None:
    """And the file is whole at both."""
    clients = [two.client(0), two.client(1)]
    session = clients[0].uploads.create(bytes=6, filename="parts.txt", mime_type="text/plain", purpose="assistants")
    parts = [clients[number % 2].uploads.parts.create(session.id, data=data).id for number, data in enumerate((b"abc", b"def"))]
    done = clients[1].uploads.complete(session.id, part_ids=parts)

    assert done.file is not None
    assert [client.files.content(done.file.id).read() for client in clients] == [b"abcdef"] * 2


def test_keys_and_their_limits_are_of_both(two: Two, shared: Shared, tmp_path: Path) -> None:
    """A key that was just made opens both; what it asks for at one counts at the other; revoked, it opens neither."""
    store = factory.open_store(load_settings({"RAG_DATABASE__URL": shared.database_url}, data_dir=tmp_path))
    key, secret = store.keys.create("limited", limits={"requests_per_minute": 3})
    statuses = [two.http(number % 2, secret).get("/v1/models").status_code for number in range(8)]
    store.keys.revoke(key.id)
    afterwards = [two.http(number, secret).get("/v1/models").status_code for number in range(2)]
    store.database.close()

    assert statuses[:3] == [200] * 3
    # One comes back every twenty seconds; two that counted for themselves would have let six through.
    assert statuses.count(200) <= 4
    assert set(statuses[3:]) <= {200, 429}
    assert afterwards == [401, 401]


def test_a_batch_goes_on_where_its_server_is_killed(two: Two) -> None:
    """Made at the first, which is killed in the middle, it is completed by the second: every request answered once."""
    first, second = two.client(0), two.client(1)
    rows = [
        {"custom_id": f"r{number}", "method": "POST", "url": ENDPOINT, "body": {"model": "scripted", "messages": messages}}
        for number in range(NUM_ROWS)
        for messages in ([{"role": "user", "content": f"message {number} {'word ' * 100}"}],)
    ]
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    file = first.files.create(file=("requests.jsonl", content), purpose="batch")
    batch = first.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
    until(lambda: second.batches.retrieve(batch.id).request_counts.completed >= 10)
    two.servers[0].kill()
    before = second.batches.retrieve(batch.id)
    until(lambda: second.batches.retrieve(batch.id).status == "completed")
    after = second.batches.retrieve(batch.id)
    answers = [json.loads(line) for line in second.files.content(str(after.output_file_id)).text.splitlines()]
    two.servers[0].start()
    two.servers[0].wait_until_ready()

    assert before.request_counts.completed < NUM_ROWS
    assert (after.request_counts.completed, after.request_counts.failed) == (NUM_ROWS, 0)
    assert Counter(answer["custom_id"] for answer in answers) == dict.fromkeys((row["custom_id"] for row in rows), 1)


def test_load_survives_kills_and_restarts(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    """Either server is killed under load, then both are restarted in turn: nothing is lost, nothing is there twice.

    A request that a killed server had is sent again; of a rolling restart no client notices anything.
    """
    with running_servers(shared) as (servers, key):
        report = run_test(servers, key, [("kills", killing(2, 16.0)), ("a rolling restart", restart_in_turn)])
    print_report(report)
    killed, restarted = report.phases

    assert report.faults == []
    assert killed.tally.given_up.total() + restarted.tally.given_up.total() == 0
    assert sum(killed.balancer[why] for why in ("not sent", "changes nothing", "broken")) > 0
    assert restarted.is_unnoticed
    assert min(len(report.made.files), len(report.made.batches), len(report.made.responses)) > 0
    assert "sent again by the balancer" in capsys.readouterr().out
