"""Reads the sheets of a workbook: .xlsx, .xls and .ods."""

import datetime as dt
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from python_calamine import CalamineError, CalamineWorkbook, PasswordError

from indexers.loaders.builder import DocumentBuilder
from indexers.loaders.package import DAMAGE, Format, check_package, is_encrypted_package, needs_password, unreadable
from indexers.loaders.tables import lines
from rag_server.errors import DocumentError
from rag_server.types import Document

FORMAT = Format("spreadsheet", ".xlsx")
ZIP_SIGNATURE = b"PK"
# calamine keeps a sheet as a full grid, however few of its cells are written.
MAX_GRID_CELLS = 20_000_000
WRITTEN_CELL = re.compile(rb'\br="([A-Z]{1,3})(\d{1,7})"')

Cell = int | float | str | bool | dt.time | dt.date | dt.datetime | dt.timedelta


def load(path: Path) -> Document:
    """Read every sheet of a workbook, hidden ones too, under its name."""
    data = path.read_bytes()
    if is_encrypted_package(data):
        raise needs_password(path)
    builder = DocumentBuilder()
    try:
        if data.startswith(ZIP_SIGNATURE):
            check_package(path, FORMAT)
            _check_grids(path)
        with CalamineWorkbook.from_path(path) as workbook:
            for name in workbook.sheet_names:
                _add_sheet(builder, name, workbook)
    except PasswordError as error:
        raise needs_password(path) from error
    except (CalamineError, *DAMAGE) as error:
        raise unreadable(path, FORMAT, error) from error
    return builder.build(path, "")


def _add_sheet(builder: DocumentBuilder, name: str, workbook: CalamineWorkbook) -> None:
    sheet = workbook.get_sheet_by_name(name)
    text = "\n".join(lines([_written(cell) for cell in row] for row in sheet.iter_rows()))
    if text:
        builder.start_section("sheet", name)
        builder.add(name)
        builder.add(text, "\n")


def _written(cell: Cell) -> str:
    """Return a cell much as a spreadsheet shows it."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, dt.datetime):
        return cell.isoformat(" ").removesuffix(" 00:00:00")
    return str(cell)


def _check_grids(path: Path) -> None:
    for name, last_row, last_column in _grids(path):
        if last_row * last_column > MAX_GRID_CELLS:
            raise DocumentError(
                f"{path} spreads {name} over {last_row} rows and {last_column} columns; delete the cells far from the others"
            )


def _grids(path: Path) -> Iterator[tuple[str, int, int]]:
    with zipfile.ZipFile(path) as package:
        for name in package.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                cells = WRITTEN_CELL.findall(package.read(name))
                rows = (int(row) for _, row in cells)
                yield name, max(rows, default=0), max((_column_number(column) for column, _ in cells), default=0)


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number
