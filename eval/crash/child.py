"""The process that the crash test kills: does operations, tells of each one, and may kill itself at a boundary."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import sqlalchemy
import structlog
from sqlalchemy import event

from eval.crash.work import Operation, Session, make_small

# Where the operating system is asked to make something lasting or visible.
BOUNDARIES = ("fsync", "replace", "pwrite", "unlink")
STARTING = -1


@dataclass(frozen=True, slots=True)
class Kill:
    """When the process kills itself: before or after so many boundaries from the start of an operation; 0 means never."""

    operation: int
    boundary: int
    after: bool = False


class Boundaries:
    """Counts calls to the operating system and commits, and kills the process at one of them."""

    def __init__(self, kill: Kill) -> None:
        self._kill = kill
        self._armed = False
        self.count = 0

    def install(self) -> None:
        """Put the count in front of every boundary of this process."""
        for name in BOUNDARIES:
            setattr(os, name, self._counted(getattr(os, name)))
        event.listen(sqlalchemy.Engine, "commit", self._commit)

    def begin(self, operation: int) -> None:
        """Start counting anew; from the chosen operation on it kills."""
        self.count = 0
        self._armed = self._armed or operation == self._kill.operation

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            is_last = self._is_last()
            if is_last and not self._kill.after:
                kill_self()
            result = call(*args, **kwargs)
            if is_last:
                kill_self()
            return result

        return counted

    def _commit(self, connection: sqlalchemy.Connection) -> None:
        if connection.get_execution_options().get("writes", False) and self._is_last():
            if self._kill.after:
                connection.exec_driver_sql("COMMIT")
            kill_self()

    def _is_last(self) -> bool:
        if self._armed:
            self.count += 1
        return self._armed and self.count == self._kill.boundary


def kill_self() -> None:
    """End the process as a power switch would: nothing is flushed, closed or released."""
    os.kill(os.getpid(), signal.SIGKILL)


def run(directory: Path, operations: Sequence[Operation], kill: Kill, journal: Connection) -> None:
    """Do the operations, and kill this process in the end."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    make_small()
    boundaries = Boundaries(kill)
    boundaries.install()
    boundaries.begin(STARTING)
    try:
        session = Session(directory)
        session.vector_store()
        for number, operation in enumerate(operations):
            journal.send(("begin", number, 0))
            boundaries.begin(number)
            session.do(operation)
            journal.send(("acknowledged", number, boundaries.count))
    except BaseException as error:
        journal.send(("failed", f"{type(error).__name__}: {error}", 0))
        raise
    journal.send(("end", len(operations), 0))
    sys.stdout.flush()
    kill_self()
