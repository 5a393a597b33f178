"""`rag-server batch`: a file of questions or requests to a file of answers, each once, whatever happens in between."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from rag_server import factory
from rag_server.batch_types import Batch, NewBatch, RowStatus
from rag_server.commands.asking import server_client
from rag_server.commands.batching_estimate import run_estimate
from rag_server.commands.batching_output import Lock, ParquetFile, Stream, errors_path, foreign
from rag_server.commands.batching_progress import BatchBar
from rag_server.commands.batching_rows import Input, check_suffix, digest_of, first_rows, open_input
from rag_server.config import Settings
from rag_server.errors import EngineUnavailableError, InvalidRequestError, StoreError
from rag_server.jobs.batches.on_ray import ray_modules
from rag_server.jobs.batches.validation import portions
from rag_server.types import Access, Caller

POLL_S = 0.25
PORTION = 500
# After so long without a row, it is looked at what is in the way.
STILL_S = 2.0
GONE = ("failed", "completed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What the command line says beside the files; `limit` None is all rows."""

    collection: str | None = None
    retry_failed: bool = False
    limit: int | None = None
    dry_run: bool = False
    ordered: bool = False
    as_json: bool = False
    ray: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A batch of the command line, with the files that it is read from and written to."""

    settings: Settings
    store: factory.Store
    given: Input
    out: Path
    options: BatchOptions

    @property
    def fingerprint(self) -> str:
        """What tells this job from all others."""
        return digest_of(self.given.path, self.out.resolve(), self.given.collection, self.options.limit)


def run_batch(settings: Settings, source: Path, out: Path, options: BatchOptions) -> bool:
    """Answer the rows of a file; return whether none failed.

    Raises:
        InvalidRequestError: The input is no list of rows, or the output cannot be written, or is that of another job.
        NotFoundError: There is no such collection.
        MissingExtraError: A library for a format, or Ray, is not installed.
    """
    check_suffix(out)
    if options.ray is not None:
        ray_modules()
    given = open_input(source, options.collection, settings.limits.max_body_bytes)
    if given.kind == "openai" and (source.suffix, out.suffix) != (".jsonl", ".jsonl"):
        raise InvalidRequestError("lines for OpenAI's Batch API are answered in its lines: name an output that ends in .jsonl")
    store = factory.open_store(settings)
    try:
        if given.kind == "questions":
            store.vector_stores.get(str(given.collection), Access())
        job = Job(settings, store, given, out, options)
        # All of it is read once before anything is spent.
        total = sum(1 for _ in first_rows(given.rows(), options.limit))
        if options.dry_run:
            rows = first_rows(given.rows(), options.limit)
            return asyncio.run(run_estimate(settings, rows, total=total, as_json=options.as_json))
        return _run(job)
    finally:
        store.database.close()


def _run(job: Job) -> bool:
    found = job.store.batches.find(job.fingerprint, Access())
    if found is None:
        _refuse_foreign(job.out)
        _refuse_foreign(errors_path(job.out))
    with contextlib.ExitStack() as opened:
        opened.callback(Lock(job.out).release)
        batch = found or _made(job)
        answers = opened.enter_context(contextlib.closing(_file(job, batch, "completed")))
        failures = opened.enter_context(contextlib.closing(_file(job, batch, "failed")))
        answers.adopt()
        batch = _begun(job, batch)
        began_at, done = time.monotonic(), batch.completed
        failures.begin()
        batch = asyncio.run(_watch(job, batch, lambda: (answers.advance(), failures.advance())))
        for file in (answers, failures):
            file.finish()
        if not batch.failed:
            failures.path.unlink(missing_ok=True)
    _report(job, batch, time.monotonic() - began_at, batch.completed - done)
    return not batch.failed


def _file(job: Job, batch: Batch, status: RowStatus) -> Stream | ParquetFile:
    """Return what writes the rows with that status."""
    kind = ParquetFile if job.out.suffix == ".parquet" else Stream
    path = job.out if status == "completed" else errors_path(job.out)
    return kind(job.store.batches, batch, path, status, ordered=job.options.ordered)


def _made(job: Job) -> Batch:
    new = NewBatch(job.given.endpoint, kind=job.given.kind, fingerprint=job.fingerprint, expires_after_s=None)
    return job.store.batches.create(new, Caller())


def _begun(job: Job, batch: Batch) -> Batch:
    """Let all rows of the batch be answered that have no answer yet."""
    batches = job.store.batches
    if job.options.ray is not None and batch.status not in GONE:
        # Before any server does.
        batch = batches.take(batch)
    if batch.status == "validating":
        for portion in portions(first_rows(job.given.rows(), job.options.limit), PORTION):
            batches.add_rows(batch, portion)
        batch = batches.begin(batch)
    elif batch.status in ("cancelled", "expired"):
        batch = batches.begin(batch)
    if job.options.retry_failed:
        batches.retry_failed(batch)
    return batches.fresh(batch)


async def _watch(job: Job, batch: Batch, write: Callable[[], object]) -> Batch:
    """Write what finishes until all has; a server is started where none runs."""
    with BatchBar() as bar:
        while batch.status not in GONE:
            async with _answering(job, batch) as look:
                batch = await _until_ended(job, batch, write, bar, look)
    await asyncio.to_thread(write)
    return batch


@contextlib.asynccontextmanager
async def _answering(job: Job, batch: Batch) -> AsyncIterator[Callable[[], Awaitable[str | None]]]:
    """Have the batch answered for as long as the context lasts; give what tells why nothing comes."""
    if job.options.ray is not None:
        from rag_server.commands.batching_ray import answering_on_ray

        async with answering_on_ray(job.settings, job.store, batch, job.options.ray) as look:
            yield look
    else:
        async with server_client(job.settings, with_engine=True, what="these rows") as client:
            yield lambda: _in_the_way(job, client)


async def _until_ended(
    job: Job, batch: Batch, write: Callable[[], object], bar: BatchBar, look: Callable[[], Awaitable[str | None]]
) -> Batch:
    """Follow the batch until it has ended, or the server that answers it."""
    done, since, note = -1, time.monotonic(), None
    while True:
        batch = await asyncio.to_thread(job.store.batches.fresh, batch)
        await asyncio.to_thread(write)
        if batch.completed + batch.failed != done:
            done, since, note = batch.completed + batch.failed, time.monotonic(), None
        elif time.monotonic() - since > STILL_S:
            try:
                note = await look()
            except httpx.HTTPError:
                return batch
            since = time.monotonic()
        bar.show(batch, note)
        if batch.status in GONE:
            return batch
        await asyncio.sleep(POLL_S)


async def _in_the_way(job: Job, client: httpx.AsyncClient) -> str | None:
    """Return why no row finishes, None where they may just take their time.

    Raises:
        EngineUnavailableError: No engine is installed.
    """
    missing = (await client.get("/ready", timeout=10.0)).json()["missing"]
    if "not installed" in missing.get("engine", ""):
        raise EngineUnavailableError(missing["engine"])
    if missing:
        return "; ".join(missing.values())
    try:
        await asyncio.to_thread(_try_to_write, job.store)
    except StoreError as error:
        return str(error)
    return None


def _try_to_write(store: factory.Store) -> None:
    with store.database.write():
        return


def _refuse_foreign(path: Path) -> None:
    if path.is_file() and path.stat().st_size:
        raise foreign(path)
    if path.exists() and not path.is_file():
        raise InvalidRequestError(f"{path} is no file")


def _report(job: Job, batch: Batch, seconds: float, answered: int) -> None:
    errors = str(errors_path(job.out)) if batch.failed else None
    usage = batch.usage
    if job.options.as_json:
        told = {"id": batch.id, "status": batch.status, "total": batch.total, "completed": batch.completed}
        told |= {"failed": batch.failed, "answered_now": answered, "output": str(job.out), "errors": errors}
        told |= {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "seconds": round(seconds, 3)}
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    print(
        f"{job.out}: {batch.completed:,} of {batch.total:,} rows answered ({answered:,} of them now, in {seconds:.1f} s), "
        f"{usage.input_tokens:,} tokens read, {usage.output_tokens:,} written"
    )
    if batch.failed:
        print(f"{batch.failed:,} rows failed, see {errors}; --retry-failed asks them once more", file=sys.stderr)
