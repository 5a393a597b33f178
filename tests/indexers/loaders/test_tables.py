"""Tables in text files: every row says what its cells are."""

from pathlib import Path

import pytest

from indexers.loaders import tables
from rag_server.errors import DocumentError


def _read(folder: Path, data: bytes | str, name: str = "prices.csv") -> str:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    document = tables.load(path)
    assert (document.document_id, document.title, document.sections) == (name, "prices", ())
    return document.text


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_and_each_row_names_its_columns(tmp_path: Path, delimiter: str) -> None:
    written = "Tool,Price\r\nSaw,12\r\nAxe,30\r\n".replace(",", delimiter)
    assert _read(tmp_path, written) == "Tool | Price\nTool: Saw; Price: 12\nTool: Axe; Price: 30"


def test_the_delimiter_is_not_the_commonest_character(tmp_path: Path) -> None:
    """Decimal commas and commas of sentences come in any number."""
    written = "Name;Price;Note\nSaw;1,5;sharp, long, new\nAxe;2,25;old\n"
    assert _read(tmp_path, written).split("\n")[1] == "Name: Saw; Price: 1,5; Note: sharp, long, new"


def test_quoted_cells_keep_delimiters_and_become_one_line(tmp_path: Path) -> None:
    assert _read(tmp_path, 'Name,Note\nSaw,"a, ""b""\nc"\n') == 'Name | Note\nName: Saw; Note: a, "b" c'


def test_ragged_rows_keep_all_their_cells(tmp_path: Path) -> None:
    """A cell without a column's name stands alone; an empty cell is left out."""
    assert _read(tmp_path, "a,b\n1\n1,2,3\n,5\n") == "a | b\na: 1\na: 1; b: 2; 3\nb: 5"


def test_a_line_above_the_header_stands_alone(tmp_path: Path) -> None:
    assert _read(tmp_path, "Stock 2024,,\nTool,Price,\nSaw,12,\n") == "Stock 2024\nTool | Price\nTool: Saw; Price: 12"


@pytest.mark.parametrize("first", ["1,2,3", "a,a,b", "2024-01-05,x,y", "me@example.org,x,y", f"{'x' * 101},b,c"])
def test_a_first_row_of_values_is_no_header(tmp_path: Path, first: str) -> None:
    """Numbers, dates, addresses, repetitions and sentences name no column."""
    assert _read(tmp_path, f"{first}\n4,5,6\n") == f"{first}\n4,5,6".replace(",", " | ")


def test_a_single_column_is_plain_lines(tmp_path: Path) -> None:
    assert _read(tmp_path, "Name\nAda\n\nGrace\n") == "Name\nAda\nGrace"


def test_a_cell_longer_than_the_limit_of_csv_is_read(tmp_path: Path) -> None:
    assert len(_read(tmp_path, f"Name,Note\nSaw,{'x' * 200_000}\n")) > 200_000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp932"])
def test_any_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    written = "名前,住所\n佐藤太郎,東京都千代田区\n三木英子,大阪府大阪市\n"
    assert _read(tmp_path, written.encode(encoding)).split("\n")[1] == "名前: 佐藤太郎; 住所: 東京都千代田区"


@pytest.mark.parametrize("data", [b"", b"\n\n", b",,,\n,,,\n"])
def test_a_table_without_a_filled_cell_holds_no_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"prices\.csv holds no text"):
        _read(tmp_path, data)


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="is not text but a binary file"):
        _read(tmp_path, bytes(range(256)) * 20)
