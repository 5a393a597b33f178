"""What the callers do: search, ask, upload, have batches answered and continue responses; and what must hold of it."""

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from eval.replicas.client import BrokenError, Client
from rag_server.protocols import Json

COLLECTION = "load"
MODEL = f"rag/{COLLECTION}"
ENGINE_MODEL = "scripted"
ENDPOINT = "/v1/chat/completions"
# How often each is done, relative to the others.
WEIGHTS = {"search": 8, "ask": 4, "stream": 4, "converse": 3, "upload": 2, "batch": 1}
BATCH_ROWS = 40
# Words are there or not, whatever the embedding model makes of them.
BY_WORDS = {"retrieve": "lexical"}
WITHIN_S = 180.0
POLL_S = 0.5
# Between what a caller does: the machine is to be busy, not full.
PAUSE_S = 0.05
Fault = tuple[str, str]


@dataclass
class Made:
    """What is there now, and what was found wrong. `files` are uploads' names by their words, `numbers` tells all apart."""

    files: dict[str, str] = field(default_factory=dict)
    batches: list[str] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Work:
    """The callers of one phase."""

    def __init__(self, client: Client, made: Made, chooser: random.Random) -> None:
        self._client = client
        self._made = made
        self._chooser = chooser
        self._vector_store = ""

    async def begin(self) -> None:
        """Find the collection, or make it, and put a first file into it."""
        there = await self._client.call("look", "GET", "/v1/vector_stores")
        ids = [store["id"] for store in there["data"] if store["name"] == COLLECTION]
        if not ids:
            ids = [(await self._client.call("create", "POST", "/v1/vector_stores", json={"name": COLLECTION}))["id"]]
        self._vector_store = ids[0]
        await self.upload()

    async def call_until(self, ended: asyncio.Event) -> None:
        """Do one thing after the other; what is wrong is noted."""
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "search": self.search,
            "ask": self.ask,
            "stream": self.stream,
            "converse": self.converse,
            "upload": self.upload,
            "batch": self.batch,
        }
        while not ended.is_set():
            (kind,) = self._chooser.choices(list(WEIGHTS), list(WEIGHTS.values()))
            try:
                await kinds[kind]()
            except BrokenError as error:
                self._made.faults.append((kind, str(error)))
            await asyncio.sleep(PAUSE_S)

    async def search(self) -> None:
        """Search for the word of a file, which must be found."""
        word = self._chooser.choice(list(self._made.files))
        await self._find(word)

    async def ask(self) -> None:
        """Ask for a word; the answer, written from the file, must have it."""
        word = self._chooser.choice(list(self._made.files))
        answer = await self._client.call("ask", "POST", ENDPOINT, json=_question(word))
        self._expect("ask", word in answer["choices"][0]["message"]["content"], answer)

    async def stream(self) -> None:
        """Ask, and have the answer streamed."""
        word = self._chooser.choice(list(self._made.files))
        events = await self._client.stream("stream", ENDPOINT, {**_question(word), "stream": True})
        said = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
        self._expect("stream", word in said, said)

    async def converse(self) -> None:
        """Have a response stored and continue it: the second one must follow the first."""
        word = f"said{next(self._made.numbers)}"
        first = await self._respond({"input": f"first {word}"})
        second = await self._respond({"input": f"second {word}", "previous_response_id": first["id"]})
        self._expect("respond", second["previous_response_id"] == first["id"], second)
        self._made.responses += [first["id"], second["id"]]

    async def upload(self) -> None:
        """Upload a file into the collection; as soon as it is said to be completed, it must be found."""
        word = f"word{next(self._made.numbers)}"
        name = f"{word}.md"
        content = f"# About {word}\n\nThe meaning of {word} is told here. Cats sleep all day."
        file = await self._send_file("upload", name, content, "assistants")
        path = f"/v1/vector_stores/{self._vector_store}/files"
        await self._client.call("attach", "POST", path, json={"file_id": file["id"]})
        attached = await self._until_ended("upload", f"{path}/{file['id']}", ("completed", "failed", "cancelled"))
        self._expect("upload", attached["status"] == "completed", attached)
        await self._find(word)
        self._made.files[word] = name

    async def batch(self) -> None:
        """Have the requests of a file answered: each must be, once."""
        number = next(self._made.numbers)
        names = [f"row-{number}-{row}" for row in range(BATCH_ROWS)]
        rows = [
            {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": _message(f"{name} {'word ' * 30}")} for name in names
        ]
        content = "".join(f"{json.dumps(row)}\n" for row in rows)
        file = await self._send_file("upload", f"batch-{number}.jsonl", content, "batch")
        body = {"input_file_id": file["id"], "endpoint": ENDPOINT, "completion_window": "24h"}

        async def made() -> Json | None:
            batches = await self._client.call("look", "GET", "/v1/batches", params={"limit": 100})
            return next((batch for batch in batches["data"] if batch["input_file_id"] == file["id"]), None)

        batch = await self._client.call("batch", "POST", "/v1/batches", found=made, json=body)
        self._made.batches.append(batch["id"])
        ended = await self._until_ended("batch", f"/v1/batches/{batch['id']}", ("completed", "failed", "expired", "cancelled"))
        self._expect("batch", ended["status"] == "completed" and ended["request_counts"]["failed"] == 0, ended)
        answered = await self._client.lines("look", f"/v1/files/{ended['output_file_id']}/content")
        self._expect("batch", sorted(row["custom_id"] for row in answered) == sorted(names), f"{len(answered)} rows")

    async def _find(self, word: str) -> None:
        path = f"/v1/vector_stores/{self._vector_store}/search"
        results = (await self._client.call("search", "POST", path, json={"query": word, "rag": BY_WORDS}))["data"]
        found = [result["filename"] for result in results].count(f"{word}.md")
        self._expect("search", found == 1, f"{word} was found {found} times")

    async def _respond(self, body: Json) -> Json:
        return await self._client.call("respond", "POST", "/v1/responses", json={"model": ENGINE_MODEL, **body})

    async def _send_file(self, kind: str, name: str, content: str, purpose: str) -> Json:
        async def stored() -> Json | None:
            files = await self._client.call("look", "GET", "/v1/files", params={"limit": 10_000, "purpose": purpose})
            return next((file for file in files["data"] if file["filename"] == name), None)

        form = {"files": {"file": (name, content.encode())}, "data": {"purpose": purpose}}
        return await self._client.call(kind, "POST", "/v1/files", found=stored, **form)

    async def _until_ended(self, kind: str, path: str, ends: tuple[str, ...]) -> Json:
        try:
            async with asyncio.timeout(WITHIN_S):
                while (found := await self._client.call("look", "GET", path))["status"] not in ends:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise BrokenError(f"{kind}: not ended within {WITHIN_S:g} seconds: {path}") from None
        return found

    def _expect(self, kind: str, holds: bool, seen: object) -> None:
        if not holds:
            self._made.faults.append((kind, str(seen)[:500]))


def _message(text: str) -> Json:
    return {"model": ENGINE_MODEL, "messages": [{"role": "user", "content": text}]}


def _question(word: str) -> Json:
    return {"model": MODEL, "messages": [{"role": "user", "content": f"What is the meaning of {word}?"}], "rag": BY_WORDS}
