"""Fuzzes a server by its own description, with links from each object to what can be done with it (`make fuzz`).

python -m eval.run_fuzz --seconds 900
"""

import argparse
import sys
from pathlib import Path

from eval.conformance.driver import Driver
from eval.conformance.fuzzing import CHECKS, EXCLUDED, REQUEST_TIMEOUT_S, fuzz, make_seeds
from eval.conformance.server import checked_server

LEAST_CASES = 5000


def main() -> int:
    """Run the command line; return the exit status: 0 if nothing was found in enough cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=900, help="how long requests are sent")
    parser.add_argument("--seed", type=int, default=1, help="where the generated requests begin")
    parser.add_argument("--least-cases", type=int, default=LEAST_CASES, help="how many cases there have to be")
    parser.add_argument(
        "--coverage", action="store_true", help="first send each value at and beyond each bound (30,000 cases and more)"
    )
    parser.add_argument("--folder", type=Path, default=Path("reports/fuzz"), help="where reports and the server's log go")
    arguments = parser.parse_args()
    phases = (*(("coverage",) if arguments.coverage else ()), "fuzzing", "stateful")
    report = arguments.folder / "schemathesis.json"
    with checked_server(arguments.folder / "server.log") as server, server.client() as client:
        seeds = make_seeds(Driver(client))
        result = fuzz(server, seeds, report, phases=phases, max_examples=50, seed=arguments.seed, seconds=arguments.seconds)
    print(f"\n{result.num_cases} cases over {result.num_operations} operations; checked: {', '.join(CHECKS)},")
    print(f"and that each answer comes within {REQUEST_TIMEOUT_S} s. Not looked at:")
    print("\n".join(f"- {what}" for what in EXCLUDED))
    print("\n".join([f"{len(result.failures)} kinds of failures", *result.failures]))
    if result.num_cases < arguments.least_cases:
        print(f"run_fuzz: too few cases, {arguments.least_cases} are wanted; give it more --seconds", file=sys.stderr)
        return 1
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
