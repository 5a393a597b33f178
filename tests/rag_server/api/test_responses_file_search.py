"""File search in responses: done before the engine answers, with its options, its results and its citations."""

from collections.abc import Iterator
from typing import Any

import pytest

from rag_server.protocols import Embedder
from tests.dialogue import ASKS_WEATHER, CHAT_WEATHER, WEATHER, refused, respond, sent_chat, text_of, types_of
from tests.live import Live, live_server

QUESTION = "How many hours a day do cats sleep?"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """One server with the vector store `docs` of three files; what its engine is sent is kept."""
    with live_server(tmp_path_factory.mktemp("responses"), embedder) as server:
        server.create("docs")
        texts = {
            "cats.md": "# Cats\n\nCats sleep for sixteen hours a day.",
            "dogs.md": "# Dogs\n\nDogs sleep for twelve hours a day.",
            "boats.md": "# Boats\n\nThe pump of a boat is oiled in May.",
        }
        for name, text in texts.items():
            server.attach("docs", server.upload(name, text), attributes={"animal": name != "boats.md"})
        server.index_waiting()
        yield server


@pytest.fixture(scope="module")
def search(live: Live) -> dict[str, Any]:
    """The file search in `docs`."""
    (store,) = live.client.get("/v1/vector_stores").json()["data"]
    return {"type": "file_search", "vector_store_ids": [store["id"]]}


def test_file_search_shows_what_a_search_finds(live: Live, search: dict[str, Any]) -> None:
    """The call has the question and, where they are asked for, the results of the vector store's own search."""
    include = ["file_search_call.results"]
    made = respond(live.client, QUESTION, tools=[{**search, "max_num_results": 2}], include=include)

    assert types_of(made) == ["file_search_call", "message"]
    call = made["output"][0]
    assert (call["status"], call["queries"]) == ("completed", [QUESTION])
    body = {"query": QUESTION, "max_num_results": 2}
    found = live.client.post(f"/v1/vector_stores/{search['vector_store_ids'][0]}/search", json=body).json()["data"]
    assert [(result["file_id"], result["score"], result["text"]) for result in call["results"]] == [
        (result["file_id"], result["score"], result["content"][0]["text"]) for result in found
    ]
    path = f"/v1/responses/{made['id']}"
    assert live.client.get(path).json()["output"][0]["results"] is None
    assert live.client.get(path, params={"include[]": include}).json()["output"] == made["output"]


def test_file_search_answers_with_annotations(live: Live, search: dict[str, Any]) -> None:
    """The text is cited where its mark stands: by the passage's address and by the file."""
    made = respond(live.client, QUESTION, tools=[search])

    (part,) = made["output"][1]["content"]
    url, file = part["annotations"]
    assert part["text"] == "Cats sleep for sixteen hours a day. [1]"
    assert (url["type"], part["text"][url["start_index"] : url["end_index"]]) == ("url_citation", "[1]")
    assert live.client.get(url["url"]).json()["filename"] == file["filename"] == "cats.md"
    assert (file["type"], file["index"]) == ("file_citation", len(part["text"]))
    assert made["rag"]["citations"][0]["quote"] == "Cats sleep for sixteen hours a day."
    assert {"retrieve", "prompt", "generate", "cite"} <= set(made["rag"]["timings_ms"])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"cats.md", "dogs.md", "boats.md"}),
        ({"max_num_results": 1}, {"cats.md"}),
        ({"filters": {"type": "eq", "key": "animal", "value": False}}, {"boats.md"}),
        ({"ranking_options": {"score_threshold": 1.0}}, {"cats.md"}),
        ({"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}}, {"cats.md", "dogs.md"}),
    ],
)
def test_file_search_takes_its_options(live: Live, search: dict[str, Any], options: Any, names: set[str]) -> None:
    """Number, filter, threshold and kind of search decide what the engine is given, not only what is shown."""
    made = respond(live.client, QUESTION, tools=[{**search, **options}], include=["file_search_call.results"])

    results = {result["filename"] for result in made["output"][0]["results"]}
    # Of words alone, "a" and "do" may find the boats too.
    assert results - {"boats.md"} == names - {"boats.md"}
    assert {passage["filename"] for passage in made["rag"]["passages"]} == results


def test_filters_of_tool_and_extension_both_hold(live: Live, search: dict[str, Any]) -> None:
    """Neither replaces the other."""
    animal = {"type": "eq", "key": "animal", "value": True}
    nothing = {"type": "eq", "key": "animal", "value": False}
    made = respond(live.client, QUESTION, tools=[{**search, "filters": animal}], rag={"filters": nothing})

    assert made["rag"]["passages"] == []


@pytest.mark.parametrize(
    ("choice", "searches", "chat_choice"),
    [
        ("auto", True, "auto"),
        ("required", True, "auto"),
        ("none", False, "none"),
        ({"type": "file_search"}, True, "none"),
        ({"type": "function", "name": "weather"}, False, {"type": "function", "function": {"name": "weather"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
            False,
            "auto",
        ),
    ],
)
def test_tool_choice_decides_about_the_search(
    live: Live, search: dict[str, Any], choice: Any, searches: bool, chat_choice: Any
) -> None:
    """The search is done unless another choice rules it out; the functions go on to the engine beside it."""
    made = respond(live.client, QUESTION, tools=[search, WEATHER], tool_choice=choice)

    assert ("file_search_call" in types_of(made)) == searches
    assert sent_chat(live.engine.sent)["tools"] == [CHAT_WEATHER]
    assert sent_chat(live.engine.sent)["tool_choice"] == chat_choice


def test_search_and_function_work_together(live: Live, search: dict[str, Any]) -> None:
    """The search comes first, then the engine calls a function, and the follow-up is answered from both."""
    first = respond(live.client, ASKS_WEATHER, tools=[search, WEATHER])
    call = first["output"][1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "fog"}
    second = respond(live.client, [output], previous_response_id=first["id"], tools=[search, WEATHER])

    assert types_of(first) == ["file_search_call", "function_call"]
    assert types_of(second) == ["file_search_call", "message"]
    assert "fog" in text_of(second)


def test_collection_is_a_model(live: Live) -> None:
    """`rag/<name>` answers from the collection, as in chat, and is the model of the response."""
    made = respond(live.client, QUESTION, model="rag/docs", rag={"num_passages": 1})

    assert (made["model"], types_of(made)) == ("rag/docs", ["file_search_call", "message"])
    assert [passage["filename"] for passage in made["rag"]["passages"]] == ["cats.md"]
    assert text_of(made).startswith("Cats sleep")


def test_no_call_at_all_is_no_search(live: Live, search: dict[str, Any]) -> None:
    """max_tool_calls 0 leaves the engine alone."""
    assert types_of(respond(live.client, QUESTION, tools=[search], max_tool_calls=0)) == ["message"]


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0, 0)])
def test_weights_that_are_not_served_are_refused(live: Live, search: dict[str, Any], weights: tuple[float, float]) -> None:
    """A search that weighs its parts differently is not done in another way without a word."""
    hybrid = dict(zip(("embedding_weight", "text_weight"), weights, strict=True))

    error = refused(live.client, tools=[{**search, "ranking_options": {"hybrid_search": hybrid}}])
    assert error["param"] == "tools.ranking_options.hybrid_search"


def test_two_file_searches_are_refused(live: Live, search: dict[str, Any]) -> None:
    """One search has all vector stores."""
    assert refused(live.client, tools=[search, search])["param"] == "tools"
