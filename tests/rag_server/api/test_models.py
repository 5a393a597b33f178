"""Models: the engine's, one per vector store, and the embedding model."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import openai
import pytest

from rag_server.config import Settings
from rag_server.protocols import Embedder
from tests.conftest import running_server
from tests.live import Live, live_server

EMBEDDER = "all-MiniLM-L6-v2"
StartEngine = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server that every test shares."""
    with live_server(tmp_path_factory.mktemp("models"), embedder) as server:
        yield server


def ids(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_every_model_has_the_fields_of_openai(live: Live) -> None:
    """Collections come first, then the engine's models with its own extras, then the embedding model, which says so."""
    store = live.create("listed")

    data = live.client.get("/v1/models").json()["data"]

    assert all({"id", "object", "created", "owned_by"} <= set(model) for model in data)
    assert {model["object"] for model in data} == {"model"}
    by_id = {model["id"]: model for model in data}
    assert set(by_id["rag/listed"]) == {"id", "object", "created", "owned_by"}
    assert by_id["rag/listed"]["created"] == live.services.store.vector_stores.by_id(store).created_at
    assert by_id["scripted"]["max_model_len"] == 8192
    assert by_id[EMBEDDER]["rag"] == {"task": "embed"}
    assert data[-1]["id"] == EMBEDDER


def test_adapters_are_models_beside_their_own(settings: Settings, scripted_engine: StartEngine) -> None:
    """What the engine serves under names of its own is listed after its first model, with what it tells of them."""
    with scripted_engine(adapters={"mine": None, "other": None}) as engine, running_server(settings, engine=engine) as client:
        data = {model["id"]: model for model in client.get("/v1/models").json()["data"]}

    assert [name for name in data if name != EMBEDDER] == ["scripted", "mine", "other"]
    assert data["mine"]["parent"] == "scripted"


def test_model_is_found_by_an_id_with_slashes(live: Live) -> None:
    """The official client quotes the slash, others do not; both find it, and the same object as the list has."""
    live.create("my docs")

    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        found = client.models.retrieve("rag/my docs")
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("rag/none")

    assert found.id == "rag/my docs"
    assert live.client.get("/v1/models/rag/my docs").json() == found.to_dict()
    assert caught.value.code == "model_not_found"


def test_deleting_a_model_deletes_its_vector_store(live: Live) -> None:
    """The collection is gone under both names, and others stay."""
    live.create("goes")
    live.create("stays")

    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        deleted = client.models.delete("rag/goes")

    assert (deleted.id, deleted.deleted, deleted.object) == ("rag/goes", True, "model")
    assert live.client.get("/v1/vector_stores/goes").status_code == 404
    assert "rag/goes" not in ids(live.client)
    assert "rag/stays" in ids(live.client)


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("scripted", 403, "forbidden"),
        (EMBEDDER, 403, "forbidden"),
        ("none", 404, "model_not_found"),
        ("rag/none", 404, "model_not_found"),
        ("rag/", 404, "model_not_found"),
    ],
)
def test_other_models_are_not_deleted(live: Live, model: str, status: int, code: str) -> None:
    """What is served as the settings say cannot be deleted, and what is not there neither."""
    response = live.client.delete(f"/v1/models/{model}")

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_keys_delete_only_what_is_all_theirs(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> None:
    """A key with principals may not delete a whole vector store, one of another tenant does not find it."""
    with live_server(tmp_path_factory.mktemp("keys"), embedder, auth={"required": True}) as live:
        owner, limited, foreign = (
            live.as_key(live.make_key(tenant, principals)) for tenant, principals in (("a", None), ("a", ["red"]), ("b", None))
        )
        live.create("docs", owner)

        assert limited.delete("/v1/models/rag/docs").status_code == 403
        assert foreign.delete("/v1/models/rag/docs").status_code == 404
        assert "rag/docs" in ids(owner)
        assert "rag/docs" not in ids(foreign)
        assert owner.delete("/v1/models/rag/docs").status_code == 200


def test_list_is_there_while_the_engine_is_not(settings: Settings, index: Callable[..., None]) -> None:
    """Without an engine the collections and the embedding model are listed."""
    index("docs", {"a.md": "# A\n\nText."})
    with running_server(settings, engine="http://127.0.0.1:9/v1") as client:
        for _ in range(200):
            if "embedder" not in client.get("/ready").json()["missing"]:
                break

        assert ids(client) == ["rag/docs", EMBEDDER]
