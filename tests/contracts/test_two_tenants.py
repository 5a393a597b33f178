"""Two tenants and every kind of object: what one made is 404 for the other, on every route, and in no list or answer.

The routes come from the application itself. One whose parameters or body this test does not know makes it fail.
"""

import itertools
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from rag_server.protocols import Embedder
from rag_server.store.batches import Batches
from tests.live import Live, live_server
from tests.routes import endpoints, unstarted_app

ROUTES = sorted(set(endpoints(unstarted_app().routes)))
BY_ID = [(method, path) for method, path in ROUTES if "{" in path and not path.startswith("/ui/")]
# Those that answer without an object of somebody in the address, or with one and a list below it.
READABLE = [path for method, path in ROUTES if method == "GET" and path.startswith("/v1/")]
STRANGERS = ("globex", "")
# What changes of an object by being looked at.
VOLATILE = ("last_active_at", "expires_at")
# They say that it is too late, which is not the same as that there is nothing.
TOO_LATE = ("/cancel", "/complete")
BATCH = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


@dataclass
class Tenant:
    """A key and what it made: `ids` by the names that the routes' parameters have; `word` is in every text and filename."""

    client: httpx.Client
    word: str
    ids: dict[str, list[str]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def id(self, parameter: str) -> str:
        return self.ids[parameter][0]

    def post(self, path: str, **request: Any) -> Any:
        response = self.client.post(path, **request)
        assert response.status_code == 200, (path, response.text)
        return response.json()


def parameters(path: str) -> list[str]:
    return re.findall(r"{(\w+)(?::path)?}", path)


def filled(path: str, ids: Sequence[str]) -> str:
    """The address of those ids, in the order of the parameters."""
    rest = iter(ids)
    return re.sub(r"{\w+(:path)?}", lambda _: next(rest), path)


def make_tenant(live: Live, name: str) -> Tenant:
    """A tenant with one object of each kind."""
    tenant = Tenant(live.as_key(live.make_key(tenant=name)), f"secret{secrets.token_hex(6)}")
    _make_files(live, tenant)
    _make_answers(tenant)
    return tenant


def _make_files(live: Live, tenant: Tenant) -> None:
    first, second = (live.upload(f"{tenant.word}-{n}.md", f"The {tenant.word} sleeps.", tenant.client) for n in (1, 2))
    names = [f"{kind}-{secrets.token_hex(6)}" for kind in ("store", "model")]
    store, _ = (live.create(name, tenant.client, file_ids=[first]) for name in names)
    batch = tenant.post(f"/v1/vector_stores/{store}/file_batches", json={"file_ids": [second]})
    live.index_waiting()
    announced = {"filename": f"{tenant.word}.txt", "purpose": "assistants", "bytes": 3, "mime_type": "text/plain"}
    upload = tenant.post("/v1/uploads", json=announced)["id"]
    part = tenant.post(f"/v1/uploads/{upload}/parts", files={"data": ("part", b"abc")})["id"]
    [passage, *_] = live.search(store, tenant.word, tenant.client)
    tenant.parts.append(part)
    request = {"custom_id": tenant.word, "method": "POST", "url": BATCH["endpoint"], "body": {"model": "scripted"}}
    sent = {"files": {"file": (f"{tenant.word}.jsonl", json.dumps(request))}, "data": {"purpose": "batch"}}
    requests = tenant.post("/v1/files", **sent)["id"]
    tenant.ids |= {
        "requests_file_id": [requests],
        "request_batch_id": [tenant.post("/v1/batches", json={**BATCH, "input_file_id": requests})["id"]],
        "file_id": [first],
        "vector_store_id": [store, names[0]],
        "batch_id": [batch["id"]],
        "upload_id": [upload],
        "passage_id": [str(passage["rag"]["passage_id"])],
        "model": [f"rag/{names[1]}"],
    }


def _make_answers(tenant: Tenant) -> None:
    question = [{"role": "user", "content": f"What does the {tenant.word} do?"}]
    model = tenant.id("model")
    completion = tenant.post("/v1/chat/completions", json={"model": model, "messages": question, "store": True})
    tenant.ids["completion_id"] = [completion["id"]]
    if ("POST", "/v1/responses") in ROUTES:
        answer = tenant.post("/v1/responses", json={"model": model, "input": question, "store": True})
        tenant.ids["response_id"] = [answer["id"]]
    if ("POST", "/v1/conversations") in ROUTES:
        conversation = tenant.post("/v1/conversations", json={"items": [{"type": "message", **question[0]}]})["id"]
        items = tenant.client.get(f"/v1/conversations/{conversation}/items").json()["data"]
        tenant.ids |= {"conversation_id": [conversation], "item_id": [items[0]["id"]]}


def body_of(method: str, path: str, tenant: Tenant) -> dict[str, Any]:
    """What the route takes, about objects of that tenant."""
    message = {"type": "message", "role": "user", "content": "Hello"}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions/{completion_id}": {"json": {"metadata": {"seen": "yes"}}},
        "/v1/uploads/{upload_id}/parts": {"files": {"data": ("part", b"abc")}},
        "/v1/uploads/{upload_id}/complete": {"json": {"part_ids": tenant.parts}},
        "/v1/vector_stores/{vector_store_id}": {"json": {"metadata": {"seen": "yes"}}},
        "/v1/vector_stores/{vector_store_id}/search": {"json": {"query": "sleeps", "rag": {"retrieve": "lexical"}}},
        "/v1/vector_stores/{vector_store_id}/files": {"json": {"file_id": tenant.id("file_id")}},
        "/v1/vector_stores/{vector_store_id}/files/{file_id}": {"json": {"attributes": {"seen": "yes"}}},
        "/v1/vector_stores/{vector_store_id}/file_batches": {"json": {"file_ids": [tenant.id("file_id")]}},
        "/v1/conversations/{conversation_id}": {"json": {"metadata": {"seen": "yes"}}},
        "/v1/conversations/{conversation_id}/items": {"json": {"items": [message]}},
    }
    return bodies.get(path, {}) if method == "POST" else {}


def foreign_addresses(path: str, owner: Tenant, stranger: Tenant) -> list[str]:
    """The route with ids of the owner, and with all mixtures of those and the stranger's own."""
    names = parameters(path)
    mixtures = itertools.product((owner, stranger), repeat=len(names))
    return [
        filled(path, ids)
        for mixture in mixtures
        if owner in mixture
        for ids in itertools.product(*(tenant.ids[name] for tenant, name in zip(mixture, names, strict=True)))
    ]


def references(asking: Tenant, named: Tenant) -> list[tuple[str, str, dict[str, Any]]]:
    """Requests on the asking tenant's own objects whose body or query names objects of another one."""
    own, file, store = asking.id("vector_store_id"), named.id("file_id"), named.id("vector_store_id")
    messages = [{"role": "user", "content": "sleeps"}]
    chat: dict[str, Any] = {"model": "scripted", "messages": messages}
    found = [
        ("POST", "/v1/vector_stores", {"file_ids": [file]}),
        ("POST", f"/v1/vector_stores/{own}/files", {"file_id": file}),
        ("POST", f"/v1/vector_stores/{own}/file_batches", {"file_ids": [file]}),
        ("POST", f"/v1/vector_stores/{own}/file_batches", {"files": [{"file_id": file}]}),
        ("POST", "/v1/chat/completions", {**chat, "model": named.id("model")}),
        *(
            ("POST", "/v1/chat/completions", {**chat, "rag": {"vector_store_ids": [id_]}})
            for id_ in named.ids["vector_store_id"]
        ),
        ("POST", "/v1/batches", {**BATCH, "input_file_id": named.id("requests_file_id")}),
        ("GET", f"/v1/batches?after={named.id('request_batch_id')}", {}),
        ("GET", f"/v1/files?after={file}", {}),
        ("GET", f"/v1/vector_stores?after={store}", {}),
        ("GET", f"/v1/vector_stores?before={store}", {}),
        ("GET", f"/v1/vector_stores/{own}/files?after={file}", {}),
        ("GET", f"/v1/vector_stores/{own}/files/{asking.id('file_id')}/passages?after={named.id('passage_id')}", {}),
        ("GET", f"/v1/chat/completions?after={named.id('completion_id')}", {}),
        ("POST", f"/v1/uploads/{asking.id('upload_id')}/complete", {"part_ids": named.parts}),
    ]
    if "response_id" in named.ids:
        ask: dict[str, Any] = {"model": "scripted", "input": "sleeps"}
        search = {"type": "file_search", "vector_store_ids": [store]}
        part = {"type": "input_file", "file_id": file}
        found += [
            ("POST", "/v1/responses", {**ask, "model": named.id("model")}),
            ("POST", "/v1/responses", {**ask, "previous_response_id": named.id("response_id")}),
            ("POST", "/v1/responses", {**ask, "conversation": named.id("conversation_id")}),
            ("POST", "/v1/responses", {**ask, "tools": [search]}),
            ("POST", "/v1/responses", {**ask, "input": [{"role": "user", "content": [part]}]}),
            ("GET", f"/v1/conversations/{asking.id('conversation_id')}/items?after={named.id('item_id')}", {}),
        ]
    return found


def holds(text: str, owner: Tenant) -> list[str]:
    """What a text says of the owner: the word of its documents, and the ids of its objects."""
    known = [owner.word, *(id_ for name, ids in owner.ids.items() if name != "passage_id" for id_ in ids)]
    return [secret for secret in known if secret in text]


def seen_by(tenant: Tenant) -> dict[str, Any]:
    """Everything that a tenant can read of its own objects."""
    seen = {}
    for path in READABLE:
        for ids in itertools.product(*(tenant.ids[name] for name in parameters(path))):
            response = tenant.client.get(filled(path, ids))
            assert response.status_code == 200, (path, response.text)
            text = re.sub("|".join(rf'"{name}":\s*(\d+|null)' for name in VOLATILE), "", response.text)
            seen[filled(path, ids)] = text
    return seen


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server for all tenants; batches wait, so that nothing changes but by requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batches, "lease", lambda _: None)
        with live_server(tmp_path_factory.mktemp("two"), embedder, auth={"required": True}) as server:
            yield server


@pytest.fixture(scope="module")
def owner(live: Live) -> Tenant:
    """Who has something to lose."""
    return make_tenant(live, "acme")


@pytest.fixture(scope="module", params=STRANGERS, ids=lambda name: name or "default")
def stranger(live: Live, request: pytest.FixtureRequest) -> Tenant:
    """Who wants it: another tenant, and the one without a name. It has objects of its own."""
    return make_tenant(live, request.param)


def test_every_route_by_id_is_known(owner: Tenant) -> None:
    """A new kind of object cannot be forgotten: the tenants below have one for every parameter of every route."""
    unknown = {name for _, path in BY_ID for name in parameters(path)} - set(owner.ids)

    assert unknown == set()
    assert len(BY_ID) >= 25


@pytest.mark.parametrize(("method", "path"), BY_ID)
def test_objects_of_another_tenant_are_not_there(owner: Tenant, stranger: Tenant, method: str, path: str) -> None:
    """Every method of every route by id is 404 with the other's ids, also mixed with one's own, and gives away nothing."""
    for address in foreign_addresses(path, owner, stranger):
        response = stranger.client.request(method, address, **body_of(method, path, stranger))

        assert response.status_code == 404, (method, address, response.text)
        assert response.json()["error"]["code"] in ("not_found", "model_not_found")
        assert owner.word not in response.text


def test_what_is_not_there_looks_like_what_is_anothers(owner: Tenant, stranger: Tenant) -> None:
    """The answers differ in the id that was asked for and in nothing else, so that nobody can tell which ids exist."""
    for method, path in BY_ID:
        # The number of a passage is bounded.
        asked = [owner.id(name) for name in parameters(path)]
        never = ["999999999" if id_.isdigit() else re.sub(r"[0-9a-f]{12}", "f" * 12, id_) for id_ in asked]
        answers = []
        for ids in (asked, never):
            response = stranger.client.request(method, filled(path, ids), **body_of(method, path, stranger))
            message = response.json()["error"]["message"]
            for id_ in ids:
                message = message.replace(id_.removeprefix("rag/"), "ID")
            answers.append((response.status_code, response.json()["error"]["code"], message))

        assert answers[0] == answers[1], (method, path)


def test_objects_of_another_tenant_cannot_be_named(owner: Tenant, stranger: Tenant) -> None:
    """Nor in a body or as a place in a list: with the other's ids it is refused, with one's own it is not."""
    for foreign, own in zip(references(stranger, owner), references(stranger, stranger), strict=True):
        method, path, body = foreign
        response = stranger.client.request(method, path, json=body or None)
        control = stranger.client.request(method, own[1], json=own[2] or None)

        assert response.status_code in (400, 404), (foreign, response.text)
        assert owner.word not in response.text
        assert control.status_code == 200, (own, control.text)


def test_lists_and_answers_hold_nothing_of_another_tenant(live: Live, owner: Tenant, stranger: Tenant) -> None:
    """Nothing that a tenant can read or ask has a word or an id of the other; of its own it has."""
    texts = seen_by(stranger)
    store = stranger.id("vector_store_id")
    for word in (owner.word, "sleeps"):
        texts[f"search {word}"] = json.dumps(live.search(store, word, stranger.client))
        body = {"model": stranger.id("model"), "messages": [{"role": "user", "content": word}]}
        texts[f"chat {word}"] = stranger.client.post("/v1/chat/completions", json=body).text.replace(word, "")

    for address, text in texts.items():
        assert holds(text, owner) == [], address
    assert holds("".join(texts.values()), stranger)


def test_attempts_change_nothing(live: Live, owner: Tenant, stranger: Tenant) -> None:
    """After everything that the other tenant can try, all of its objects are as they were."""
    before = seen_by(owner)
    for method, path in BY_ID:
        for address in foreign_addresses(path, owner, stranger):
            stranger.client.request(method, address, **body_of(method, path, stranger))
    for method, path, body in references(stranger, owner):
        stranger.client.request(method, path, json=body or None)
    live.index_waiting()

    assert seen_by(owner) == before


def test_owner_may_do_all_of_it(live: Live) -> None:
    """The same requests by their owner are no 404: what was refused above was refused for the tenant alone."""
    tenant = make_tenant(live, "initech")

    # Deleting comes last, from the inside to the outside.
    def order(route: tuple[str, str]) -> tuple[bool, bool, int]:
        return (route[0] == "DELETE", route[1].endswith(TOO_LATE), -route[1].count("/"))

    for method, path in sorted(BY_ID, key=order):
        address = filled(path, [tenant.id(name) for name in parameters(path)])
        response = tenant.client.request(method, address, **body_of(method, path, tenant))

        too_late = path.endswith(TOO_LATE) and response.status_code in (400, 409)
        assert response.status_code == 200 or too_late, (method, address, response.text)
