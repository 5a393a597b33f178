"""Checks the input of a batch before any row of it is answered, and adds its rows."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from rag_server.batch_lines import MAX_ERRORS, BatchReader
from rag_server.batch_types import Batch, BatchError, BatchRow
from rag_server.errors import NotFoundError, RagServerError
from rag_server.factory import Store
from rag_server.protocols import Engine

# Rows that are added at a time.
PORTION = 500
RAG_PREFIX = "rag/"

# Raises InvalidRequestError for JSON that no parser should see.
Check = Callable[[bytes], None]
T = TypeVar("T")


class Validation:
    """Reads the inputs of batches that were made of files."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        *,
        check: Check,
        own_models: Callable[[], Awaitable[Collection[str]]],
        max_bytes: int,
    ) -> None:
        """Take the parts; `own_models` are the names that this server answers to itself, `max_bytes` is for one line."""
        self._store = store
        self._engine = engine
        self._check = check
        self._own_models = own_models
        self._max_bytes = max_bytes

    async def validate(self, batch: Batch) -> Batch:
        """Add the rows and let them be answered, or give the batch up; return it as it is then.

        Raises:
            LeaseLostError: Another process has the batch.
        """
        served: set[str] | None = None
        # Which models the engine has is not known while it is down.
        with suppress(RagServerError):
            served = {str(model.get("id")) for model in await self._engine.models()} | set(await self._own_models())
        return await asyncio.to_thread(self._validated, batch, served)

    def _validated(self, batch: Batch, served: set[str] | None) -> Batch:
        reader = BatchReader(
            batch.endpoint,
            check=self._check,
            serves=lambda model: self._serves(model, batch, served),
            max_line_bytes=self._max_bytes,
        )
        errors: list[BatchError] = []
        try:
            read = reader.read(self._store.uploads.content(str(batch.input_file_id)))
            for portion in portions(read, PORTION):
                errors += [row for row in portion if isinstance(row, BatchError)]
                if len(errors) >= MAX_ERRORS:
                    break
                if not errors:
                    self._store.batches.add_rows(batch, [row for row in portion if isinstance(row, BatchRow)])
        except NotFoundError:
            errors = [BatchError("input_file_not_found", "the input file was deleted before it was read")]
        if errors:
            return self._store.batches.fail(batch, errors[:MAX_ERRORS])
        return self._store.batches.begin(batch, model=reader.model)

    def _serves(self, model: str, batch: Batch, served: set[str] | None) -> bool:
        if model.startswith(RAG_PREFIX):
            try:
                self._store.vector_stores.get(model.removeprefix(RAG_PREFIX), batch.access)
            except NotFoundError:
                return False
            return True
        return served is None or model in served


def portions(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    iterator = iter(items)
    while portion := list(islice(iterator, size)):
        yield portion
