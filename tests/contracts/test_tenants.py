"""Nothing crosses from one tenant to another, nor to a key whose principals a file does not name.

Every file holds a secret word of its own in its text, filename, title, and in the name and value of an attribute; every other
word is the same everywhere, so that everything matches everything. What a key is sent is searched byte by byte for the
secrets that it may not read, and compared with exactly what it may.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from rag_server.protocols import Embedder
from rag_server.types import Vectors
from tests.live import Live, live_server

QUESTION = "How long do cats sleep?"
PRINCIPALS = ("blue", "green", "red")
KINDS = ("dense", "lexical", "hybrid")
# Of each of the two vector stores of a tenant.
STORES = ("docs", "own")
Principals = frozenset[str] | None


class OneQuestion:
    """An embedding model that computes the vector of a query once: here thousands of requests ask the same."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[tuple[str, ...], Vectors] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        if tuple(texts) not in self._vectors:
            self._vectors[tuple(texts)] = self._embedder.embed_queries(texts)
        return self._vectors[tuple(texts)]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server that all tenants of all examples share."""
    with live_server(tmp_path_factory.mktemp("tenants"), OneQuestion(embedder), auth={"required": True}) as server:
        yield server


@dataclass
class File:
    """A file of a vector store; `principals` as it was attached."""

    tenant: str
    store: str
    principals: Principals
    secret: str = field(default_factory=lambda: f"q{secrets.token_hex(8)}")
    id: str = ""

    @property
    def filename(self) -> str:
        return f"cats-{self.secret}.md"

    @property
    def text(self) -> str:
        return f"# Cats {self.secret}\n\nCats sleep for sixteen hours a day, says {self.secret}."

    @property
    def attributes(self) -> dict[str, str]:
        return {"topic": "cats", f"name_{self.secret}": f"value {self.secret}"}


@dataclass
class Upload:
    """A file that one key sent and nobody attached."""

    tenant: str
    principals: Principals
    secret: str = field(default_factory=lambda: f"q{secrets.token_hex(8)}")
    id: str = ""


@dataclass
class Key:
    """An API key and a client that sends it."""

    tenant: str
    principals: Principals
    client: httpx.Client

    def reads(self, file: File) -> bool:
        open_to_all = self.principals is None or file.principals is None
        return file.tenant == self.tenant and (open_to_all or bool(self.principals & file.principals))

    def reads_upload(self, upload: Upload) -> bool:
        named = self.principals is None or bool(self.principals & (upload.principals or frozenset()))
        return upload.tenant == self.tenant and named


@dataclass
class World:
    """Two tenants in a server. `stores` are ids by (tenant, name)."""

    live: Live
    keys: list[Key] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    stores: dict[tuple[str, str], str] = field(default_factory=dict)
    # Of the tenants: their names, and in the name of their second vector store.
    tenant_secrets: dict[str, str] = field(default_factory=dict)

    def readable(self, key: Key, store: str) -> list[File]:
        return [file for file in self.files if file.store == store and key.reads(file)]

    def hidden(self, key: Key) -> list[str]:
        """What this key must never be sent."""
        shown = {file.secret for file in self.files if key.reads(file)}
        shown |= {upload.secret for upload in self.uploads if key.reads_upload(upload)} | {self.tenant_secrets[key.tenant]}
        every = [one.secret for one in (*self.files, *self.uploads)] + list(self.tenant_secrets.values())
        return [secret for secret in every if secret not in shown]

    def full_key(self, tenant: str) -> Key:
        return next(key for key in self.keys if key.tenant == tenant and key.principals is None)


principal_sets = st.none() | st.frozensets(st.sampled_from(PRINCIPALS), max_size=2)
key_principals = st.frozensets(st.sampled_from(PRINCIPALS), min_size=1, max_size=2)
tenant_files = st.lists(st.tuples(st.sampled_from(STORES), principal_sets), min_size=1, max_size=4)
tenants = st.tuples(tenant_files, st.lists(key_principals, min_size=1, max_size=2))


def build(live: Live, drawn: Sequence[tuple[list, list]]) -> World:
    """Make tenants with keys, vector stores, attached files and uploads, and index them."""
    world = World(live)
    for files, limited in drawn:
        secret = f"q{secrets.token_hex(8)}"
        tenant = f"tenant-{secret}"
        world.tenant_secrets[tenant] = secret
        for principals in (None, *limited):
            client = live.as_key(live.make_key(tenant, None if principals is None else sorted(principals)))
            key = Key(tenant, principals, client)
            upload = Upload(tenant, principals)
            upload.id = live.upload(f"upload-{upload.secret}.md", f"Cats sleep, says {upload.secret}.", client)
            world.keys.append(key)
            world.uploads.append(upload)
        full = world.full_key(tenant)
        for name in STORES:
            world.stores[tenant, name] = live.create(name if name == "docs" else f"own {secret}", full.client)
        for name, principals in files:
            file = File(tenant, world.stores[tenant, name], principals)
            file.id = live.upload(file.filename, file.text, full.client)
            attach(world, file, principals)
            world.files.append(file)
            # The upload itself was sent by a key without a list: only such keys read it.
            world.uploads.append(Upload(tenant, None, file.secret, file.id))
    live.index_waiting()
    return world


def attach(world: World, file: File, principals: Principals) -> None:
    file.principals = principals
    rag = {"principals": None if principals is None else sorted(principals)}
    world.live.attach(file.store, file.id, world.full_key(file.tenant).client, attributes=file.attributes, rag=rag)


class Witness:
    """Asks with a key, and looks at every byte that comes back and at every byte that the engine was sent meanwhile."""

    def __init__(self, world: World, key: Key) -> None:
        self._world = world
        self._key = key
        self._hidden = [secret.encode() for secret in world.hidden(key)]

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        engine = self._world.live.engine.sent
        engine.clear()
        response = self._key.client.request(method, path, json=body)
        asked = f"{path} {json.dumps(body)}".encode()
        for secret in self._hidden:
            # What was asked for may be said back; nothing else may be said.
            assert secret in asked or secret not in response.content, (method, path, body)
            assert secret in asked or secret not in b"".join(engine), (method, path, body)
            assert secret not in str(response.headers).encode()
        assert response.status_code < 500, response.text
        return response

    def search(self, store: str, **fields: object) -> list[str]:
        response = self.ask("POST", f"/v1/vector_stores/{store}/search", {"query": QUESTION, "max_num_results": 50, **fields})
        assert response.status_code == 200, response.text
        return sorted(result["file_id"] for result in response.json()["data"])


def check_searches(world: World, key: Key) -> None:
    """Every kind of search finds exactly what the key may read, filtered or not."""
    witness = Witness(world, key)
    for (tenant, _), store in world.stores.items():
        readable = world.readable(key, store)
        ids = sorted(file.id for file in readable)
        for kind in KINDS:
            rag = {"retrieve": kind}
            if tenant != key.tenant:
                body = {"query": QUESTION, "rag": rag}
                assert witness.ask("POST", f"/v1/vector_stores/{store}/search", body).status_code == 404
                continue
            assert witness.search(store, rag=rag) == ids
            if readable:
                same = {"type": "eq", "key": "topic", "value": "cats"}
                other = {"type": "ne", "key": "filename", "value": readable[0].filename}
                assert witness.search(store, rag=rag, filters=same) == ids
                assert witness.search(store, rag=rag, filters=other) == sorted(file.id for file in readable[1:])
        if tenant == key.tenant:
            check_unknown_attributes(world, key, store)


def check_found(world: World, key: Key) -> None:
    """As `check_searches`, of the key's own tenant and in few requests."""
    witness = Witness(world, key)
    for (tenant, _), store in world.stores.items():
        if tenant == key.tenant:
            ids = sorted(file.id for file in world.readable(key, store))
            for kind in KINDS:
                assert witness.search(store, rag={"retrieve": kind}) == ids
            if ids:
                same = {"type": "eq", "key": "topic", "value": "cats"}
                assert witness.search(store, rag={"retrieve": "lexical"}, filters=same) == ids


def check_unknown_attributes(world: World, key: Key, store: str) -> None:
    """The message about an unknown attribute names those that the key may read, and an attribute out of sight is unknown."""
    witness = Witness(world, key)
    rag = {"retrieve": "lexical"}
    readable = world.readable(key, store)
    out_of_sight = [f"name_{file.secret}" for file in world.files if not key.reads(file)]
    for name in ["nonsense", *out_of_sight]:
        filters = {"type": "ne", "key": name, "value": "x"}
        body = {"query": QUESTION, "filters": filters, "rag": rag}
        response = witness.ask("POST", f"/v1/vector_stores/{store}/search", body)
        assert response.status_code == (400 if readable else 200)
        if readable:
            assert all(f"name_{file.secret}" in response.text for file in readable)
    # What is compared with its filename or id is not found either.
    for file in world.files:
        if not key.reads(file):
            for attribute, value in (("filename", file.filename), ("file_id", file.id), ("document_id", file.filename)):
                assert witness.search(store, filters={"type": "eq", "key": attribute, "value": value}, rag=rag) == []


def check_chats(world: World, key: Key) -> None:
    """Passages, citations and the engine's prompt hold what the key may read; a foreign vector store is not there."""
    witness = Witness(world, key)
    messages = [{"role": "user", "content": QUESTION}]
    for (tenant, name), store in world.stores.items():
        model = f"rag/{name}" if name == "docs" else f"rag/own {world.tenant_secrets[tenant]}"
        for body in ({"model": model}, {"model": "scripted", "rag": {"vector_store_ids": [store], "num_passages": 50}}):
            # Both tenants have `docs`, each its own.
            if tenant != key.tenant and body["model"] == "rag/docs":
                continue
            for stream in (False, True):
                response = witness.ask("POST", "/v1/chat/completions", {**body, "messages": messages, "stream": stream})
                assert response.status_code == (200 if tenant == key.tenant else 404)
                if response.status_code == 200 and not stream:
                    check_answer(response.json(), world.readable(key, store))
    ids = list(world.stores.values())
    rag = {"vector_store_ids": ids}
    assert (
        witness.ask("POST", "/v1/chat/completions", {"model": "scripted", "messages": messages, "rag": rag}).status_code == 404
    )


def check_answer(answer: dict, readable: Sequence[File]) -> None:
    assert {passage["file_id"] for passage in answer["rag"]["passages"]} == {file.id for file in readable}
    annotations = answer["choices"][0]["message"]["annotations"]
    assert bool(annotations) == bool(answer["rag"]["citations"]) == bool(readable)


def check_lists_and_counts(world: World, key: Key) -> None:
    """Lists hold, and counts count, exactly what the key may read."""
    witness = Witness(world, key)
    own = {store: name for (tenant, name), store in world.stores.items() if tenant == key.tenant}
    assert {store["id"] for store in witness.ask("GET", "/v1/vector_stores").json()["data"]} == set(own)
    assert len([model for model in witness.ask("GET", "/v1/models").json()["data"] if model["id"].startswith("rag/")]) == 2
    uploads = {upload.id for upload in world.uploads if key.reads_upload(upload)}
    assert {upload["id"] for upload in witness.ask("GET", "/v1/files").json()["data"]} == uploads
    for store in own:
        readable = world.readable(key, store)
        shown = witness.ask("GET", f"/v1/vector_stores/{store}").json()
        assert shown["file_counts"]["total"] == sum(shown["file_counts"].values()) / 2 == len(readable)
        assert shown["usage_bytes"] == sum(len(file.text) for file in readable)
        listed = witness.ask("GET", f"/v1/vector_stores/{store}/files").json()
        newest_first = [file.id for file in reversed(readable)]
        assert [file["id"] for file in listed["data"]] == newest_first
        assert (listed["first_id"], listed["last_id"]) == ((newest_first[0], newest_first[-1]) if readable else (None, None))
        for status in ("in_progress", "completed", "failed", "cancelled"):
            witness.ask("GET", f"/v1/vector_stores/{store}/files?filter={status}")


def check_passages(world: World, key: Key) -> None:
    """Of all passages that exist, those that the key may read answer, with their text and the file that they come from."""
    witness = Witness(world, key)
    for passage_id, file in passages(world).items():
        for part in ("", "/text", "/original"):
            response = witness.ask("GET", f"/v1/passages/{passage_id}{part}")
            assert response.status_code == (200 if key.reads(file) else 404)


def check_uploads(world: World, key: Key) -> None:
    """Of all uploads that exist, those that the key may read are there for it, whatever is done with them."""
    witness = Witness(world, key)
    store = world.stores[key.tenant, "docs"]
    for upload in world.uploads:
        path = f"/v1/files/{upload.id}"
        status = 200 if key.reads_upload(upload) else 404
        assert witness.ask("GET", path).status_code == status
        assert witness.ask("GET", f"{path}/content").status_code == status
        if status == 404:
            assert witness.ask("DELETE", path).status_code == 404
            assert witness.ask("POST", f"/v1/vector_stores/{store}/files", {"file_id": upload.id}).status_code == 404


def check_files(world: World, key: Key) -> None:
    """Of all files that exist, those that the key may read are in their vector store and no other, whatever is done."""
    witness = Witness(world, key)
    for file in world.files:
        for store in {file.store, world.stores[key.tenant, "docs"]}:
            path = f"/v1/vector_stores/{store}/files/{file.id}"
            is_there = key.reads(file) and store == file.store
            for part in ("", "/passages"):
                assert witness.ask("GET", f"{path}{part}").status_code == (200 if is_there else 404)
            if not is_there:
                assert witness.ask("POST", path, {"attributes": {}}).status_code == 404
                assert witness.ask("POST", f"{path}/cancel").status_code == 404
                assert witness.ask("DELETE", path).status_code == 404


def check_vector_stores(world: World, key: Key) -> None:
    """Of all vector stores that exist, the tenant's are there; messages about others name none but those."""
    witness = Witness(world, key)
    for (tenant, _), store in world.stores.items():
        path = f"/v1/vector_stores/{store}"
        assert witness.ask("GET", path).status_code == (200 if tenant == key.tenant else 404)
        if tenant != key.tenant:
            forbidden = 404 if key.principals is None else 403
            assert witness.ask("POST", path, {"name": "mine"}).status_code == forbidden
            assert witness.ask("DELETE", path).status_code == forbidden
    unknown = witness.ask("GET", "/v1/vector_stores/nonsense")
    assert unknown.status_code == 404
    assert f"own {world.tenant_secrets[key.tenant]}" in unknown.text
    assert witness.ask("GET", "/v1/models/rag/nonsense").status_code == 404


def passages(world: World) -> dict[int, File]:
    """The ids of all passages with their files, asked for by those who may see everything of their tenant."""
    files = {file.id: file for file in world.files}
    found: dict[int, File] = {}
    for (tenant, _), store in world.stores.items():
        for result in world.live.search(store, "cats", world.full_key(tenant).client, max_num_results=50):
            found[result["rag"]["passage_id"]] = files[result["file_id"]]
    assert len(found) == len(files)
    return found


CHECKS: tuple[Callable[[World, Key], None], ...] = (
    check_searches,
    check_chats,
    check_lists_and_counts,
    check_passages,
    check_uploads,
    check_files,
    check_vector_stores,
)
RED, GREEN, BLUE = (frozenset({name}) for name in ("red", "green", "blue"))
# Every kind of list and of key.
RICH = (
    ([("docs", None), ("docs", RED), ("docs", GREEN | BLUE), ("own", frozenset())], [RED, GREEN]),
    ([("docs", RED), ("own", RED | GREEN), ("own", BLUE)], [RED | BLUE]),
)
FEW = settings(
    max_examples=2,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@FEW
@given(drawn=st.tuples(tenants, tenants))
@example(drawn=RICH)
def test_no_id_passage_count_or_citation_crosses(live: Live, drawn: tuple) -> None:
    """No byte of an answer, and none of a prompt, holds what the key that asks may not read; nothing else is missing."""
    world = build(live, drawn)

    for key in world.keys:
        for check in CHECKS:
            check(world, key)


@FEW
@given(drawn=st.tuples(tenants, tenants), changes=st.lists(principal_sets, min_size=2, max_size=2))
@example(drawn=RICH, changes=[BLUE, None])
def test_nothing_crosses_through_the_cache_or_after_permissions_change(live: Live, drawn: tuple, changes: list) -> None:
    """Asked in turn, in both orders, every key finds its own; new principals of a file hold at once, and again when indexed."""
    world = build(live, drawn)

    for key in (*world.keys, *reversed(world.keys)):
        check_found(world, key)
    for principals in changes:
        for file in world.files[:: len(world.files) - 1 or 1]:
            attach(world, file, principals)
        for key in reversed(world.keys):
            check_found(world, key)
            check_lists_and_counts(world, key)
        live.index_waiting()
        for key in world.keys:
            check_found(world, key)


def test_cache_was_asked_and_had_answers(live: Live) -> None:
    """The answers of a server come from its cache where they can, or the tests above would say nothing about it."""
    client = live.as_key(live.make_key("cached"))
    live.create("docs", client)

    def hits() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("rag_cache_lookups") and '"hit"' in line)

    before = hits()
    for _ in range(3):
        live.search("docs", QUESTION, client)

    assert hits() > before
