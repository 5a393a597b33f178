"""`rag-server batch --dry-run`: what a job would take, from a few of its rows."""

import asyncio
import json
import time
from collections.abc import Iterable

import httpx

from rag_server.batch_types import BatchRow
from rag_server.commands.asking import server_client, wait_ready
from rag_server.config import Settings
from rag_server.jobs.batches.outcomes import error_of, usage_of
from rag_server.protocols import Json

# Rows that are answered for it.
SAMPLE = 5


async def run_estimate(settings: Settings, rows: Iterable[BatchRow], *, total: int, as_json: bool) -> bool:
    """Answer some rows without recording anything, and print what all would take; return whether those were answered."""
    every = max(1, total // SAMPLE)
    sound = [row for place, row in enumerate(rows) if place % every == 0 and row.error is None][:SAMPLE]
    async with server_client(settings, with_engine=True, what="these rows") as client:
        await wait_ready(client)
        # The first answer of a server takes longer than all others.
        await _answer(client, sound[:1])
        began_at = time.monotonic()
        answers = await _answer(client, sound)
        seconds = time.monotonic() - began_at
    _print(answers, total=total, seconds=seconds * total / max(1, len(sound)), as_json=as_json)
    return bool(answers) and not any(error_of(answer) for answer in answers)


async def _answer(client: httpx.AsyncClient, rows: Iterable[BatchRow]) -> list[Json]:
    requests = [json.loads(row.request) for row in rows]
    answers = await asyncio.gather(*(client.post(request["url"], json=request["body"]) for request in requests))
    return [answer.json() for answer in answers]


def _print(answers: list[Json], *, total: int, seconds: float, as_json: bool) -> None:
    used = [usage_of(answer) for answer in answers]
    share = total / max(1, len(answers))
    read, written = (round(share * sum(getattr(usage, name) for usage in used)) for name in ("input_tokens", "output_tokens"))
    failed = [str(error_of(answer).get("message")) for answer in answers if error_of(answer)]
    if as_json:
        told = {"rows": total, "sampled": len(answers), "input_tokens": read, "output_tokens": written}
        print(json.dumps({**told, "seconds": round(seconds, 1), "failed": failed}, ensure_ascii=False, indent=2))
        return
    print(
        f"{total:,} rows: about {read:,} tokens read, {written:,} written, and at most about {_duration(seconds)}, by "
        f"{len(answers)} of them that were answered (nothing was recorded)"
    )
    for message in failed:
        print(f"one of them failed: {message}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
