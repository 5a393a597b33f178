"""Tables as they are read, and a report whose files are all there."""

import json
import struct
from pathlib import Path

from pydantic import SecretStr

from eval.report import Plot, Series, Table, as_markdown, as_text, write_report
from rag_server import __version__

TABLE = Table("Some figures", ("name", "nDCG@10", "calls"), (("bm25", 0.50583, None), ("full|ranking", 1.0, 43)))
LINES = Plot("lines.png", "Accuracy", "place", "accuracy", (Series("on", (1, 2), (0.5, 0.6), (0.4, 0.5), (0.6, 0.8)),))
BARS = Plot("bars.png", "Ranking", "", "nDCG@10", (Series("a", (0, 1), (0.5, 0.6)), Series("b", (1,), (0.3,))), ("x", "y"))


def test_text_table_is_aligned() -> None:
    """Words stand to the left, numbers to the right with four decimals, and a dash where there is no value."""
    assert as_text(TABLE).splitlines() == [
        "Some figures",
        "name          nDCG@10  calls",
        "bm25           0.5058      –",
        "full|ranking   1.0000     43",
    ]


def test_markdown_table_keeps_its_columns() -> None:
    """Every line has the same number of unescaped bars, whatever the cells hold."""
    lines = as_markdown(TABLE).splitlines()

    assert lines[0] == "### Some figures"
    assert lines[3] == "| --- | ---: | ---: |"
    assert lines[5] == r"| full\|ranking | 1.0000 | 43 |"
    assert {line.replace(r"\|", "").count("|") for line in lines[2:]} == {4}


def test_report_holds_everything_it_names(tmp_path: Path) -> None:
    """The report has the command, the version, the tables, the notes and links to plots that are PNG images."""
    folder = tmp_path / "deep" / "report"

    path = write_report(
        folder,
        title="A measurement",
        command="python -m eval.run_rerank",
        settings={"rerank": {"window": 20}, "key": SecretStr("hidden"), "data": tmp_path},
        tables=[TABLE],
        plots=[LINES, BARS],
        notes=["One query failed."],
    )

    text = path.read_text(encoding="utf-8")
    assert path == folder / "report.md"
    for part in ("# A measurement", "python -m eval.run_rerank", __version__, as_markdown(TABLE), "- One query failed."):
        assert part in text
    for plot in (LINES, BARS):
        assert f"![{plot.title}]({plot.filename})" in text
        header = (folder / plot.filename).read_bytes()[:24]
        assert header[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", header[16:24]) == (960, 600)


def test_settings_are_json_without_secrets(tmp_path: Path) -> None:
    """Settings stand beside the report, a path as its text and a secret not at all."""
    settings = {"key": SecretStr("hidden"), "data": tmp_path, "rerank": {"window": 20}}

    write_report(tmp_path, title="T", command="c", settings=settings, tables=[], plots=[])

    written = (tmp_path / "settings.json").read_text()
    assert "hidden" not in written
    assert json.loads(written) == {"key": "**********", "data": str(tmp_path), "rerank": {"window": 20}}


def test_intervals_and_categories_change_the_drawing(tmp_path: Path) -> None:
    """Error bars are drawn where a series has bounds, and bars instead of lines where there are categories."""
    bare = Series("on", (0, 1), (0.5, 0.6))
    bounded = Series("on", (0, 1), (0.5, 0.6), (0.4, 0.5), (0.6, 0.8))
    plots = [
        Plot("line.png", "t", "x", "y", (bare,)),
        Plot("bounds.png", "t", "x", "y", (bounded,)),
        Plot("bars.png", "t", "x", "y", (bare,), ("a", "b")),
    ]

    write_report(tmp_path, title="T", command="c", settings={}, tables=[], plots=plots)

    assert len({(tmp_path / plot.filename).read_bytes() for plot in plots}) == 3
