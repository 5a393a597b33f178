"""Spans of a trace: what the program says about its work. `tracing.py` sends them; where nothing is traced they do nothing."""

from collections.abc import Mapping
from typing import Protocol

Attribute = str | bool | int | float


class Span(Protocol):
    """A piece of work, from its making to `end`."""

    def set(self, **attributes: Attribute) -> None:
        """Say more about the work; never text of documents or of questions."""

    def fail(self, error: BaseException) -> None:
        """Say what the work failed with, by the error's type."""

    def end(self) -> None:
        """Say that the work is done."""


class Tracer(Protocol):
    """Makes spans."""

    def request(self, method: str, headers: Mapping[str, str]) -> Span:
        """Begin the span of a request, below the client's own where its headers name one."""

    def stage(self, parent: Span, name: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin the span of a stage of that request."""

    def shutdown(self) -> None:
        """Send what was not sent yet; it blocks."""


class NoSpan:
    """The span of whoever is not traced."""

    def set(self, **attributes: Attribute) -> None:
        """Do nothing."""

    def fail(self, error: BaseException) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


NO_SPAN = NoSpan()
