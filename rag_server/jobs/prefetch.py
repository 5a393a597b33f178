"""Reads ahead: an iterator runs in a thread of its own, a bounded number of items before whoever uses them."""

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _End:
    """Comes after the last item; `error` is what the iterable raised instead of another one."""

    error: BaseException | None = None


def prefetched(items: Iterable[Item], size: int) -> Generator[Item, None, None]:
    """Yield the items, up to `size` of them made ahead; what the iterable raises is raised here, in its place."""
    ahead: queue.Queue[Item | _End] = queue.Queue(maxsize=size)
    stopped = threading.Event()
    thread = threading.Thread(target=_produce, args=(items, ahead, stopped), daemon=True)
    thread.start()
    try:
        while not isinstance(item := ahead.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()


def _produce(items: Iterable[Item], ahead: "queue.Queue[Item | _End]", stopped: threading.Event) -> None:
    end = _End()
    try:
        for item in items:
            _put(ahead, item, stopped)
            if stopped.is_set():
                return
    except BaseException as error:  # noqa: BLE001 - raised again by the consumer
        end = _End(error)
    _put(ahead, end, stopped)


def _put(ahead: "queue.Queue[Item | _End]", item: Item | _End, stopped: threading.Event) -> None:
    while not stopped.is_set():
        try:
            ahead.put(item, timeout=0.1)
        except queue.Full:
            continue
        return
