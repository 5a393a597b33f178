"""The command line of a measurement: its arguments, the command that its report names, and its exit status."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence

from rag_server.errors import RagServerError


def run_command(
    name: str,
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace, str], bool | None],
    arguments: Sequence[str] | None,
) -> int:
    """Run the measurement `eval.NAME`; return 1 if it returns False or fails with a named error, which is one line on stderr.

    `run` is given the parsed arguments and the command that was called; `arguments` None are those of the process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        succeeded = run(parser.parse_args(given), f"python -m eval.{name} {shlex.join(given)}".strip())
    except RagServerError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 1 if succeeded is False else 0
