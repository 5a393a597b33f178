"""Kills and restarts two server replicas behind a balancer under load, and looks for what is lost, there twice or unanswered.

python -m eval.replicas_test --seconds 120 --kills 6

needs PostgreSQL and Redis of the system's packages. The replicas are killed in turn, then restarted one after the other as in
an update, which no request may notice.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import httpx

from eval.replicas.balancer import Balancer
from eval.replicas.check import check
from eval.replicas.client import Client, Tally
from eval.replicas.fleet import GIVE_UP_S, POLL_S, NotInstalledError, Server, running_servers, shared_services
from eval.replicas.work import Fault, Made, Work
from eval.report import Table, as_text

CALLERS = 6
TIMEOUT_S = 60.0
# How the balancer counts its second tries.
WHY_AGAIN = ("not sent", "refused", "changes nothing")
Disturb = Callable[[Sequence[Server]], Coroutine[None, None, None]]


@dataclass
class Phase:
    """What happened while the replicas were disturbed in one way."""

    title: str
    tally: Tally = field(default_factory=Tally)
    balancer: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def is_unnoticed(self) -> bool:
        """Whether every request was answered at its first try, as far as its client can tell."""
        return not self.tally.again and not self.tally.given_up


@dataclass
class Report:
    """The phases, and what was found wrong in any of them."""

    phases: list[Phase] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    made: Made = field(default_factory=Made)


def killing(kills: int, seconds: float) -> Disturb:
    """Return what kills the replicas in turn, so many times in so many seconds, and starts each again at once."""

    async def disturb(servers: Sequence[Server]) -> None:
        began_at = time.monotonic()
        for number in range(kills):
            await asyncio.sleep(began_at + (number + 0.5) * seconds / kills - time.monotonic())
            server = servers[number % len(servers)]
            await asyncio.to_thread(server.kill)
            server.start()
            await asyncio.to_thread(server.wait_until_ready)
        await asyncio.sleep(began_at + seconds - time.monotonic())

    return disturb


async def restart_in_turn(servers: Sequence[Server]) -> None:
    """Ask one replica after the other to end, and start it again; the next one follows once it is ready."""
    for server in servers:
        server.ask_to_end()
        async with asyncio.timeout(GIVE_UP_S):
            while not server.has_ended:
                await asyncio.sleep(POLL_S)
        server.start()
        await asyncio.to_thread(server.wait_until_ready)


async def run_phase(servers: Sequence[Server], key: str, made: Made, phase: Phase, disturb: Disturb) -> None:
    """Have callers call while the replicas are disturbed; what they had begun is brought to its end."""
    balancer, chooser, began_at = Balancer([server.url for server in servers]), random.Random(len(made.files)), time.monotonic()
    headers = {"authorization": f"Bearer {key}"}
    async with (
        balancer.running() as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False) as http,
    ):
        work, ended = Work(Client(http, phase.tally), made, chooser), asyncio.Event()
        await work.begin()
        callers = [asyncio.create_task(work.call_until(ended)) for _ in range(CALLERS)]
        try:
            await disturb(servers)
        finally:
            ended.set()
            await asyncio.gather(*callers)
    phase.balancer, phase.seconds = balancer.counts, time.monotonic() - began_at


def run_test(servers: Sequence[Server], key: str, disturbances: Sequence[tuple[str, Disturb]]) -> Report:
    """Disturb the replicas in these ways, one after the other; return what was found."""
    report = Report()
    for title, disturb in disturbances:
        report.phases.append(Phase(title))
        asyncio.run(run_phase(servers, key, report.made, report.phases[-1], disturb))
    report.faults = [*report.made.faults, *check(servers, key, report.made)]
    return report


def print_report(report: Report) -> None:
    """Print what each phase counted, and what was found."""
    for phase in report.phases:
        tally, counts = phase.tally, phase.balancer
        rows = [(kind, tally.made[kind], tally.again[kind], tally.given_up[kind]) for kind in sorted(tally.made)]
        rows.append(("all", tally.made.total(), tally.again.total(), tally.given_up.total()))
        columns = ("request", "made", "sent again by the client", "given up")
        print(as_text(Table(f"\n{phase.title}, {phase.seconds:.0f} seconds", columns, tuple(rows))))
        again = ", ".join(f"{counts[why]} ({why})" for why in WHY_AGAIN)
        print(f"sent again by the balancer: {again}; broken: {counts['broken']}")
    made = report.made
    print(f"\nmade: {len(made.files)} files, {len(made.batches)} batches, {len(made.responses)} responses")
    print(f"faults: {len(report.faults)}")
    for kind, message in report.faults[:20]:
        print(f"{kind}: {message}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long the replicas are killed")
    parser.add_argument("--kills", type=int, default=6, help="how often one is killed")
    arguments = parser.parse_args()
    disturbances: list[tuple[str, Disturb]] = [
        (f"{arguments.kills} kills", killing(arguments.kills, arguments.seconds)),
        ("a rolling restart", restart_in_turn),
    ]
    try:
        with shared_services() as shared, running_servers(shared) as (servers, key):
            report = run_test(servers, key, disturbances)
    except NotInstalledError as error:
        sys.exit(str(error))
    print_report(report)
    given_up = sum(phase.tally.given_up.total() for phase in report.phases)
    sys.exit(1 if report.faults or given_up or not report.phases[-1].is_unnoticed else 0)


if __name__ == "__main__":
    main()
