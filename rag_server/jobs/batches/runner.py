"""Works on the batches that wait, in the server's process, whoever made them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import structlog

from rag_server.batch_types import Batch, LeaseLostError, RowError
from rag_server.errors import NotFoundError, StoreError
from rag_server.factory import Store
from rag_server.jobs.batches.answering import Answering, Send
from rag_server.jobs.batches.control import Control, Looks
from rag_server.jobs.batches.gate import Gate
from rag_server.jobs.batches.output import write_files
from rag_server.jobs.batches.validation import Validation
from rag_server.store.batch_leases import LEASE_S
from rag_server.task_end import end_tasks

log = structlog.get_logger()

POLL_S = 0.5
RENEWED_EVERY_S = LEASE_S / 3
# Batches that are worked on at once; each has a window of its rows in memory.
MAX_AT_WORK = 4
# After an error of the store.
RETRY_S = 2.0
EXPIRED = RowError("batch_expired", "the batch's time was over before this request was answered")
CANCELLED = RowError("batch_cancelled", "the batch was cancelled before this request was answered")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a runner works with."""

    store: Store
    gate: Gate
    send: Send
    looks: Looks
    validation: Validation


class BatchRunner:
    """Leases batches and brings each to its end."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._batches = parts.store.batches
        self._at_work: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work for as long as the context lasts; what was answered by its end is written down, and the batches are let go."""
        control = Control(self._parts.gate, self._parts.looks)
        tasks = [asyncio.ensure_future(self._take_up()), asyncio.ensure_future(control.run())]
        try:
            yield
        finally:
            await end_tasks(*tasks)
            await end_tasks(*self._at_work)

    async def _take_up(self) -> None:
        while True:
            batch = await self._leased() if len(self._at_work) < MAX_AT_WORK else None
            if batch is None:
                await asyncio.sleep(POLL_S)
                continue
            task = asyncio.create_task(self._work(batch))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)

    async def _leased(self) -> Batch | None:
        leasing = asyncio.ensure_future(asyncio.to_thread(self._batches.lease))
        try:
            return await asyncio.shield(leasing)
        except asyncio.CancelledError:
            # The thread goes on, and nobody would work on what it takes.
            with contextlib.suppress(StoreError):
                if (batch := await leasing) is not None:
                    await asyncio.to_thread(self._batches.release, batch)
            raise
        except Exception as error:  # noqa: BLE001 - it is to go on after whatever failed once
            log.error("no batch can be taken up; it is tried again", reason=f"{type(error).__name__}: {error}")
            return None

    async def _work(self, batch: Batch) -> None:
        """Bring a batch to its end, unless another process gets it or this one ends."""
        log.info("a batch is worked on", batch=batch.id, status=batch.status, rows=batch.total)
        renewing = asyncio.ensure_future(self._renew(batch))
        bringing = asyncio.ensure_future(self._bring_to_its_end(batch))
        try:
            done, _ = await asyncio.wait({renewing, bringing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        except LeaseLostError as error:
            log.warning("a batch is let go", batch=batch.id, reason=str(error))
        except Exception as error:
            log.exception("a batch failed; it is taken up again", batch=batch.id, reason=str(error))
            await asyncio.sleep(RETRY_S)
        finally:
            await end_tasks(renewing, bringing)
            with contextlib.suppress(StoreError):
                await asyncio.to_thread(self._batches.release, batch)

    async def _renew(self, batch: Batch) -> None:
        renewed_at = time.monotonic()
        while True:
            await asyncio.sleep(RENEWED_EVERY_S)
            try:
                await asyncio.to_thread(self._batches.renew, batch)
                renewed_at = time.monotonic()
            except StoreError as error:
                log.error("the lease of a batch cannot be renewed; it is tried again", batch=batch.id, reason=str(error))
            if time.monotonic() - renewed_at > LEASE_S:
                log.warning("the lease of a batch has run out", batch=batch.id)

    async def _bring_to_its_end(self, batch: Batch) -> None:
        """Take the steps that are left; one that the store does not take is tried again."""
        while True:
            try:
                batch = await asyncio.to_thread(self._batches.fresh, batch)
                if batch.status == "validating":
                    await self._parts.validation.validate(batch)
                elif batch.status == "in_progress":
                    await self._answer(batch)
                elif batch.status in ("finalizing", "cancelling"):
                    await self._end(batch)
                else:
                    log.info("a batch has ended", batch=batch.id, status=batch.status, rows=batch.total, failed=batch.failed)
                    return
            except NotFoundError:
                raise LeaseLostError("it was deleted") from None
            except StoreError as error:
                log.error("a batch waits for the store", batch=batch.id, reason=str(error))
                await asyncio.sleep(RETRY_S)

    async def _answer(self, batch: Batch) -> None:
        """Answer the rows until each has a result, the batch is cancelled, or its time is over."""
        answering = Answering(self._batches, batch, self._parts.gate, self._parts.send)
        rows = asyncio.ensure_future(answering.run())
        stopped = asyncio.ensure_future(self._until_stopped(batch))
        try:
            done, _ = await asyncio.wait({rows, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            await end_tasks(rows, stopped)
            # What was answered counts, whatever the end; where the store cannot be written now, it is asked again.
            with contextlib.suppress(LeaseLostError, TimeoutError):
                await asyncio.wait_for(answering.recorder.flush(), RETRY_S)
        await asyncio.to_thread(self._batches.finalize, batch, expired=rows not in done)

    async def _until_stopped(self, batch: Batch) -> None:
        """Return once the batch is not to be answered any more."""
        while batch.status == "in_progress" and (batch.expires_at is None or time.time() < batch.expires_at):
            await asyncio.sleep(POLL_S)
            with contextlib.suppress(StoreError):
                batch = await asyncio.to_thread(self._batches.fresh, batch)

    async def _end(self, batch: Batch) -> None:
        """Give the rows without an answer an error, write the files, and say that it has ended."""
        status: Literal["completed", "expired", "cancelled"] = "completed" if batch.expired_at is None else "expired"
        if batch.status == "cancelling":
            status = "cancelled"
        if status != "completed":
            error = CANCELLED if status == "cancelled" else EXPIRED
            while await asyncio.to_thread(self._batches.fail_pending, batch, error):
                continue
        batch = await asyncio.to_thread(self._batches.fresh, batch)
        output, errors = await asyncio.to_thread(write_files, self._batches, self._parts.store.uploads, batch)
        await asyncio.to_thread(self._batches.finish, batch, status, output_file_id=output, error_file_id=errors)
