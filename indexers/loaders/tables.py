"""Reads tables in text files, and writes rows of any table as lines."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from indexers.loaders.text import clean, decode, whole_file
from rag_server.types import Document

DELIMITERS = ",;\t|"
SNIFFED_ROWS = 50
# csv refuses longer cells than its limit, which is the process's, not the reader's.
MAX_CELL_CHARS = 2**31 - 1
MAX_HEADER_CHARS = 100
# What a header may carry, but not be: numbers, sums of money, dates, addresses.
VALUE = re.compile(r"[\W\d_]*|\S+@\S+|https?://\S+")


def load(path: Path) -> Document:
    """Read a .csv or .tsv file, whatever its delimiter."""
    text = clean(decode(path, path.read_bytes()))
    return whole_file(path, path.stem, "\n".join(lines(_rows(text, _delimiter(text)))))


def lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write each row that is not empty as a line.

    A row below a header becomes "header: value; header: value": a chunk from the middle of a table then says what its
    values are, and a question that names a column finds it; both would be lost under a header far above. Without a
    header the cells stand between bars.
    """
    header: list[str] | None = None
    for row in rows:
        cells = [" ".join(cell.split()) for cell in row]
        if not any(cells):
            continue
        if header is None and sum(map(bool, cells)) > 1:
            header = cells if _is_header(cells) else []
            yield _joined(cells)
        else:
            yield _named(header, cells) if header else _joined(cells)


def _is_header(cells: Sequence[str]) -> bool:
    named = [cell for cell in cells if cell]
    return len(set(named)) == len(named) and all(
        len(cell) <= MAX_HEADER_CHARS and VALUE.fullmatch(cell) is None for cell in named
    )


def _named(header: Sequence[str], cells: Sequence[str]) -> str:
    names = [*header, *[""] * (len(cells) - len(header))]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in zip(names, cells, strict=False) if cell)


def _joined(cells: Sequence[str]) -> str:
    return " | ".join(cells).rstrip(" |").strip()


def _delimiter(text: str) -> str:
    """Return the delimiter that parts most of the first rows into equally many cells."""

    def score(delimiter: str) -> tuple[float, int]:
        sample = _rows(text, delimiter)
        widths = Counter(len(row) for _, row in zip(range(SNIFFED_ROWS), sample, strict=False) if row)
        width, count = max(((w, n) for w, n in widths.items() if w > 1), key=lambda item: item[1], default=(1, 0))
        return count / max(1, widths.total()), width

    return max(DELIMITERS, key=score)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_CELL_CHARS)
    # Lines keep their ends for the cells that reach over several.
    return csv.reader(text.splitlines(keepends=True), delimiter=delimiter)
