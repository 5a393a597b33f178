"""The MCP server at /mcp, spoken to by the SDK's own client over HTTP: tools, keys, tenants, permissions, errors."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from rag_server.config import Settings
from rag_server.errors import StoreError
from rag_server.protocols import Embedder
from tests.conftest import running_server
from tests.live import Live, live_server

# Both the protocol's present form and the one with a handshake before it, which most clients still speak.
MODES = ("auto", "legacy")
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_collections", "arguments": {}}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with the collection `animals`, one file of which is for keepers only, and with `secrets` of another tenant."""
    with live_server(tmp_path_factory.mktemp("mcp"), embedder) as server:
        own = server.as_key(server.make_key())
        server.create("animals", own)
        server.attach(
            "animals", server.upload("cats.md", "# Cats\n\nThe cat sleeps all day.", own), own, attributes={"legs": 4}
        )
        server.attach(
            "animals", server.upload("birds.md", "# Birds\n\nThe owl hunts at night.", own), own, attributes={"legs": 2}
        )
        hidden = server.upload("keepers.md", "# Keepers\n\nThe tiger is fed at noon.", own)
        server.attach("animals", hidden, own, rag={"principals": ["keepers"]})
        other = server.as_key(server.make_key(tenant="other"))
        server.create("secrets", other)
        server.index_waiting()
        yield server


@contextlib.asynccontextmanager
async def agent(live: Live, secret: str, mode: str = "auto") -> AsyncIterator[Client]:
    """A client that sends this key."""
    headers = {"authorization": f"Bearer {secret}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as http_client:
        transport = streamable_http_client(f"{live.url}/mcp", http_client=http_client)
        async with Client(transport, mode=mode) as client:
            yield client


async def call(live: Live, secret: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that must not fail; return its structured result."""
    async with agent(live, secret) as client:
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def failure(live: Live, secret: str, tool: str, **arguments: Any) -> str:
    """Call a tool that must fail; return what the agent reads."""
    async with agent(live, secret) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    return " ".join(part.text for part in result.content)


@pytest.mark.parametrize("mode", MODES)
async def test_the_tools_are_listed_with_schemas_of_what_goes_in_and_out(live: Live, mode: str) -> None:
    async with agent(live, live.make_key(), mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        name = client.server_info.name

    assert name == "rag-server"
    assert set(tools) == {"list_collections", "search", "ask"}
    assert tools["search"].input_schema["required"] == ["query", "collection"]
    assert set(tools["search"].input_schema["properties"]) == {"query", "collection", "num_results", "filters"}
    assert "passages" in tools["search"].output_schema["properties"]
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools.values())


@pytest.mark.parametrize("mode", MODES)
async def test_search_finds_what_the_api_finds(live: Live, mode: str) -> None:
    """The passages, their order, scores and addresses are those of POST /v1/vector_stores/ID/search."""
    secret = live.make_key()
    async with agent(live, secret, mode) as client:
        result = await client.call_tool("search", {"query": "When does the owl hunt?", "collection": "animals"})
    found = result.structured_content["passages"]
    expected = live.as_key(secret).post("/v1/vector_stores/animals/search", json={"query": "When does the owl hunt?"}).json()

    shown = [
        (one["content"][0]["text"], one["filename"], one["score"], one["rag"]["url"], one["rag"]["passage_id"])
        for one in expected["data"]
    ]
    assert [(one["text"], one["filename"], one["score"], one["url"], one["id"]) for one in found] == shown
    assert found[0]["text"].endswith("The owl hunts at night.")


async def test_search_takes_filters_and_a_number_of_results(live: Live) -> None:
    filters = {"type": "eq", "key": "legs", "value": 4}

    filtered = await call(live, live.make_key(), "search", query="animals", collection="animals", filters=filters)
    one = await call(live, live.make_key(), "search", query="animals", collection="animals", num_results=1)

    assert [passage["filename"] for passage in filtered["passages"]] == ["cats.md"]
    assert filtered["passages"][0]["attributes"] == {"legs": 4}
    assert len(one["passages"]) == 1


async def test_ask_answers_with_citations_of_its_passages(live: Live) -> None:
    """The quote is literally in the passage that the citation names."""
    result = await call(live, live.make_key(), "ask", question="When does the owl hunt?", collection="animals")

    assert result["answer"] == "The owl hunts at night. [1]"
    (citation,) = result["citations"]
    passage = next(one for one in result["passages"] if one["id"] == citation["passage_id"])
    assert (citation["verified"], citation["url"]) == (True, passage["url"])
    assert citation["quote"] in passage["text"]
    assert live.as_key(live.make_key()).get(passage["url"]).json()["text"] == passage["text"]


async def test_ask_is_charged_like_a_chat(live: Live) -> None:
    """Its tokens are taken from what the key may use."""
    secret = live.services.store.keys.create("limited", limits={"tokens_per_day": 10_000})[1]
    client = live.as_key(secret)

    def left() -> int:
        # An answer of this kind costs no tokens itself.
        answer = client.post("/v1/chat/completions", json={"model": "none", "messages": [{"role": "user", "content": "a"}]})
        return int(answer.headers["x-ratelimit-remaining-tokens"])

    before = left()
    await call(live, secret, "ask", question="What does the cat do?", collection="animals")
    ends_at = time.monotonic() + 10
    # The charge follows the answer.
    while left() > before - 20 and time.monotonic() < ends_at:
        await asyncio.sleep(0.01)

    assert left() <= before - 20


async def test_a_key_sees_the_collections_of_its_tenant_only(live: Live) -> None:
    own = await call(live, live.make_key(), "list_collections")
    other = await call(live, live.make_key(tenant="other"), "list_collections")

    assert [one["name"] for one in own["collections"]] == ["animals"]
    assert [one["name"] for one in other["collections"]] == ["secrets"]


@pytest.mark.parametrize("tool", ["search", "ask"])
async def test_another_tenants_collection_is_as_if_it_were_not_there(live: Live, tool: str) -> None:
    """What the agent reads is the same as of a name that nobody has."""
    arguments = {"query" if tool == "search" else "question": "anything"}

    foreign = await failure(live, live.make_key(), tool, collection="secrets", **arguments)
    nowhere = await failure(live, live.make_key(), tool, collection="nowhere", **arguments)

    assert "secrets" in foreign
    assert foreign.replace("secrets", "nowhere") == nowhere


@pytest.mark.parametrize(("principal", "seen"), [("keepers", True), ("visitors", False)])
async def test_the_permissions_of_documents_hold(live: Live, principal: str, seen: bool) -> None:
    secret = live.make_key(principals=[principal])

    found = await call(live, secret, "search", query="When is the tiger fed?", collection="animals")
    answer = await call(live, secret, "ask", question="When is the tiger fed?", collection="animals")

    assert ("keepers.md" in [passage["filename"] for passage in found["passages"]]) is seen
    assert ("noon" in answer["answer"]) is seen


@pytest.mark.parametrize(
    ("tool", "arguments", "named"),
    [
        ("search", {"collection": "animals"}, "query"),
        ("search", {"query": "", "collection": "animals"}, "query"),
        ("search", {"query": "x", "collection": "animals", "num_results": 51}, "num_results"),
        ("search", {"query": "x", "collection": "animals", "filters": {"type": "near"}}, "type"),
        ("search", {"query": "x" * 100_001, "collection": "animals"}, "query"),
        ("ask", {"question": "x", "collection": 5}, "collection"),
        ("delete_everything", {}, "delete_everything"),
    ],
)
async def test_bad_arguments_are_errors_of_the_tool_that_name_them(
    live: Live, tool: str, arguments: dict[str, Any], named: str
) -> None:
    assert named in await failure(live, live.make_key(), tool, **arguments)


def test_without_a_valid_key_nothing_is_answered(live: Live) -> None:
    for headers in ({}, {"authorization": "Bearer rag-wrong"}):
        response = live.client.post("/mcp", json=CALL, headers={**ACCEPT, **headers})
        assert response.status_code == 401
        assert response.json()["error"]["type"]


def test_a_key_needs_the_scope_ask(live: Live) -> None:
    secret = live.services.store.keys.create("reader", scopes=["read"])[1]

    assert live.as_key(secret).post("/mcp", json=CALL, headers=ACCEPT).status_code == 403


def test_there_are_no_sessions_and_answers_are_json(live: Live) -> None:
    """A request stands for itself; what would open a stream or end a session is not there."""
    client = live.as_key(live.make_key())

    answer = client.post("/mcp", json=CALL, headers=ACCEPT)

    assert answer.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in answer.headers
    assert answer.json()["result"]["structuredContent"]["collections"][0]["name"] == "animals"
    assert [client.request(method, "/mcp", headers=ACCEPT).status_code for method in ("GET", "DELETE")] == [405, 405]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b'{"jsonrpc": "2.0"}', b'{"jsonrpc": "2.0", "id": 1, "method": "no/such"}']
)
def test_malformed_messages_are_refused(live: Live, body: bytes) -> None:
    """With a status below 500, or as an error of JSON-RPC."""
    headers = {**ACCEPT, "content-type": "application/json"}
    response = live.as_key(live.make_key()).post("/mcp", content=body, headers=headers)

    assert response.status_code < 500
    assert response.status_code >= 400 or "error" in response.json()


def test_it_answers_to_its_own_names_only_where_no_key_protects_it(
    tmp_path_factory: pytest.TempPathFactory, embedder: Embedder
) -> None:
    """A foreign page whose name was made to point here gets nothing (DNS rebinding)."""
    with live_server(tmp_path_factory.mktemp("open"), embedder) as server:
        statuses = [
            server.client.post("/mcp", json=CALL, headers={**ACCEPT, **headers}).status_code
            for headers in ({}, {"host": "evil.example"}, {"origin": "http://evil.example"})
        ]

    assert statuses == [200, 403, 403]


async def test_a_fault_of_the_server_is_told_without_its_details(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent reads that there is no answer now, and nothing of what stands behind the server."""

    async def broken(_: object) -> None:
        raise StoreError("cannot read /srv/rag/rag.db: disk I/O error")

    pipeline = await live.services.pipeline()
    monkeypatch.setattr(pipeline, "prepare", broken)

    message = await failure(live, live.make_key(), "ask", question="Who?", collection="animals")

    assert "the store cannot be read" in message
    assert "/srv" not in message


def test_the_engines_work_ends_when_the_client_goes_away(
    settings: Settings,
    index: Callable[..., None],
    scripted_engine: Callable[..., contextlib.AbstractContextManager[str]],
) -> None:
    index("animals", {"cats.md": "The cat sleeps."})
    call = {**CALL, "params": {"name": "ask", "arguments": {"question": "Does it sleep?", "collection": "animals"}}}
    with scripted_engine(time_to_first_token_s=30.0) as engine, running_server(settings, engine=engine) as client:
        stats = engine.replace("/v1", "/scripted/stats")
        with pytest.raises(httpx.ReadTimeout):
            client.post("/mcp", json=call, headers=ACCEPT, timeout=1.5)
        deadline = time.monotonic() + 5
        while (seen := httpx.get(stats, trust_env=False).json())["aborted"] == 0 and time.monotonic() < deadline:
            time.sleep(0.05)

    assert (seen["requests"], seen["aborted"]) == (1, 1)
