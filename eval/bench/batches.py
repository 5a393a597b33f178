"""What the benchmark of batches does: has a batch answered and looks at it, and drives the engine alone."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import psutil

from eval.bench.load import Answer, Target
from rag_server.protocols import Json

PATH = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
# Each look costs the server some milliseconds, which are the engine's where they share the processors.
POLL_S = 0.2
MB = 1024**2
# After so many rows a batch has found out how many the engine takes at once.
SETTLED_ROWS = 50


@dataclass
class Ran:
    """A batch that was answered: the seconds from its first row's begin to its last row's end, and what was seen of it.

    `memory_mb` is the server's at the rows that were asked for.
    """

    seconds: float = 0.0
    batch: Json = field(default_factory=dict)
    memory_mb: dict[int, float] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        """Tokens read and written in a second."""
        return float(self.batch["usage"]["total_tokens"]) / self.seconds


async def make_batch(client: httpx.AsyncClient, bodies: Sequence[Json]) -> str:
    """Upload the bodies as lines and make a batch of them; return its id."""
    lines = [{"custom_id": f"r{number}", "method": "POST", "url": PATH, "body": body} for number, body in enumerate(bodies)]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    file = await client.post("/v1/files", files={"file": ("bench.jsonl", content)}, data={"purpose": "batch"})
    body = {"input_file_id": file.raise_for_status().json()["id"], "endpoint": PATH, "completion_window": "24h"}
    made = (await client.post("/v1/batches", json=body)).raise_for_status()
    return str(made.json()["id"])


async def run_batch(url: str, bodies: Sequence[Json], *, server: int | None = None, marks: Sequence[int] = ()) -> Ran:
    """Have a batch answered; the memory of the process `server` is read at so many rows."""
    ran, began = Ran(), 0.0
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        batch_id = await make_batch(client, bodies)
        while ran.batch.get("status") not in ENDED:
            ran.batch = (await client.get(f"/v1/batches/{batch_id}")).raise_for_status().json()
            now, done = time.perf_counter(), _done(ran.batch)
            if not began and ran.batch["status"] == "in_progress":
                began = now
            if not ran.seconds and done == len(bodies):
                ran.seconds = now - began
            for mark in marks:
                if server is not None and mark <= done and mark not in ran.memory_mb:
                    ran.memory_mb[mark] = psutil.Process(server).memory_info().rss / MB
            await asyncio.sleep(POLL_S)
    if ran.batch["request_counts"]["completed"] != len(bodies):
        raise RuntimeError(f"not every row was answered: {ran.batch}")
    return ran


async def drive(url: str, bodies: Sequence[Json], *, clients: int) -> float:
    """Send the bodies to the engine, so many at a time; return the seconds."""
    target, left = Target(url), iter(bodies)

    async def client() -> None:
        for body in left:
            answer = await target.post(PATH, body)
            if answer.status != 200:
                raise RuntimeError(f"the engine answered {answer.status}")

    started = time.perf_counter()
    try:
        await asyncio.gather(*(client() for _ in range(clients)))
    finally:
        target.close()
    return time.perf_counter() - started


async def ask_live(url: str, bodies: Sequence[Json], *, per_second: float) -> list[Answer]:
    """Send the bodies at random moments (a Poisson process), each over a connection of its own."""
    chooser = random.Random(7)
    tasks: list[asyncio.Task[Answer]] = []

    async def ask(body: Json) -> Answer:
        target = Target(url)
        answer = await target.post(PATH, body)
        target.close()
        return answer

    due = time.perf_counter()
    for body in bodies:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(body)))
        due += chooser.expovariate(per_second)
    answers = await asyncio.gather(*tasks)
    if any(answer.status != 200 for answer in answers):
        raise RuntimeError(f"live requests were not answered: {[answer.status for answer in answers]}")
    return answers


async def during_batch(url: str, rows: Sequence[Json], live: Sequence[Json], *, per_second: float) -> list[Answer]:
    """Ask as people do while a batch is answered, which is cancelled afterwards."""
    async with httpx.AsyncClient(base_url=url, timeout=60.0, trust_env=False) as client:
        batch_id = await make_batch(client, rows)
        settled = min(SETTLED_ROWS, len(rows) // 2)
        while _done((await client.get(f"/v1/batches/{batch_id}")).raise_for_status().json()) < settled:
            await asyncio.sleep(POLL_S)
        answers = await ask_live(url, live, per_second=per_second)
        found = (await client.get(f"/v1/batches/{batch_id}")).raise_for_status().json()
        if found["status"] != "in_progress":
            raise RuntimeError(f"the batch was over before the live requests were: {found['request_counts']}")
        await client.post(f"/v1/batches/{batch_id}/cancel")
        while found["status"] not in ENDED:
            found = (await client.get(f"/v1/batches/{batch_id}")).raise_for_status().json()
            await asyncio.sleep(POLL_S)
    return answers


def _done(batch: Json) -> int:
    return int(batch["request_counts"]["completed"]) + int(batch["request_counts"]["failed"])
