"""Simulates every way to keep the vectors at one size, and picks the cheapest that is good and fast enough."""

from dataclasses import dataclass, replace

import numpy as np

from eval.scaling import published
from eval.scaling.constants import Constants
from eval.scaling.fleet import Demand, Fleet, Prices, Targets, size_fleet
from eval.scaling.options import OPTIONS
from eval.scaling.simulation import complete_share, merged_recall, search_times, utilisation

SIMULATED_SEARCHES = 4000
RECALL_TRIALS = 4000
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of a whole search: 50th, 95th and 99th percentile."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A fleet and what the simulation says of it. Times are None where the machines cannot keep up."""

    fleet: Fleet
    monthly: float
    without_engines: float
    recall: float
    times: Times | None
    utilisation: float
    # With one machine of the index, or one server that holds it, down; None too where it is the only one.
    times_one_down: Times | None
    utilisation_one_down: float
    # Found if there were one replica of the index, with one of its machines down and partial answers allowed.
    recall_one_lost: float
    # Loading what one machine holds somewhere else.
    reload_s: float
    complete_share: float
    # Why it is not chosen, empty if it could be.
    faults: tuple[str, ...]


def outcomes(
    demand: Demand, constants: Constants, prices: Prices, targets: Targets, *, seed: int, searches: int = SIMULATED_SEARCHES
) -> list[Outcome]:
    """Return what comes of every option at this demand, in the order of the options."""
    fleets = [size_fleet(option, demand, constants, prices.machine, targets) for option in OPTIONS]
    return [simulated(fleet, constants, prices, targets, seed=seed, searches=searches) for fleet in fleets]


def chosen(candidates: list[Outcome]) -> Outcome | None:
    """Return the cheapest without a fault, of equal ones the fastest; None if each has one.

    What rests on the figures of others is never chosen.
    """
    good = [outcome for outcome in candidates if not outcome.faults and outcome.fleet.profile.extrapolated is not None]
    return min(good, key=lambda outcome: (outcome.monthly, outcome.times.p95 if outcome.times else 0), default=None)


def simulated(
    fleet: Fleet, constants: Constants, prices: Prices, targets: Targets, *, seed: int, searches: int = SIMULATED_SEARCHES
) -> Outcome:
    """Return what the simulation says of a fleet; the same seed says the same."""
    random = np.random.default_rng(seed)
    units = fleet.servers if fleet.index_machines == 0 else fleet.replicas
    rate = fleet.demand.searches_per_s
    found = fleet.profile.found_by_rank
    machines = fleet.fan_out.machines
    down = None if units == 1 else rate / (units - 1)
    busy = utilisation(fleet.fan_out, rate / units, fleet.profile.mean_segment_ms)
    busy_down = 1.0 if down is None else utilisation(fleet.fan_out, down, fleet.profile.mean_segment_ms)
    cost = fleet.monthly(prices)
    outcome = Outcome(
        fleet=fleet,
        monthly=sum(cost.values()),
        without_engines=sum(cost.values()) - cost["engines"],
        recall=merged_recall(found, fleet.profile.segments, RECALL_TRIALS, random),
        times=_times(fleet, constants, rate / units, busy, searches, random),
        utilisation=busy,
        times_one_down=None if down is None else _times(fleet, constants, down, busy_down, searches, random),
        utilisation_one_down=busy_down,
        recall_one_lost=merged_recall(found, machines, RECALL_TRIALS, random, shards_down=1),
        reload_s=fleet.profile.resident_bytes / machines / published.RELOAD_BYTES.value,
        complete_share=complete_share(machines, units, published.MACHINE_DOWN_SHARE.value),
        faults=(),
    )
    return replace(outcome, faults=_faults(outcome, targets))


def _times(
    fleet: Fleet, constants: Constants, per_second: float, busy: float, searches: int, random: np.random.Generator
) -> Times | None:
    """Return the times of whole searches, None where the queue would grow without end."""
    if busy >= 1 or fleet.faults:
        return None
    vectors = search_times(fleet.fan_out, per_second, searches, random)
    # BM25 is searched at the same time.
    slowest = np.maximum(vectors, fleet.lexical_ms) if fleet.hybrid else vectors
    whole = slowest + constants.embedding.query_core_ms + published.SERVER_MS.value
    return Times(*(float(value) for value in np.percentile(whole, PERCENTILES)))


def _faults(outcome: Outcome, targets: Targets) -> tuple[str, ...]:
    faults = list(outcome.fleet.faults)
    if outcome.recall < targets.recall:
        faults.append("recall")
    if not outcome.fleet.faults and (outcome.times is None or outcome.times.p95 > targets.search_ms):
        faults.append("time")
    if (outcome.fleet.profile.extrapolated or 0) > targets.extrapolation:
        faults.append("unmeasured")
    return tuple(faults)
