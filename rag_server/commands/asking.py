"""`rag-server search` and `ask`: clients of the running server, or of one started for the moment."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from urllib.parse import quote

import httpx
from rich.console import Console

from rag_server.commands.serving import temporary_server
from rag_server.config import RerankKind, Settings
from rag_server.errors import EngineUnavailableError, RagServerError
from rag_server.event_lines import event_data
from rag_server.protocols import Json
from rag_server.services import Address, read_address

POLL_S = 0.5
# These rerankers need a language model beside the server.
BY_A_LANGUAGE_MODEL = {"full_ranking", "sliding_window", "listwise_scorer"}
# Loading the embedding model and a model for the engine takes minutes on a slow machine.
TIMEOUT = httpx.Timeout(600.0, connect=5.0)


@dataclass(frozen=True, slots=True)
class AskOptions:
    """What a request says instead of the settings; None leaves it to them."""

    filters: Json | None = None
    rerank: RerankKind | None = None


async def run_search(settings: Settings, query: str, *, collection: str, k: int, options: AskOptions, as_json: bool) -> None:
    """Print the best passages."""
    by_a_language_model = (options.rerank or settings.rerank.kind) in BY_A_LANGUAGE_MODEL
    async with server_client(settings, with_engine=by_a_language_model) as client:
        if by_a_language_model:
            await wait_ready(client, collection)
        path = f"/v1/vector_stores/{quote(collection, safe='')}/search"
        body = {"query": query, "max_num_results": k, "filters": options.filters, "rag": {"rerank": options.rerank}}
        page = _checked(await client.post(path, json=body))
    _warn_of_fallback(page["rag"])
    if as_json:
        print(json.dumps(page["data"], ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for rank, result in enumerate(page["data"], start=1):
        console.print(f"[bold]{rank}. {_escaped(result['rag']['title'] or result['filename'])}[/bold]  {result['score']:.4f}")
        console.print(_escaped(f"   {_where(result['filename'], result['rag']['place'], result['rag'])}"), style="dim")
        console.print(_escaped("   " + " ".join(result["content"][0]["text"].split())[:400]))
    if not page["data"]:
        print("nothing found", file=sys.stderr)


async def run_ask(settings: Settings, question: str, *, collection: str, options: AskOptions, as_json: bool) -> None:
    """Print the answer as it is written, then what it rests on."""
    async with server_client(settings, with_engine=True) as client:
        await wait_ready(client, collection)
        body = {"model": f"rag/{collection}", "messages": [{"role": "user", "content": question}], "stream": True}
        body["rag"] = asdict(options)
        answer, rag = await _stream(client, body, shown=not as_json)
    _warn_of_fallback(rag)
    if as_json:
        print(json.dumps({"answer": answer, **rag}, ensure_ascii=False, indent=2))
    else:
        _print_citations(rag)


@contextlib.asynccontextmanager
async def server_client(
    settings: Settings, *, with_engine: bool, what: str = "this question"
) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the server that runs on this data directory, or of a temporary one that is started for `what`."""
    address = read_address(settings.data_dir)
    if address is not None and await _answers(address.url):
        async with _connection(address) as client:
            yield client
        return
    if with_engine:
        print(f"no server is running: starting one for {what} (`rag-server serve` keeps one ready)", file=sys.stderr)
    async with (
        temporary_server(settings, with_engine=with_engine) as started,
        _connection(started) as client,
    ):
        yield client


def _connection(address: Address) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {address.secret}"}
    return httpx.AsyncClient(base_url=address.url, headers=headers, timeout=TIMEOUT, trust_env=False)


async def _answers(address: str) -> bool:
    try:
        async with httpx.AsyncClient(base_url=address, timeout=2.0, trust_env=False) as client:
            return (await client.get("/health")).status_code == 200
    except httpx.HTTPError:
        return False


async def wait_ready(client: httpx.AsyncClient, collection: str | None = None) -> None:
    """Return once questions are answered, showing what is still missing.

    Raises:
        RagServerError: There is no such collection; that is known before the engine is up.
    """
    with Console(stderr=True).status("starting") as status:
        while True:
            missing = (await client.get("/ready")).json()["missing"]
            if collection is not None and "index" not in missing:
                _checked(await client.get(f"/v1/vector_stores/{quote(collection, safe='')}"))
            if not missing:
                return
            if "not installed" in missing.get("engine", ""):
                raise EngineUnavailableError(missing["engine"])
            status.update("; ".join(_escaped(detail) for detail in missing.values()))
            await asyncio.sleep(POLL_S)


async def _stream(client: httpx.AsyncClient, body: Json, *, shown: bool) -> tuple[str, Json]:
    """Return the answer and its merged `rag` object, writing the answer out while it comes if `shown`."""
    answer = ""
    rag: Json = {}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            await response.aread()
            _checked(response)
        async with aclosing(event_data(response.aiter_bytes())) as events:
            async for data in events:
                if data == "[DONE]":
                    break
                chunk = json.loads(data)
                if "error" in chunk:
                    raise RagServerError(chunk["error"]["message"])
                rag |= chunk.get("rag", {})
                for choice in chunk["choices"]:
                    piece = choice["delta"].get("content") or ""
                    answer += piece
                    if shown:
                        print(piece, end="", flush=True)
    if shown:
        print()
    return answer, rag


def _print_citations(rag: Json) -> None:
    passages = {passage["id"]: passage for passage in rag["passages"]}
    console = Console(highlight=False, soft_wrap=True)
    # A model that repeats itself need not be quoted each time.
    for citation in {(c["number"], c["passage_id"], c["quote"]): c for c in rag["citations"]}.values():
        passage = passages[citation["passage_id"]]
        mark = f"[{citation['number']}]" if citation["number"] else "[·]"
        if citation["verified"]:
            where = _where(passage["filename"], passage["place"], citation)
            console.print(_escaped(f"\n{mark} {where}"), style="bold")
            console.print(_escaped(f"    “{' '.join(citation['quote'].split())}”"))
        else:
            console.print(
                _escaped(f"\n{mark} {passage['filename']}: not verified, the passage does not say this"), style="yellow"
            )
    if not rag["citations"]:
        console.print("\nNo sentence of this answer is supported by the passages that were found.", style="yellow")


def _warn_of_fallback(rag: Json) -> None:
    fallback = rag["rerank"]["fallback"]
    if fallback is not None:
        print(f"the passages are in the order of the first search, not reranked: {fallback}", file=sys.stderr)


def _where(filename: str, place: Json, span: Json) -> str:
    """Return where a stretch of text stands, such as "report.pdf, page 3, characters 10-20"."""
    labels = [f"{kind} {int(place[kind])}" for kind in ("page", "slide") if kind in place]
    labels += [f"sheet {place['sheet']}"] if "sheet" in place else []
    labels += [str(place["heading"])] if "heading" in place else []
    return ", ".join([filename, *labels, f"characters {span['start']}–{span['end']}"])


def _checked(response: httpx.Response) -> Json:
    body: Json = response.json()
    if response.status_code != 200:
        raise RagServerError(body["error"]["message"])
    return body


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
