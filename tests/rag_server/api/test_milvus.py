"""A server whose vectors are in Milvus: searched, filtered and deleted over HTTP; and what it says when Milvus is down."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indexers.milvus_connection import MilvusConnection
from rag_server.protocols import Embedder
from tests.live import Live, live_server
from tests.milvus import milvus_lite

TEXTS = {"ships.md": "A harbour full of ships.", "boats.md": "Small boats on a lake.", "bread.md": "Bread is baked of flour."}


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusConnection]:
    with milvus_lite(tmp_path_factory.mktemp("milvus") / "vectors.db") as connection:
        yield connection


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder, milvus: MilvusConnection) -> Iterator[Live]:
    data_dir = tmp_path_factory.mktemp("data")
    with live_server(data_dir, embedder, index={"kind": "milvus", "url": milvus.url}) as live:
        yield live


def collections(milvus: MilvusConnection, vector_store: str) -> list[str]:
    with milvus.client() as client:
        return [name for name in client.list_collections() if vector_store in name]


@pytest.mark.parametrize("retrieve", ["dense", "hybrid"])
def test_uploads_are_found_filtered_and_deleted(live: Live, milvus: MilvusConnection, retrieve: str) -> None:
    """What was uploaded is found by meaning at once, within a filter, and no more once it is deleted; so is the collection."""
    store = live.create(f"docs-{retrieve}")
    files = {}
    for name, text in TEXTS.items():
        files[name] = live.upload(name, text)
        live.attach(store, files[name], attributes={"about": "food" if name == "bread.md" else "water"})
    live.index_waiting()
    how = {"rag": {"retrieve": retrieve}}

    assert live.search(store, "vessels in a port", **how)[0]["filename"] == "ships.md"
    food = {"type": "eq", "key": "about", "value": "food"}
    assert live.found(store, "vessels in a port", filters=food, **how) == ["bread.md"]
    assert live.client.delete(f"/v1/vector_stores/{store}/files/{files['ships.md']}").status_code == 200
    assert live.found(store, "vessels in a port", **how) == ["boats.md", "bread.md"]
    assert len(collections(milvus, store)) == 1
    assert live.client.get("/ready").json()["missing"].get("vector_index") is None
    assert live.client.delete(f"/v1/vector_stores/{store}").status_code == 200
    assert collections(milvus, store) == []


def test_down_is_said_and_never_hidden(tmp_path: Path, embedder: Embedder) -> None:
    """Without Milvus, /ready names it, searches by meaning are refused with when to ask again, and words are still found."""
    with live_server(tmp_path, embedder, index={"kind": "milvus", "url": "http://127.0.0.1:9"}) as live:
        store = live.create("docs")
        live.attach(store, live.upload("ships.md", TEXTS["ships.md"]))
        live.index_waiting()

        ready = live.client.get("/ready")
        refused = live.client.post(f"/v1/vector_stores/{store}/search", json={"query": "vessels"})

        assert ready.status_code == 503
        assert "`rag-server doctor` what to do" in ready.json()["missing"]["vector_index"]
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "index_unavailable")
        assert refused.headers["retry-after"] == "5"
        assert "127.0.0.1" not in refused.text
        assert live.found(store, "ships") == ["ships.md"]
