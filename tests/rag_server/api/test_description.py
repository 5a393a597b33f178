"""The server's description of itself: valid, complete, and true of what it answers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from eval.conformance import dialogue_exchanges, exchanges
from eval.conformance.driver import Driver
from eval.conformance.fuzzing import fuzz, make_seeds
from eval.conformance.server import CheckedServer
from eval.conformance.validation import Validator
from rag_server.protocols import Embedder
from tests.live import Live, live_server
from tests.routes import endpoints, unstarted_app

# The page for people, and the protocol of MCP, which describes itself.
UNDESCRIBED = ("/", "/ui", "/ui/{path}", "/mcp")


def passages(driver: Driver) -> None:
    """What only this server has: itself, a passage with all that hangs on it, and an answer with its trace."""
    driver.send("GET", "/v1/rag")
    store, file = exchanges.indexed_store(driver, "passages")
    listed = f"/v1/vector_stores/{store}/files/{file}/passages"
    found = driver.send("GET", listed)
    driver.send("GET", f"{listed}?after={found['last_id']}")
    driver.send("GET", f"{listed}?after=0")
    for tail in ("", "/text", "/text?start=2&end=9", "/text?start=2&end=1", "/original"):
        driver.send("GET", f"/v1/passages/{found['first_id']}{tail}")
    question = [{"role": "user", "content": "What sleeps?"}]
    for rag in ({"trace": True}, {"trace": True, "rerank": "full_ranking"}, {"trace": 1}):
        body = {"model": "scripted", "messages": question, "temperature": 0, "rag": {"vector_store_ids": [store], **rag}}
        driver.send("POST", "/v1/chat/completions", body)
        driver.send("POST", "/v1/chat/completions", {**body, "stream": True})


GROUPS = {
    **exchanges.GROUPS,
    "Responses": dialogue_exchanges.responses,
    "Conversations": dialogue_exchanges.conversations,
    "Passages": passages,
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("described"), embedder) as server:
        yield server


@pytest.fixture(scope="module")
def description(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live.client.get("/openapi.json").json()
    return found


@pytest.fixture
def client(live: Live) -> httpx.Client:
    return live.as_key(live.make_key())


class IndexingDriver(Driver):
    """Indexes what waits instead of waiting for a worker."""

    def __init__(self, client: httpx.Client, live: Live) -> None:
        super().__init__(client)
        self._live = live

    def wait_while(self, path: str, status: str = "in_progress") -> None:
        self._live.index_waiting()


def described(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, one) for path, item in description["paths"].items() for method, one in item.items()]


def test_it_is_valid_openapi(description: dict[str, Any]) -> None:
    assert description["openapi"] == "3.1.0"
    validate(description)


def test_every_route_is_in_it(description: dict[str, Any]) -> None:
    found = {(method.upper(), path) for method, path, _ in described(description)}

    served = {(method, path.replace(":path}", "}")) for method, path in endpoints(unstarted_app().routes)}

    assert {(method, path) for method, path in served if path not in UNDESCRIBED and method not in ("HEAD", "OPTIONS")} == found


def test_every_operation_says_what_it_answers(description: dict[str, Any]) -> None:
    operations = [one for _, _, one in described(description)]

    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["tags"], one["operationId"]
        assert all(content["schema"] for content in one["responses"]["200"]["content"].values()), one["operationId"]
        for refused in ("4XX", "5XX"):
            schema = one["responses"][refused]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorResponse"}


def test_keys_are_asked_for_as_the_guard_does(description: dict[str, Any], live: Live) -> None:
    """What needs no key by the description answers without one, and the rest is refused."""
    live.make_key()
    for method, path, one in described(description):
        if method == "get" and "{" not in path:
            is_open = live.client.get(path).status_code != 401
            assert is_open == (one["security"] == []), path


def test_links_lead_to_operations_and_their_parameters(description: dict[str, Any]) -> None:
    operations = {one["operationId"]: one for _, _, one in described(description)}
    links = [link for one in operations.values() for link in one["responses"]["200"].get("links", {}).values()]

    assert len(links) > 30
    for link in links:
        names = {parameter["name"] for parameter in operations[link["operationId"]].get("parameters", [])}
        assert set(link.get("parameters", {})) <= names


@pytest.mark.parametrize("group", GROUPS)
def test_live_answers_are_as_described(live: Live, client: httpx.Client, description: dict[str, Any], group: str) -> None:
    """Each answer, each refusal and each event of a stream has the shape that its operation is described with."""
    driver = IndexingDriver(client, live)
    GROUPS[group](driver)

    validator = Validator(description)
    assert len([answer for answer in driver.answers if answer.status == 200]) > 1
    for answer in driver.answers:
        assert answer.status < 500, answer
        assert validator.faults(answer) == [], answer


def test_a_wrong_answer_would_be_found(live: Live, client: httpx.Client, description: dict[str, Any]) -> None:
    driver = IndexingDriver(client, live)
    exchanges.models(driver)
    listed = next(answer for answer in driver.answers if answer.path == "/v1/models")

    body = json.loads(listed.content)
    body["data"][0]["created"] = "yesterday"

    wrong = type(listed)(listed.method, listed.path, listed.status, listed.media_type, json.dumps(body).encode())
    assert Validator(description).faults(wrong) == [".data[].created: 'yesterday' is not of type 'integer'"]


REFUSED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("deleteModel", "DELETE", "/v1/models/scripted", {}),
    ("createResponse", "POST", "/v1/responses", {"model": "scripted", "input": "x", "tools": [{"type": "web_search"}]}),
    ("createResponse", "POST", "/v1/responses", {"model": "scripted"}),
    ("createResponse", "POST", "/v1/responses", {"model": "scripted", "input": "x", "prompt": {"id": "p"}}),
    ("countInputTokens", "POST", "/v1/responses/input_tokens", {"model": "scripted"}),
    ("createConversation", "POST", "/v1/conversations", {"items": [{"type": "mcp_call", "id": "x"}]}),
    ("createChatCompletion", "POST", "/v1/chat/completions", {"model": "scripted", "messages": []}),
]


@pytest.mark.parametrize(("operation", "method", "path", "body"), REFUSED)
def test_what_is_said_to_be_refused_is(
    client: httpx.Client, description: dict[str, Any], operation: str, method: str, path: str, body: dict[str, Any]
) -> None:
    one = next(one for _, _, one in described(description) if one["operationId"] == operation)

    response = client.request(method, path, json=body)

    assert one["x-refused"]
    assert "Refused, though OpenAI's types allow it" in one["description"]
    assert response.status_code in (400, 403), response.text


def test_own_bounds_and_fields_are_described(description: dict[str, Any]) -> None:
    """What the routes read beyond OpenAI's types is in the description of their bodies."""
    search = _body(description, "searchVectorStore")
    chat = _body(description, "createChatCompletion")

    assert search["properties"]["max_num_results"]["maximum"] == 50
    assert search["additionalProperties"] is False
    assert {"rag", "stream"} <= chat["properties"].keys()
    assert chat["required"] == ["messages", "model"]


def test_the_types_are_not_loaded_at_the_start() -> None:
    """Half a second of imports that only the description needs waits until somebody asks for it."""
    code = "import sys, rag_server.api.app; sys.exit('openai.types' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


def test_a_fuzzer_finds_nothing(live: Live, description: dict[str, Any], tmp_path: Path) -> None:
    """A few hundred generated requests, some along the links; `make fuzz` sends thousands."""
    server = CheckedServer(live.url, live.make_key())
    with server.client() as client:
        driver = IndexingDriver(client, live)
        seeds = make_seeds(driver)

    result = fuzz(server, seeds, tmp_path / "report.json", phases=("fuzzing", "stateful"), max_examples=4, seed=1)

    assert result.failures == ()
    assert result.num_cases > 200
    # All but the one that gives the description.
    assert result.num_operations == len(described(description)) - 1


def _body(description: dict[str, Any], operation: str) -> dict[str, Any]:
    one = next(one for _, _, one in described(description) if one["operationId"] == operation)
    schema: dict[str, Any] = one["requestBody"]["content"]["application/json"]["schema"]
    return schema
