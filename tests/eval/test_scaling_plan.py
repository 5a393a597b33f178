"""The command that plans: its report, its errors, and the documentation that shows its figures."""

from pathlib import Path

import pytest

from eval.scaling import tables
from eval.scaling.fleet import Machine, Prices
from eval.scaling.page import with_tables
from eval.scaling_plan import SIZES, main
from rag_server.errors import ConfigError
from tests.eval.scaling.example import constants

DOCS = Path(__file__).parents[2] / "docs" / "scaling.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with round constants."""
    path = tmp_path / "constants.json"
    path.write_text(constants().model_dump_json())
    return path


def test_report_has_a_plan_for_every_size(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each size has its column, each option its line, and the plots and the settings are beside the report."""
    status = main(["--constants", str(file), "--simulated", "50", "--out", str(tmp_path / "out")])

    assert status == 0
    printed = capsys.readouterr().out
    report = (tmp_path / "out" / "scaling" / "report.md").read_text()
    assert "| passages | 1 M | 10 M | 100 M | 1 B |" in report
    assert report.count("| chosen |") == len(SIZES)
    assert "1 B passages: every option, without engines" in printed
    for name in ("times.png", "cost.png", "recall.png", "settings.json"):
        assert (tmp_path / "out" / "scaling" / name).stat().st_size > 0


def test_prices_are_arguments(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine for $10 an hour and storage for nothing much: one server costs 7,300 a month."""
    arguments = ["--machine-price", "10", "--storage-price", "0.000001", "--passages", "1000000", "--simulated", "50"]
    main(["--constants", str(file), "--out", str(tmp_path), *arguments])

    assert "$7,300" in capsys.readouterr().out


def test_size_without_a_plan_is_named(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where no option reaches the recall, the exit status is 1 and the size is named, and the options are still shown."""
    arguments = ["--constants", str(file), "--recall", "0.999", "--passages", "1000000", "--simulated", "50"]
    status = main([*arguments, "--out", str(tmp_path)])

    assert status == 1
    streams = capsys.readouterr()
    assert "no option is good and fast enough for 1 M passages" in streams.err
    assert "recall" in streams.out


@pytest.mark.parametrize("content", [None, "{}", "no JSON", '{"date": 1}'])
def test_file_that_holds_no_constants_is_refused(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing or damaged file is one line on stderr that says how to make a new one."""
    path = tmp_path / "constants.json"
    if content is not None:
        path.write_text(content)

    assert main(["--constants", str(path)]) == 1
    assert "make it with --measure" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--passages=0", "--passages=x", "--machine-price=-1", "--search-ms=nan", "--cores=0"])
def test_senseless_number_is_refused(argument: str) -> None:
    """Nothing is planned for no passages, negative prices or no cores."""
    with pytest.raises(SystemExit):
        main([argument])


@pytest.mark.parametrize(
    ("given", "shown"),
    [(10**6, "1 M"), (25 * 10**6, "25 M"), (10**9, "1 B"), (1_500_000_000, "1.5 B"), (2000, "2 k"), (7, "7")],
)
def test_counts_are_shown_in_words(given: int, shown: str) -> None:
    """Three digits and a letter."""
    assert tables.count(given) == shown


def test_amounts_are_shown_with_three_digits() -> None:
    """No plan is worth more digits; small amounts keep their cents."""
    assert [tables.money(amount) for amount in (0, 0.0512, 3.14159, 42.42, 999, 12_345.6, 1_234_567)] == [
        "$0", "$0.0512", "$3.14", "$42.4", "$999", "$12,300", "$1,230,000",
    ]  # fmt: skip


def test_times_are_shown_in_a_unit_that_fits() -> None:
    """Minutes below an hour, days from two on, a dash where nothing is known."""
    assert [tables.hours(number) for number in (None, 0.25, 3.14, 47.9, 96)] == [None, "15 min", "3.1 h", "47.9 h", "4 days"]


def test_documentation_shows_what_comes_out(tmp_path: Path) -> None:
    """Every table of docs/scaling.md is what the command makes of the packaged constants, to the last digit.

    If it is not: python -m eval.scaling_plan --update docs/scaling.md
    """
    page = tmp_path / "scaling.md"
    page.write_text(DOCS.read_text(encoding="utf-8"), encoding="utf-8")

    assert main(["--out", str(tmp_path), "--update", str(page)]) == 0

    assert page.read_text(encoding="utf-8") == DOCS.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").count("<!-- table: ") > 5
    assert (tmp_path / "images" / "scaling" / "times.png").exists()
    assert (DOCS.parent / "images" / "scaling" / "times.png").exists()


def test_page_gets_its_tables_and_keeps_its_text() -> None:
    """An old table, or none, is replaced; what stands around it stays; a place for no table is named."""
    table = tables.prices_table(Prices(Machine(1, 1e9, 1e9, 1.0), 1, 1, 1, 1))
    old = "# Page\n\n<!-- table: Prices -->\n\n| old | table |\n| --- | --- |\n\nText | with a bar.\n"

    page = with_tables(old, [table])

    assert page.startswith("# Page\n\n<!-- table: Prices -->\n\n| what | price |\n")
    assert page.endswith("|\n\nText | with a bar.\n")
    assert "old" not in page
    assert with_tables(page, [table]) == page
    with pytest.raises(ConfigError, match="no table 'Other'"):
        with_tables("<!-- table: Other -->\n\n", [table])
