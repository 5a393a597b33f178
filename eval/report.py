"""Tables for the terminal and for Markdown, plots, and the folder that a measurement is reported in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rag_server import __version__

Cell = str | int | float | None
# What stands for a value that there is none of.
NOTHING = "–"
BAR_GROUP_WIDTH = 0.8
DPI = 120


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with a cell per column; None is a value that there is none of."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind. `low` and `high` are the bounds of each point's confidence interval."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing of series: lines, or bars where `categories` names what stands at x = 0, 1, ..."""

    filename: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    categories: tuple[str, ...] = ()


def as_text(table: Table) -> str:
    """Return the table for the terminal, words to the left and numbers to the right."""
    rows = [[_shown(cell) for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    numeric = [_is_numeric(table, number) for number in range(len(widths))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in (table.columns, *rows)
    ]
    return "\n".join([table.title, *lines])


def as_markdown(table: Table) -> str:
    """Return the table in Markdown, numbers to the right."""
    numeric = [_is_numeric(table, number) for number in range(len(table.columns))]
    rule = ["---:" if right else "---" for right in numeric]
    lines = [table.columns, rule, *([_shown(cell) for cell in row] for row in table.rows)]
    cells = [" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines]
    return "\n".join([f"### {table.title}", "", *(f"| {line} |" for line in cells)])


def write_report(
    folder: Path,
    *,
    title: str,
    command: str,
    settings: Mapping[str, object],
    tables: Sequence[Table],
    plots: Sequence[Plot],
    notes: Sequence[str] = (),
) -> Path:
    """Write report.md, the plots as PNG and settings.json into the folder, made if need be; return the report's path.

    `command` reproduces the figures. A setting that JSON does not know is written as its text, which hides secrets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        draw(folder / plot.filename, plot)
    (folder / "settings.json").write_text(json.dumps(dict(settings), indent=2, default=str) + "\n", encoding="utf-8")
    parts = [
        f"# {title}",
        f"rag-server {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; settings in [settings.json](settings.json).",
        f"```\n{command}\n```",
        *(as_markdown(table) for table in tables),
        *(f"![{plot.title}]({plot.filename})" for plot in plots),
        *(f"- {note}" for note in notes),
    ]
    report = folder / "report.md"
    report.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return report


def _shown(cell: Cell) -> str:
    if cell is None:
        return NOTHING
    return f"{cell:.4f}" if isinstance(cell, float) else " ".join(str(cell).split())


def _is_numeric(table: Table, column: int) -> bool:
    return any(isinstance(row[column], int | float) for row in table.rows)


def draw(path: Path, plot: Plot) -> None:
    """Write the plot as PNG; its own file name is not looked at."""
    # A figure of its own, not pyplot's, needs no screen and leaves nothing behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    width = BAR_GROUP_WIDTH / max(len(plot.series), 1)
    for number, series in enumerate(plot.series):
        if plot.categories:
            shift = (number - (len(plot.series) - 1) / 2) * width
            axes.bar([x + shift for x in series.x], series.y, width, yerr=_errors(series), capsize=3, label=series.label)
        else:
            axes.errorbar(series.x, series.y, yerr=_errors(series), marker="o", capsize=3, label=series.label)
    if all(float(x).is_integer() for series in plot.series for x in series.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if plot.categories:
        axes.set_xticks(range(len(plot.categories)), plot.categories, rotation=30, ha="right")
    axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
    axes.grid(visible=True, axis="y", alpha=0.3)
    if len(plot.series) > 1:
        figure.legend(loc="outside lower center", ncols=len(plot.series) if len(plot.series) < 4 else 3)
    figure.savefig(path, dpi=DPI)


def _errors(series: Series) -> list[list[float]] | None:
    """Return how far each interval reaches below and above its point."""
    if series.low is None or series.high is None:
        return None
    below = [y - low for y, low in zip(series.y, series.low, strict=True)]
    above = [high - y for y, high in zip(series.y, series.high, strict=True)]
    return [below, above]
