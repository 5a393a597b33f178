"""Compares this server with OpenAI's own description, property by property, and checks live answers against it.

python -m eval.run_conformance
"""

import argparse
import json
import os
import sys
from pathlib import Path

from eval.conformance.comparison import compare
from eval.conformance.descriptions import GROUPS, read_openai_description
from eval.conformance.live import DEVIATIONS, check_live
from eval.conformance.report import (
    METHOD,
    as_json,
    live_table,
    missing_table,
    refused_table,
    share_table,
    untagged_table,
)
from eval.conformance.server import checked_server
from eval.report import as_text, write_report

LEAST_SHARE = 0.99


def run(data: Path, folder: Path) -> bool:
    """Write the report and print its tables; return whether every group is served and every answer is right.

    Raises:
        FileNotFoundError: OpenAI's description is not among the data.
    """
    theirs = read_openai_description(data)
    with checked_server(folder / "server.log") as server, server.client() as client:
        ours = client.get("/openapi.json").raise_for_status().json()
        endpoints = check_live(client, theirs, GROUPS)
    compared = compare(theirs, ours, GROUPS)
    tables = [
        share_table(compared, theirs),
        live_table(endpoints),
        missing_table(compared),
        refused_table(ours),
        untagged_table(theirs, ours),
    ]
    notes = [*METHOD, *(f"Known deviation of live answers: {reason}." for _, reason in DEVIATIONS)]
    command = "python -m eval.run_conformance"
    write_report(folder, title="Conformance", command=command, settings={"data": data}, tables=tables, plots=[], notes=notes)
    (folder / "conformance.json").write_text(json.dumps(as_json(compared, endpoints), indent=2) + "\n", encoding="utf-8")
    print("\n\n".join([*(as_text(table) for table in tables), *(f"- {note}" for note in notes)]))
    print(f"\nThe report is {folder / 'report.md'}.")
    low = [one.group for one in compared if one.share < LEAST_SHARE]
    faulty = [one.name for one in endpoints if one.verdict != "ok"]
    print(f"Groups under {LEAST_SHARE:.0%}: {', '.join(low) or 'none'}. Endpoints with faults: {', '.join(faulty) or 'none'}.")
    return not low and not faulty


def main() -> int:
    """Run the command line; return the exit status: 0 if every group is served and every answer is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("RAG_EVAL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="the folder with openai/openapi.yaml.gz in it")
    parser.add_argument("--folder", type=Path, default=Path("reports/conformance"), help="where the report goes")
    arguments = parser.parse_args()
    try:
        return 0 if run(arguments.data, arguments.folder) else 1
    except FileNotFoundError as error:
        print(f"run_conformance: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
