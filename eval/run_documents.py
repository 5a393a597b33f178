"""Reads every file of a folder of test documents through the parser process and tells which come out as they should.

python -m eval.run_documents [FOLDER]

FOLDER/manifest.jsonl has a row per file: `file`, `class`, `expect` (text, empty, password, error, any), `note`, and perhaps
`check` with the number of `chars` that another program found.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from indexers.loaders.parser_process import ParserError, ParserPool
from rag_server.errors import ConfigError, DocumentError, RagServerError

MANIFEST = "manifest.jsonl"
MAX_SECONDS = 30.0
# Programs differ in spaces, hyphens, headers and notes, but half of the text is no difference of opinion.
MIN_CHARS_SHARE = 0.5
EXPECTED = ("text", "empty", "password", "error", "any")

# What became of a file; "crash", a limit met among them, is what none may come to.
Kind = Literal["text", "empty", "password", "error", "crash"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file, and why."""

    kind: Kind
    reason: str = ""
    num_chars: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """What the manifest says of a file."""

    file: str
    class_name: str
    expect: str
    min_chars: int

    def mismatch(self, outcome: Outcome) -> str:
        """Return why the outcome is not as it should be; nothing if it is."""
        if outcome.seconds > MAX_SECONDS:
            return f"took {outcome.seconds:.1f} s, more than {MAX_SECONDS:g} s"
        if outcome.kind == "crash":
            return outcome.reason
        if self.expect not in ("any", outcome.kind):
            return f"{outcome.kind} instead of {self.expect}" + (f": {outcome.reason}" if outcome.reason else "")
        if outcome.kind == "text" and outcome.num_chars < self.min_chars:
            return f"{outcome.num_chars} characters, fewer than {self.min_chars}"
        return ""


def read_manifest(folder: Path) -> list[Row]:
    """Return the rows of the folder's manifest.

    Raises:
        ConfigError: There is none, or a row is wrong.
    """
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name a folder that holds it") from error
    return [_row(f"{path} line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]


def _row(place: str, line: str) -> Row:
    try:
        fields = json.loads(line)
        num_chars = int((fields.get("check") or {}).get("chars") or 0)
        row = Row(fields["file"], fields["class"], fields["expect"], int(num_chars * MIN_CHARS_SHARE))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"{place}: {type(error).__name__}: {error}; correct the row") from error
    if row.expect not in EXPECTED:
        raise ConfigError(f"{place}: expect is {row.expect!r}; it must be one of {', '.join(EXPECTED)}")
    return row


def outcomes(folder: Path, rows: Sequence[Row]) -> Iterator[tuple[Row, Outcome]]:
    """Read each file and yield what became of it."""
    with ParserPool() as parsers:
        for row in rows:
            started = time.perf_counter()
            kind, reason, num_chars = _parse(parsers, folder / row.file)
            yield row, Outcome(kind, reason, num_chars, time.perf_counter() - started)


def _parse(parsers: ParserPool, path: Path) -> tuple[Kind, str, int]:
    num_chars = 0
    faults: list[str] = []
    try:
        for loaded in parsers.parse(path, lambda _: None):
            if isinstance(loaded, DocumentError):
                faults.append(str(loaded))
            else:
                num_chars += len(loaded.text)
    except ParserError as error:
        return "crash", str(error), num_chars
    except DocumentError as error:
        return _error_kind(str(error)), str(error), num_chars
    except OSError as error:
        return "crash", f"{path}: cannot be read: {error.strerror}", num_chars
    return ("text", "", num_chars) if num_chars else ("error", "; ".join(faults), 0)


def _error_kind(message: str) -> Kind:
    if "holds no text" in message:
        return "empty"
    return "password" if "password" in message else "error"


def report(results: Mapping[Row, Outcome], console: Console) -> bool:
    """Print the counts, the mismatches, the slowest file and the memory; return whether every file came out as it should."""
    mismatches = {row: reason for row, outcome in results.items() if (reason := row.mismatch(outcome))}
    console.print(_counts(results, mismatches))
    for row, reason in mismatches.items():
        console.print(f"{row.file}: {reason}", markup=False, highlight=False, soft_wrap=True)
    if results:
        slowest = max(results, key=lambda row: results[row].seconds)
        console.print(f"slowest: {slowest.file}, {results[slowest].seconds:.2f} s", highlight=False, soft_wrap=True)
    console.print(f"highest memory of a parser: {_peak_mib():.0f} MiB", highlight=False)
    return not mismatches


def _counts(results: Mapping[Row, Outcome], mismatches: Mapping[Row, str]) -> Table:
    total = Counter(row.class_name for row in results)
    wrong = Counter(row.class_name for row in mismatches)
    table = Table("class", "as expected", "seconds")
    for name, number in total.items():
        seconds = sum(outcome.seconds for row, outcome in results.items() if row.class_name == name)
        table.add_row(name, f"{number - wrong[name]}/{number}", f"{seconds:.2f}")
    table.add_section()
    all_seconds = sum(outcome.seconds for outcome in results.values())
    table.add_row("all", f"{len(results) - len(mismatches)}/{len(results)}", f"{all_seconds:.2f}")
    return table


def _peak_mib() -> float:
    """Return the most memory that a child has held; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / 1024**2


def _default_folder() -> Path:
    root = os.environ.get("RAG_EVAL_DATA")
    if not root:
        raise ConfigError("RAG_EVAL_DATA is not set; let it name the folder with the evaluation data, or name a folder")
    return Path(root) / "documents"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the folder (default: documents below RAG_EVAL_DATA)")
    try:
        folder = parser.parse_args(arguments).folder or _default_folder()
        results = dict(outcomes(folder, read_manifest(folder)))
        return 0 if report(results, Console()) else 1
    except RagServerError as error:
        print(f"run_documents: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
