"""What became of each candidate: by a worked example, in answers of a live server, and at no cost to those who do not ask."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from rag_server.engines.scripted import Script
from rag_server.protocols import Embedder, Json
from rag_server.rag_request import RagOptions
from rag_server.search_trace import trace_object
from rag_server.store import reading
from rag_server.types import FoundAt, Hit, Passage, Ranking, RankingReport, Search
from tests.live import Live, live_server

# The animal that sleeps longest has most of the words of the question.
TEXTS = {
    "cats.md": "Cats sleep for sixteen hours a day.",
    "dogs.md": "Dogs sleep for ten hours a night.",
    "bats.md": "Bats sleep in caves.",
    "boats.md": "A ketch has two masts.",
}
QUESTION = "How many hours a day do cats sleep?"


def options(**changes: Any) -> RagOptions:
    return RagOptions(
        **{"retrieve": "hybrid", "num_candidates": 9, "rerank": "none", "reorder": "none", "num_passages": 2} | changes
    )


def passages(*ids: int) -> tuple[Passage, ...]:
    """Passages in that order."""
    return tuple(
        Passage(id_, "d", "file-1", "a.md", "T", "x" * 300, 0, 300, id_ / 10, rank) for rank, id_ in enumerate(ids, start=1)
    )


def traced(search: Search, best: tuple[Passage, ...], placed: tuple[Passage, ...], **changes: Any) -> list[Json]:
    found: list[Json] = trace_object(search, best=best, placed=placed, options=options(**changes), url=str)["candidates"]
    return found


def test_candidates_are_told_in_the_last_order() -> None:
    """Of three candidates one is in the prompt, one found no room and one was not among the best; each says where it stood."""
    hits = (
        Hit(1, 0.03, (FoundAt("dense", 1, 0.9), FoundAt("lexical", 2, 4.0))),
        Hit(2, 0.02, (FoundAt("lexical", 1, 5.0),)),
        Hit(3, 0.01, (FoundAt("dense", 2, 0.8),)),
    )
    ranked = passages(3, 1, 2)
    search = Search(hits, Ranking(ranked))

    three, one, two = traced(search, ranked[:2], ranked[1:2], rerank="cross_encoder")

    assert [candidate["passage_id"] for candidate in (three, one, two)] == [3, 1, 2]
    assert [(c["number"], c["left_out"]) for c in (three, one, two)] == [(None, "room"), (1, None), (None, "rank")]
    assert one["ranks"] == {
        "dense": {"rank": 1, "score": 0.9},
        "lexical": {"rank": 2, "score": 4.0},
        "fusion": {"rank": 1, "score": 0.03},
        "rerank": {"rank": 2, "score": 0.1},
    }
    assert (two["ranks"]["dense"], two["ranks"]["fusion"]) == (None, {"rank": 2, "score": 0.02})
    assert (one["text"], one["url"], one["filename"]) == ("x" * 200, "1", "a.md")


def test_number_is_the_place_in_the_prompt() -> None:
    """The mark [1] is that of whatever stands first there, whichever rank it has."""
    ranked = passages(1, 2)
    search = Search((Hit(1, 0.9), Hit(2, 0.8)), Ranking(ranked))

    assert [candidate["number"] for candidate in traced(search, ranked, ranked[::-1])] == [2, 1]


@pytest.mark.parametrize(
    ("rerank", "fallback", "expected"),
    [
        ("none", None, None),
        ("full_ranking", None, {"rank": 1, "score": None}),
        ("listwise_scorer", None, {"rank": 1, "score": 0.1}),
        ("cross_encoder", "it did not answer", None),
    ],
)
def test_rank_of_the_reranker_is_told_where_it_ranked(rerank: str, fallback: str | None, expected: Json | None) -> None:
    """With a score where it computes one, and not at all where the search's order was kept."""
    search = Search((Hit(1, 0.9),), Ranking(passages(1), RankingReport(fallback=fallback)))

    (candidate,) = traced(search, passages(1), passages(1), rerank=rerank, retrieve="dense")

    assert candidate["ranks"] == {"dense": {"rank": 1, "score": 0.9}, "lexical": None, "fusion": None, "rerank": expected}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server with a document per animal and one of boats."""
    with live_server(tmp_path_factory.mktemp("trace"), embedder, cache={"answers": "exact"}) as server:
        server.create("docs", file_ids=[server.upload(name, text) for name, text in TEXTS.items()])
        server.index_waiting()
        yield server


def ask(live: Live, rag: Json, **fields: Any) -> Json:
    body = {"model": "rag/docs", "messages": [{"role": "user", "content": QUESTION}], "rag": rag, **fields}
    response = live.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    found: Json = response.json()["rag"]
    return found


def test_trace_of_an_answer_holds_all_that_was_found(live: Live) -> None:
    """Every document is a candidate of a dense search; those beyond the best are left out for their rank."""
    rag = ask(live, {"trace": True, "num_passages": 2, "reorder": "none"})

    candidates = rag["trace"]["candidates"]
    assert {candidate["filename"] for candidate in candidates} == set(TEXTS)
    assert [c["passage_id"] for c in candidates if c["number"]] == [passage["id"] for passage in rag["passages"]]
    assert [c["left_out"] for c in candidates] == [None, None, "rank", "rank"]
    assert [c["ranks"]["fusion"]["rank"] for c in candidates] == [1, 2, 3, 4]
    (boats,) = [candidate for candidate in candidates if candidate["filename"] == "boats.md"]
    assert boats["ranks"]["dense"] is not None
    assert boats["ranks"]["rerank"] is None
    assert boats["text"] == TEXTS["boats.md"]
    # The same search by words alone: the ranks are those that it gives.
    lexical = ask(live, {"trace": True, "retrieve": "lexical"})["trace"]["candidates"]
    by_words = {c["filename"]: c["ranks"]["lexical"] for c in candidates if c["ranks"]["lexical"] is not None}
    assert {candidate["filename"]: candidate["ranks"]["lexical"] for candidate in lexical} == by_words


def test_what_does_not_fit_is_left_out_for_room(live: Live) -> None:
    """Where the engine has no room for the second best, it says so, and not that its rank is too low."""
    asked = {"trace": True, "num_passages": 3}
    body = {"model": "rag/docs", "messages": [{"role": "user", "content": QUESTION}], "rag": asked}
    whole = live.client.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"]

    rag = ask(live, asked, max_tokens=Script().context_length - whole + 1)

    reasons = [candidate["left_out"] for candidate in rag["trace"]["candidates"]]
    assert rag["num_dropped"] == reasons.count("room") > 0
    assert reasons == sorted(reasons, key=[None, "room", "rank"].index)


def test_first_chunk_of_a_stream_has_the_trace(live: Live) -> None:
    """It comes with the passages, once."""
    body = {"model": "rag/docs", "messages": [{"role": "user", "content": QUESTION}], "rag": {"trace": True}, "stream": True}
    lines = live.client.post("/v1/chat/completions", json=body).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]

    assert len(chunks[0]["rag"]["trace"]["candidates"]) == len(TEXTS)
    assert [chunk for chunk in chunks[1:] if "trace" in chunk.get("rag", {})] == []
    assert chunks[-1]["rag"]["sentences"]


def test_remembered_answer_is_the_same_and_has_no_trace(live: Live) -> None:
    """A request that asks for a trace gets the answer that one without was given, with null and the same sentences."""
    plain = ask(live, {}, temperature=0)
    again = ask(live, {"trace": True}, temperature=0)

    assert (plain["cached"], again["cached"]) == (None, "exact")
    assert "trace" not in plain
    assert again["trace"] is None
    assert again["sentences"] == plain["sentences"] != []


@pytest.mark.parametrize(("rag", "expected"), [({}, [1]), ({"trace": True}, [4]), ({"rerank": "full_ranking"}, [4])])
def test_texts_are_loaded_for_who_asks(live: Live, monkeypatch: pytest.MonkeyPatch, rag: Json, expected: list[int]) -> None:
    """Without a trace the store is asked for no more passages than the prompt or the reranker takes."""
    loaded: list[int] = []
    ranked = reading._ranked

    def recorded(hits: Sequence[Hit], rows: Any) -> list[Passage]:
        loaded.append(len(hits))
        return ranked(hits, rows)

    monkeypatch.setattr(reading, "_ranked", recorded)
    ask(live, {"num_passages": 1, **rag})

    assert loaded == expected


def test_only_chat_completions_have_a_trace(live: Live) -> None:
    """Elsewhere it is a field that nobody knows, and refused."""
    search = live.client.post("/v1/vector_stores/docs/search", json={"query": "cats", "rag": {"trace": True}})
    completion = live.client.post("/v1/completions", json={"model": "rag/docs", "prompt": "cats", "rag": {"trace": True}})

    assert {search.status_code, completion.status_code} == {400}
