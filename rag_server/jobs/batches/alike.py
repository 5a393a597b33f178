"""Which rows get the answer of another one, because they ask the same."""

from collections.abc import Iterable

from rag_server.jobs.batches.rows import Asked


class Alike:
    """Of rows that ask the same, the first is asked; the others are kept by their numbers until its result is written down."""

    def __init__(self) -> None:
        self._others: dict[str, list[int]] = {}
        self._key_of: dict[int, str] = {}

    def __bool__(self) -> bool:
        """Whether a row's result is not written down yet on which others may wait."""
        return bool(self._others)

    def first_of_each(self, rows: Iterable[Asked]) -> list[Asked]:
        """Return the rows that are to be asked."""
        return [row for row in rows if row.key is None or self._is_first(row.number, row.key)]

    def pop(self, number: int) -> list[int]:
        """Return the rows that get the same result as this one, which is written down."""
        key = self._key_of.pop(number, None)
        return [] if key is None else self._others.pop(key)

    def _is_first(self, number: int, key: str) -> bool:
        if key in self._others:
            self._others[key].append(number)
            return False
        self._others[key] = []
        self._key_of[number] = key
        return True
