"""GET /v1/rag: what the server does by itself, what may be chosen, and what the key may."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rag_server import __version__, factory
from rag_server.config import load_settings
from rag_server.protocols import Embedder
from tests.live import Live, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server whose settings are not the usual ones."""
    retrieve, prompt = {"kind": "lexical", "num_candidates": 33}, {"num_passages": 4}
    folder = tmp_path_factory.mktemp("server")
    with live_server(folder, embedder, retrieve=retrieve, prompt=prompt, reorder={"kind": "none"}) as server:
        yield server


def test_it_tells_the_settings_and_the_choices(live: Live) -> None:
    """What a request leaves out, and what it may say instead; asked without a key where none is needed."""
    assert live.client.get("/v1/rag").json() == {
        "object": "rag.server",
        "version": __version__,
        "key": {"id": None, "name": None, "scopes": ["ask", "read", "write"]},
        "defaults": {
            "retrieve": "lexical",
            "num_candidates": 33,
            "rerank": "none",
            "reorder": "none",
            "num_passages": 4,
            "rewrite": True,
        },
        "retrieve": ["dense", "hybrid", "lexical"],
        "rerank": ["none", "full_ranking", "sliding_window"],
        "reorder": ["none", "sides", "reverse"],
        "limits": {"max_file_bytes": 512 * 1024**2, "max_part_bytes": 64 * 1024**2},
    }


@pytest.mark.parametrize(
    ("scopes", "told"),
    [(None, ["ask", "read", "write"]), (["ask"], ["ask"]), (["write"], ["write"]), (["write", "read"], ["read", "write"])],
)
def test_every_key_may_ask_what_it_may(live: Live, scopes: Any, told: list[str]) -> None:
    """Whatever its scope; it is named, and its secret is not."""
    key, secret = live.services.store.keys.create("laptop", scopes=scopes)

    response = live.as_key(secret).get("/v1/rag")

    assert response.json()["key"] == {"id": key.id, "name": "laptop", "scopes": told}
    assert secret not in response.text


@pytest.mark.parametrize("kind", ["none", "full_ranking", "sliding_window", "listwise_scorer"])
def test_rerankers_are_those_that_are_built(tmp_path: Path, kind: str) -> None:
    """It is told before any of them is loaded."""
    rerank = {"kind": kind, **({"model": "m", "base_url": "http://127.0.0.1:9"} if kind == "listwise_scorer" else {})}
    settings = load_settings({}, data_dir=tmp_path, rerank=rerank, engine={"base_url": "http://127.0.0.1:9/v1"})
    engine = factory.build_engine(settings, None)

    built = factory.build_rerankers(settings, engine, factory.build_scorer(settings, None))

    told = factory.reranker_kinds(settings)
    assert told[0] == "none"
    assert sorted(told) == sorted(built)
    assert len(told) == len(set(told))
