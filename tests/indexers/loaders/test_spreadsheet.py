"""Workbooks: a section per sheet, the cells as they are shown."""

import datetime as dt
import io
import zipfile
from pathlib import Path

import pytest
import xlsxwriter

from indexers.loaders import spreadsheet
from rag_server.errors import DocumentError
from rag_server.types import Document, Section

ODS_MANIFEST = """<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">
<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/></manifest:manifest>"""
ODS_CONTENT = """<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0">"""
ODS_CONTENT += (
    '<office:body><office:spreadsheet><table:table table:name="Tools"><table:table-row>'
    '<table:table-cell office:value-type="string"><text:p>Name</text:p></table:table-cell>'
    '<table:table-cell office:value-type="string"><text:p>Use</text:p></table:table-cell></table:table-row><table:table-row>'
    '<table:table-cell office:value-type="string"><text:p>Saw</text:p></table:table-cell>'
    '<table:table-cell office:value-type="string"><text:p>cuts</text:p></table:table-cell></table:table-row>'
    "</table:table></office:spreadsheet></office:body></office:document-content>"
)


def _load(folder: Path, sheets: dict[str, list[list[object]]]) -> Document:
    path = folder / "book.xlsx"
    with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"}) as book:
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
            if name == "Hidden":
                sheet.hide()
    return spreadsheet.load(path)


def test_every_sheet_is_a_section_under_its_name(tmp_path: Path) -> None:
    """Hidden ones too; an empty one leaves no trace."""
    head = ["Tool", "Price"]
    document = _load(tmp_path, {"Shop": [head, ["Saw", 12]], "Empty": [], "Hidden": [head, ["Axe", 1.5]]})
    assert document.text == "Shop\nTool | Price\nTool: Saw; Price: 12\n\nHidden\nTool | Price\nTool: Axe; Price: 1.5"
    assert document.sections == (Section(0, "sheet", "Shop"), Section(40, "sheet", "Hidden"))
    assert document.text[40:].startswith("Hidden\n")
    assert document.title == "book"


def test_dates_and_times_are_written_out(tmp_path: Path) -> None:
    document = _load(
        tmp_path, {"S": [["Day", "Done"], [dt.datetime(2024, 5, 1), True], [dt.datetime(2024, 5, 1, 8, 30), False]]}
    )
    assert document.text == "S\nDay | Done\nDay: 2024-05-01; Done: True\nDay: 2024-05-01 08:30:00; Done: False"


def test_an_opendocument_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "book.ods"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        package.writestr("META-INF/manifest.xml", ODS_MANIFEST)
        package.writestr("content.xml", ODS_CONTENT)
    assert spreadsheet.load(path).text == "Tools\nName | Use\nName: Saw; Use: cuts"


def test_an_encrypted_opendocument_spreadsheet_needs_a_password(tmp_path: Path) -> None:
    path = tmp_path / "book.ods"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        package.writestr(
            "META-INF/manifest.xml", ODS_MANIFEST.replace('"/>', '"><manifest:encryption-data/></manifest:file-entry>')
        )
        package.writestr("content.xml", b"noise")
    with pytest.raises(DocumentError, match=r"book\.ods is protected by a password; save a copy without one"):
        spreadsheet.load(path)


def test_a_workbook_without_a_filled_cell_holds_no_text(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"book\.xlsx holds no text"):
        _load(tmp_path, {"S": []})


def test_two_cells_at_the_corners_of_a_sheet_are_refused(tmp_path: Path) -> None:
    """Kept as a grid, they would fill the memory."""
    path = tmp_path / "book.xlsx"
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "a")
        sheet.write(1_048_575, 16_383, "b")
    with pytest.raises(
        DocumentError, match=r"book\.xlsx spreads xl/worksheets/sheet1\.xml over 1048576 rows and 16384 columns"
    ):
        spreadsheet.load(path)


def test_any_cut_of_a_workbook_is_a_document_or_a_document_error(tmp_path: Path) -> None:
    whole = io.BytesIO()
    with xlsxwriter.Workbook(whole) as book:
        book.add_worksheet().write(0, 0, "text")
    path = tmp_path / "book.xlsx"
    for length in range(0, len(whole.getvalue()), 300):
        path.write_bytes(whole.getvalue()[:length])
        with pytest.raises(DocumentError, match=r"^\S+ is not a readable spreadsheet \(.*\); save it again as \.xlsx$"):
            spreadsheet.load(path)
