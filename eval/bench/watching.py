"""Notes when the parts of a running server work, by stand-ins that hand every call on to the part."""

import inspect
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Interval:
    """From when to when a part worked, in seconds of time.perf_counter()."""

    name: str
    start_s: float
    end_s: float


class Watch:
    """Collects the intervals; calls may come from any thread."""

    def __init__(self) -> None:
        self._intervals: list[Interval] = []

    def between(self, start_s: float, end_s: float) -> list[Interval]:
        """Return what began in that time, cut at its end."""
        within = [one for one in list(self._intervals) if start_s <= one.start_s < end_s]
        return [Interval(one.name, one.start_s, min(one.end_s, end_s)) for one in within]

    def note(self, name: str, start_s: float) -> None:
        """Take an interval that ends now."""
        self._intervals.append(Interval(name, start_s, time.perf_counter()))


class Watched:
    """Stands in for a part whose methods are noted under the names of `parts`.

    Of an async generator it notes the time to its first item. What a method of `inside` returns is watched in turn.
    """

    def __init__(
        self, part: Any, watch: Watch, parts: Mapping[str, str], inside: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self._part = part
        self._watch = watch
        self._parts = parts
        self._inside = inside or {}

    def __getattr__(self, name: str) -> Any:
        """Return the part's own attribute, or a method that is noted."""
        found = getattr(self._part, name)
        if name in self._parts:
            found = _noted(found, self._watch, self._parts[name])
        if name in self._inside:
            return self._returning_watched(found, self._inside[name])
        return found

    def _returning_watched(self, method: Callable[..., Any], parts: Mapping[str, str]) -> Callable[..., Any]:
        return lambda *given, **named: Watched(method(*given, **named), self._watch, parts)


def total_s(intervals: Sequence[Interval]) -> float:
    """Return how long at least one of the intervals lasts."""
    total, reached = 0.0, float("-inf")
    for one in sorted(intervals, key=lambda one: one.start_s):
        total += max(0.0, one.end_s - max(one.start_s, reached))
        reached = max(reached, one.end_s)
    return total


def _noted(method: Callable[..., Any], watch: Watch, name: str) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(method):
        return _noted_stream(method, watch, name)
    if inspect.iscoroutinefunction(method):

        async def awaited(*given: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return await method(*given, **named)
            finally:
                watch.note(name, started)

        return awaited

    def called(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return method(*given, **named)
        finally:
            watch.note(name, started)

    return called


def _noted_stream(method: Callable[..., AsyncGenerator[Any, None]], watch: Watch, name: str) -> Callable[..., Any]:
    async def streamed(*given: Any, **named: Any) -> AsyncGenerator[Any, None]:
        started = time.perf_counter()
        is_first = True
        async with aclosing(method(*given, **named)) as items:
            async for item in items:
                if is_first:
                    watch.note(name, started)
                is_first = False
                yield item

    return streamed
