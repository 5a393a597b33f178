"""Ends what was begun beside something else."""

import asyncio
from typing import Any


async def end_tasks(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel tasks and wait for their end; what one of them ends with is not raised here."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
