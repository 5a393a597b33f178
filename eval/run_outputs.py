"""Reads recorded outputs of listwise rankers with the product's own parser, and counts what had to be repaired.

python -m eval.run_outputs $RAG_EVAL_DATA/listwise-llm-outputs/responses.jsonl.gz
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from eval.data_files import open_text
from eval.report import Table, as_text
from rag_server.errors import ConfigError, RagServerError
from rerankers.permutation import complete, parse_numbers


def check(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return how many outputs there are, are ill-formed, are so by their label, and so on.

    Raises:
        ConfigError: A row lacks a field.
    """
    counts: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        try:
            window, response, label = int(row["window"]), str(row["response"]), bool(row["wellformed"])
        except (KeyError, ValueError, TypeError) as error:
            raise ConfigError(f"row {number} has no proper window, response and wellformed: {error!r}") from None
        permutation = complete(parse_numbers(response), window)
        counts["outputs"] += 1
        counts["complete permutations"] += sorted(permutation.order) == list(range(window))
        counts["ill-formed"] += not permutation.well_formed
        counts["ill-formed by their label"] += not label
        counts["label and parser agree"] += permutation.well_formed == label
        counts["well-formed, but repeat or skip"] += permutation.well_formed and permutation.repaired
        counts["ill-formed, but every candidate is named"] += not permutation.well_formed and permutation.num_named == window
        counts["name nothing"] += permutation.num_named == 0
    return counts


def main() -> int:
    """Run the command line; return the exit status: 0 if every output gave a complete ranking, and all labels agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outputs", type=Path, help="a .jsonl file, plain or .gz, with window, response and wellformed")
    try:
        with open_text(parser.parse_args().outputs) as file:
            counts = check(map(json.loads, file))
    except (RagServerError, ValueError) as error:
        print(f"run_outputs: {error}", file=sys.stderr)
        return 1
    num = counts["outputs"]
    rows = tuple((name, count, count / max(num, 1)) for name, count in counts.items())
    print(as_text(Table("Listwise outputs", ("", "count", "share"), rows)))
    return 0 if counts["complete permutations"] == counts["label and parser agree"] == num else 1


if __name__ == "__main__":
    sys.exit(main())
