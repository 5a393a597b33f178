"""Lets the stages of a job run side by side: what one makes waits, up to a limit, until the next one takes all of it."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Queue(Generic[Item]):
    """Holds the items between two threads. Sizes are in whatever `size_of` counts."""

    def __init__(self, limit: int, size_of: Callable[[Item], int]) -> None:
        self._limit = limit
        self._size_of = size_of
        self._items: list[Item] = []
        self._size = 0
        self._changed = threading.Condition()
        self._is_ended = False
        self._is_abandoned = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Add an item once less than the limit waits; return False when nobody takes it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < self._limit or self._is_abandoned)
            self._items.append(item)
            self._size += self._size_of(item)
            self._changed.notify_all()
            return not self._is_abandoned

    def take(self) -> list[Item]:
        """Return all that waits once something does; nothing at the end, or what ended it as an error."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._is_ended)
            taken, self._items, self._size = self._items, [], 0
            self._changed.notify_all()
        if not taken and self._error is not None:
            raise self._error
        return taken

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more items come, and why, if it is an error."""
        with self._changed:
            self._is_ended = True
            self._error = error
            self._changed.notify_all()

    def abandon(self) -> None:
        """Say that no more items are taken."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()


def ahead(
    items: Generator[Item, None, None], *, limit: int, size_of: Callable[[Item], int]
) -> Generator[list[Item], None, None]:
    """Yield the items, which are made in a thread of their own, as many at a time as are ready: no more than about `limit`.

    What making them raises is raised here, after the items before it.
    """
    queue = _Queue(limit, size_of)

    def make() -> None:
        error: BaseException | None = None
        try:
            with closing(items):
                for item in items:
                    if not queue.put(item):
                        return
        except BaseException as raised:  # noqa: BLE001 - raised again where the items are taken
            error = raised
        queue.end(error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while ready := queue.take():
            yield ready
    finally:
        queue.abandon()
        thread.join()


@contextmanager
def behind(
    act: Callable[[list[Item]], None], *, limit: int, size_of: Callable[[Item], int]
) -> Iterator[Callable[[Item], None]]:
    """Give what hands an item over to `act`, which runs in a thread of its own on all that wait: no more than about `limit`.

    All that was handed over is done at the end of the context, also when the context breaks off. What `act` raises is raised
    by the next hand-over, or at the end.
    """
    queue = _Queue(limit, size_of)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            while waiting := queue.take():
                act(waiting)
        except BaseException as error:  # noqa: BLE001 - raised again where the items come from
            failed.append(error)
            queue.abandon()

    def hand_over(item: Item) -> None:
        if not queue.put(item):
            raise failed[0]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield hand_over
    finally:
        queue.end()
        thread.join()
    if failed:
        raise failed[0]
