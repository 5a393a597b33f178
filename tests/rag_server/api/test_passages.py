"""Passages over HTTP: one, the text round it, its file as it was, and all of a file; each for those who may read it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rag_server.commands.indexing import ingest_files
from rag_server.commands.progress import IndexingBar
from rag_server.protocols import Embedder
from rag_server.types import Access
from tests.live import Live, live_server

CATS = "# Cats\n\nCats sleep for sixteen hours a day.\n\n## Food\n\nThey eat fish."
HOSTILE_NAME = '../a"b\r\nx: y/räk;smörgås.md'
# What no citation leads to.
OTHERS = ("/v1/passages/7/text", "/v1/passages/x", "/v1/passages/7\u0661", f"/v1/passages/{10**19}", "/v1/models")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Live]:
    """A server that needs keys, whose client has one for everything; `docs` has a file for all and one for managers."""
    with live_server(tmp_path_factory.mktemp("passages") / "data", embedder) as server:
        server.client.headers["authorization"] = f"Bearer {server.make_key()}"
        server.create("docs", file_ids=[server.upload("cats.md", CATS)])
        server.attach("docs", server.upload("pay.md", "The pay is secret."), rag={"principals": ["managers"]})
        server.index_waiting()
        yield server


@pytest.fixture(scope="module")
def on_disk(live: Live, embedder: Embedder) -> Path:
    """A file of `docs` that lies beside the data directory."""
    path = live.settings.data_dir.parent / "dogs.md"
    path.write_text("Dogs sleep for ten hours.", encoding="utf-8")
    report = ingest_files(live.settings, live.services.store, embedder, [path], collection="docs", progress=IndexingBar())
    assert report.failed == {}
    return path


def passage_of(live: Live, query: str) -> int:
    return int(live.search("docs", query)[0]["rag"]["passage_id"])


def file_of(live: Live, filename: str) -> str:
    store = live.services.store.vector_stores.get("docs", Access())
    return next(file.id for file in live.services.store.files.readable(store, Access()) if file.filename == filename)


def test_passage_says_where_it_stands(live: Live) -> None:
    """Its text is that of its document at its offsets; the vector store is named by its id."""
    passage_id = passage_of(live, "sixteen")

    passage = live.client.get(f"/v1/passages/{passage_id}").json()

    assert passage["object"] == "passage"
    assert passage["id"] == passage_id
    assert passage["text"] == CATS[passage["start"] : passage["end"]]
    assert (passage["filename"], passage["title"], passage["characters"]) == ("cats.md", "Cats", len(CATS))
    assert passage["vector_store_id"] == live.client.get("/v1/vector_stores/docs").json()["id"]
    assert passage["url"] == f"{live.url}/v1/passages/{passage_id}"
    assert {"score", "rank"} & set(passage) == set()


def test_text_is_the_whole_document(live: Live) -> None:
    """With its headings, and where each of them starts."""
    passage_id = passage_of(live, "sixteen")

    assert live.client.get(f"/v1/passages/{passage_id}/text").json() == {
        "object": "passage.text",
        "passage_id": passage_id,
        "document_id": "cats.md",
        "title": "Cats",
        "characters": len(CATS),
        "start": 0,
        "end": len(CATS),
        "text": CATS,
        "sections": [
            {"start": 0, "kind": "heading", "label": "Cats", "level": 1},
            {"start": CATS.index("## Food"), "kind": "heading", "label": "Food", "level": 2},
        ],
    }


def test_text_is_the_stretch_that_was_asked_for(live: Live) -> None:
    """As far as there is text."""
    address = f"/v1/passages/{passage_of(live, 'sixteen')}/text"
    start = CATS.index("They")

    stretch = live.client.get(address, params={"start": start, "end": 2**31 - 1}).json()

    assert (stretch["start"], stretch["end"], stretch["text"]) == (start, len(CATS), "They eat fish.")
    assert [section["label"] for section in stretch["sections"]] == ["Food"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("start=-1", "start"),
        ("end=2147483648", "end"),
        ("start=x", "start"),
        ("start=5&end=4", "end"),
        ("start=0.5", "start"),
    ],
)
def test_stretch_that_cannot_be_is_refused(live: Live, query: str, param: str) -> None:
    """With the parameter that is wrong."""
    response = live.client.get(f"/v1/passages/{passage_of(live, 'sixteen')}/text?{query}")

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_original_of_an_upload_comes_back_byte_for_byte(live: Live) -> None:
    """As a file to keep and of no type that a browser would show."""
    response = live.client.get(f"/v1/passages/{passage_of(live, 'sixteen')}/original")

    assert response.status_code == 200
    assert response.content == CATS.encode()
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-length"] == str(len(CATS))
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''cats.md"


def test_name_of_a_file_cannot_break_out_of_its_header(live: Live) -> None:
    """Quotes, line ends and folders in it are no more than characters, or nothing."""
    live.services.store.vector_stores.create("names", Access(), live.services.loaded_embedder)
    file = {"file": ("x.md", b"Whales sing.")}
    sent = live.client.post("/v1/files", files=file, data={"purpose": "assistants"}).json()["id"]
    with live.services.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE uploads SET filename = ? WHERE id = ?", (HOSTILE_NAME, sent))
    live.attach("names", sent)
    live.index_waiting()
    passage_id = live.search("names", "whales")[0]["rag"]["passage_id"]

    response = live.client.get(f"/v1/passages/{passage_id}/original")

    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''r%C3%A4k%3Bsm%C3%B6rg%C3%A5s.md"
    assert "x" not in response.headers


def test_original_on_the_disk_is_sent_while_it_is_the_same(live: Live, on_disk: Path) -> None:
    """Changed or gone it is 404 with what to do, and put back it is there again."""
    address, content = f"/v1/passages/{passage_of(live, 'dogs')}/original", on_disk.read_bytes()
    assert live.client.get(address).content == content

    on_disk.write_bytes(content + b" Not more.")
    changed = live.client.get(address)
    on_disk.unlink()
    gone = live.client.get(address)
    on_disk.write_bytes(content)

    for response in (changed, gone):
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"
        assert "rag-server index" in response.json()["error"]["message"]
        assert str(on_disk.parent) not in response.text
    assert live.client.get(address).content == content


def test_original_of_a_file_that_somebody_else_sent_is_for_its_readers(live: Live) -> None:
    """An upload may be its sender's alone; once it is open to others in a vector store, what it was read from is too."""
    sender, reader = (live.as_key(live.make_key(principals=[name])) for name in ("ann", "bob"))
    sent = live.upload("whale.md", "Whales sing at night.", sender)
    live.attach("docs", sent, rag={"principals": ["bob"]})
    live.index_waiting()
    (found,) = live.search("docs", "whales", reader)

    assert sender.get(f"/v1/files/{sent}").status_code == 200
    assert reader.get(f"/v1/files/{sent}").status_code == 404
    assert reader.get(f"{found['rag']['url']}/original").content == b"Whales sing at night."


def test_passages_of_a_file_are_listed_in_the_order_of_the_text(live: Live) -> None:
    """In pages, by the ids of passages, the first one first; the list is the one of OpenAI's API."""
    text = "".join(f"# Part {number}\n\n{'Whole sentences fill it. ' * 40}\n\n" for number in range(5))
    live.create("long", file_ids=[live.upload("long.md", text)])
    live.index_waiting()
    address = f"/v1/vector_stores/long/files/{live.client.get('/v1/vector_stores/long/files').json()['data'][0]['id']}/passages"

    whole = live.client.get(address, params={"limit": 100}).json()
    pages, after = [], {}
    while True:
        page = live.client.get(address, params={"limit": 2, **after}).json()
        pages += page["data"]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break

    passages = whole["data"]
    assert len(passages) > 5
    assert pages == passages
    assert [passage["start"] for passage in passages] == sorted(passage["start"] for passage in passages)
    assert all(passage["text"] == text[passage["start"] : passage["end"]] for passage in passages)
    assert passages[-1]["end"] == len(text)
    assert (whole["object"], whole["first_id"], whole["last_id"]) == ("list", passages[0]["id"], passages[-1]["id"])
    assert live.client.get(address, params={"limit": 100, "order": "desc"}).json()["data"] == passages[::-1]
    shown = live.client.get(f"/v1/passages/{passages[2]['id']}").json()
    assert passages[2] == {name: value for name, value in shown.items() if name != "characters"}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "after=x", "after=-1", f"after={2**63}", "order=up", "after=999"])
def test_page_that_cannot_be_is_refused(live: Live, query: str) -> None:
    """Bounds, types, and a passage that is not of the file."""
    response = live.client.get(f"/v1/vector_stores/docs/files/{file_of(live, 'cats.md')}/passages?{query}")

    assert response.status_code == 400
    assert response.json()["error"]["param"] == query.partition("=")[0]


def test_keys_with_principals_read_what_is_theirs(live: Live) -> None:
    """What is closed to a key is 404 on every route, and looks like what is not there."""
    manager, other = (live.as_key(live.make_key(principals=[name])) for name in ("managers", "staff"))
    (found,) = live.search("docs", "pay secret", manager)
    passage_id, file_id = found["rag"]["passage_id"], found["file_id"]
    addresses = [
        *(f"/v1/passages/{passage_id}{tail}" for tail in ("", "/text", "/original")),
        f"/v1/vector_stores/docs/files/{file_id}/passages",
    ]

    for address in addresses:
        assert manager.get(address).status_code == 200
        refused = other.get(address)
        missing = other.get(address.replace(str(passage_id), "999999").replace(file_id, "file-none"))
        assert (refused.status_code, missing.status_code) == (404, 404)
        assert "secret" not in refused.text
        assert "pay" not in refused.text


@pytest.mark.parametrize(("scope", "passages", "listed"), [("ask", 200, 403), ("read", 200, 200), ("write", 403, 403)])
def test_asking_opens_passages_and_reading_lists_them(live: Live, scope: str, passages: int, listed: int) -> None:
    """Whoever asks gets citations, and may follow them."""
    address = f"/v1/passages/{passage_of(live, 'sixteen')}"
    client = live.as_key(live.services.store.keys.create("scoped", scopes=[scope])[1])

    statuses = {client.get(f"{address}{tail}").status_code for tail in ("", "/text", "/original")}
    assert statuses == {passages}
    assert client.get(f"/v1/vector_stores/docs/files/{file_of(live, 'cats.md')}/passages").status_code == listed


@pytest.mark.parametrize("passage_id", ["0", "999999", str(2**63 - 1), str(2**63), "-1", "x", "1.5", "%00", "1/text/x"])
@pytest.mark.parametrize("tail", ["", "/text", "/original"])
def test_no_number_is_more_than_a_refusal(live: Live, passage_id: str, tail: str) -> None:
    """Whatever stands in the place of the id."""
    response = live.client.get(f"/v1/passages/{passage_id}{tail}")

    assert response.status_code in (400, 404)
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_browser_is_sent_to_the_page(live: Live) -> None:
    """Without a key, to whatever passage; programs get JSON, or are told that a key is missing."""
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    with httpx.Client(base_url=live.url, trust_env=False) as client:
        followed = client.get("/v1/passages/7", headers=browser)
        others = [client.get(path, headers=browser) for path in OTHERS]
        others += [client.post("/v1/passages/7", headers=browser), client.get("/v1/passages/7")]

    assert followed.status_code == 303
    assert followed.headers["location"] == "/#/passages/7"
    assert followed.headers["vary"] == "accept"
    assert "content-security-policy" in followed.headers
    assert {response.status_code for response in others} == {401}
