"""rag-server, and a peer that this environment has too, are indexed and searched for real; servers are spoken to over HTTP."""

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import psutil
import pytest

from eval import bench_peers
from eval.bench_peers import main
from eval.peers import peer_process, processes
from eval.peers.adapters.commands import Row
from eval.peers.over_http import OverHttp
from eval.peers.own_system import OwnApi
from eval.peers.peer_apis import HayhooksApi, TxtaiApi
from eval.peers.peer_process import PeerProcess, PeerSystem
from eval.peers.system import IN_PROCESS
from rag_server.errors import RagServerError
from tests.eval.peers.data import write_scifact

TEXTS = {
    "1": "Cats sleep for sixteen hours of every day and hunt at night when mice come out of their holes.",
    "2": "A ketch is a sailing boat with two masts of which the one in front is the taller by some feet.",
    "3": "Green tea is made of leaves that were steamed or roasted soon after they had been picked by hand.",
}


@pytest.fixture
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let peers run in the environment of the tests, which has what the bare limit needs."""
    monkeypatch.setattr(peer_process, "peer_python", lambda name: Path(sys.executable))


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A server that finds what it was given before: give its address and the paths that were asked for."""
    asked: list[str] = []
    known = ["old"]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(self.path)
            known.extend([body["chunk_id"]] if self.path == "/add/run" else [])
            broken = body.get("query") == "broken"
            answer = json.dumps({"result": [{"id": id_, "text": "t"} for id_ in known]}).encode()
            self.send_response(503 if broken else 200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    thread.join()
    running.server_close()


def test_callers_over_http_ask_each_query_once(server: tuple[str, list[str]]) -> None:
    """An answer that is an error is a failed search."""
    url, asked = server
    load = OverHttp(url, HayhooksApi(), psutil.Process()).search(["a", "broken", "c", "d"], callers=2, seconds=60)

    assert asked == ["/search/run"] * 4
    assert len(load.latencies_ms) == 3
    assert load.failures == ["status 503"]


def test_new_chunk_is_searched_until_found(server: tuple[str, list[str]]) -> None:
    """It is sent first."""
    url, asked = server

    assert OverHttp(url, HayhooksApi(), psutil.Process()).add(Row("new#0", "text")) is not None
    assert asked == ["/add/run", "/search/run"]


def test_error_of_a_judged_query_is_told(server: tuple[str, list[str]]) -> None:
    """A ranking with holes would be compared as if it were one."""
    with pytest.raises(RagServerError, match="answered 503"):
        OverHttp(server[0], HayhooksApi(), psutil.Process()).rank(["broken"], 5)


def test_answers_are_read_in_their_order() -> None:
    """Each server has its own shape."""
    hits = [{"id": "b#0", "text": "x"}, {"id": "a#1", "text": "y"}]
    own = {"data": [{"attributes": {"document_id": hit["id"]}, "content": [hit["text"]]} for hit in hits]}

    assert TxtaiApi().ids([hits]) == HayhooksApi().ids({"result": hits}) == OwnApi({}).ids(own) == ["b#0", "a#1"]


def test_txtai_is_told_to_index_what_was_added() -> None:
    """To add alone makes nothing searchable there."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, request.content))
        return httpx.Response(200, json=None)

    with httpx.Client(base_url="http://txtai", transport=httpx.MockTransport(answer)) as client:
        TxtaiApi().add(client, Row("n#0", "t"))

    assert asked == [("POST", "/add", b'[{"id":"n#0","text":"t"}]'), ("GET", "/upsert", b"")]


def test_bare_limit_is_indexed_opened_and_searched(own_environment: None, tmp_path: Path) -> None:
    """Through the process that every peer has: what it indexed, another process loads, searches and adds to."""
    chunks = tmp_path / "chunks.jsonl"
    chunks.write_text("".join(json.dumps({"_id": f"{id_}#0", "text": text}) + "\n" for id_, text in TEXTS.items()))
    folder = tmp_path / "index"
    folder.mkdir()
    bare = PeerSystem("bare", "bare")

    indexed = bare.index(chunks, folder)
    with bare.open(folder, IN_PROCESS) as searcher:
        ranked = searcher.rank(["a boat", "how long do cats sleep"], 2)
        load = searcher.search(["a boat", "tea"], callers=2, seconds=60)
        found_s = searcher.add(Row("4#0", "Note 7: a harbour of whales."))
        memory_mb = searcher.memory_mb()

    assert (indexed.num_chunks, set(indexed.versions)) == (3, {"torch", "transformers", "sentence-transformers", "faiss-cpu"})
    assert [ids[0] for ids in ranked] == ["2#0", "1#0"]
    assert [len(ids) for ids in ranked] == [2, 2]
    assert (len(load.latencies_ms), load.failures) == (2, [])
    assert found_s is not None
    assert memory_mb > 50


def test_peer_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how it is."""
    monkeypatch.setattr(processes, "ENVIRONMENTS", tmp_path)
    with pytest.raises(RagServerError, match="make bench-peers"):
        PeerProcess("bare", tmp_path / "log.txt")


def test_peer_that_ends_is_told(own_environment: None, tmp_path: Path) -> None:
    """What it said is in its log."""
    with pytest.raises(RagServerError, match=r"log\.txt"):
        PeerProcess("no_such_peer", tmp_path / "log.txt")
    assert "no_such_peer" in (tmp_path / "log.txt").read_text()


def test_whole_comparison_with_rag_server(
    own_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """rag-server and the bare limit are measured for real and reported; a second run only reports."""
    monkeypatch.setenv("RAG_EVAL_DATA", str(tmp_path / "eval"))
    write_scifact(tmp_path / "eval", TEXTS, {"q1": "sleep of cats", "q2": "masts"}, {("q1", "1"): 1, ("q2", "2"): 1})
    arguments = ["--datasets", "scifact", "--systems", "rag-server,bare", "--rounds", "1", "--seconds", "0.02"]
    arguments += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]

    main(arguments)
    first = capsys.readouterr().out
    report = (tmp_path / "out" / "peers" / "report.md").read_text()

    assert "rag-server indexes 3 chunks" in first
    assert "| rag-server | HTTP, vectors only |" in report
    assert "searches with 32 callers: at least 3 times the bare limit" in report
    assert "failed" not in first
    # Each query's document is found first by every system.
    assert report.count("| 1.000 |") == 3 + 1
    assert (tmp_path / "out" / "peers" / "scifact.png").is_file()

    main(arguments)
    assert "indexes 3 chunks" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "imagenet"], "there is no data set imagenet"),
        (["--systems", "rag-server,elastic"], "there is no system elastic"),
    ],
)
def test_unknown_names_are_told(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured before."""
    assert main([*arguments, "--work", str(tmp_path / "work")]) == 1
    assert message in capsys.readouterr().err


def test_every_peer_has_a_lock() -> None:
    """`make bench-peers` makes an environment of each file there, and each adapter runs in one."""
    locks = {path.stem for path in (processes.ROOT / "requirements" / "peers").glob("*.lock")}
    systems = {system.environment for system in bench_peers.all_systems() if isinstance(system, PeerSystem)}

    assert locks == systems
