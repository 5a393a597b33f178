"""Outcomes of whole plans with constants that can be worked out."""

from dataclasses import replace

import pytest

from eval.scaling.fleet import Demand, size_fleet
from eval.scaling.options import Option
from eval.scaling.plan import Outcome, chosen, outcomes, simulated
from tests.eval.scaling.example import constants
from tests.eval.scaling.test_fleet import MACHINE, PRICES, TARGETS


def outcome(place: str, kind: str, demand: Demand, searches: int = 200) -> Outcome:
    """Size and simulate one option."""
    fleet = size_fleet(Option(place, kind), demand, constants(), MACHINE, TARGETS)
    return simulated(fleet, constants(), PRICES, TARGETS, seed=1, searches=searches)


def test_a_search_in_one_process_takes_its_parts() -> None:
    """By hand: almost without load, 8 ms for the query, 12 for the server and 10 for a million rows in lists are 30."""
    result = outcome("faiss", "ivf_sq8", Demand(10**6, 1, 0.1))

    assert result.times is not None
    assert (result.times.p50, result.times.p95) == pytest.approx((30, 30))
    assert result.recall == pytest.approx(0.99)
    assert result.faults == ()


def test_a_single_machine_that_is_down_answers_nothing() -> None:
    """With one server there is no time to tell while it is down, and the index is reachable as often as the machine is."""
    result = outcome("faiss", "hnsw", Demand(10**6, 1, 0.1))

    assert result.times_one_down is None
    assert result.complete_share == pytest.approx(0.999)


def test_a_replica_that_is_down_makes_searches_slower_but_not_wrong() -> None:
    """The other replica takes twice the load: busier, no faster, and still below the limit it was sized for."""
    result = outcome("milvus", "ivf_sq8", Demand(10**9, 50, 5), searches=300)

    assert result.times is not None
    assert result.times_one_down is not None
    assert result.utilisation_one_down == pytest.approx(2 * result.utilisation)
    assert result.utilisation_one_down < 0.81
    assert result.times_one_down.p95 > result.times.p95
    assert result.complete_share == pytest.approx((1 - 1e-6) ** result.fleet.index_machines)


def test_without_a_replica_a_machine_takes_its_passages_along() -> None:
    """One of M machines down costs an M-th of what is found; its index is loaded elsewhere at a gigabyte a second."""
    result = outcome("milvus", "ivf_sq8", Demand(10**9, 50, 5), searches=300)
    machines = result.fleet.index_machines

    assert result.recall_one_lost == pytest.approx(0.99 * (1 - 1 / machines), abs=0.004)
    assert result.reload_s == pytest.approx(400 / machines)


def test_a_server_that_cannot_keep_up_has_no_times() -> None:
    """Ninety million rows in one list index take .9 s, not 250 ms; what fits into no server is not simulated."""
    slow = outcome("faiss", "ivf_sq8", Demand(9 * 10**7, 50, 5), searches=500)

    assert slow.faults == ("time",)
    assert outcome("faiss", "flat", Demand(10**8, 50, 5)).times is None


def test_the_cheapest_without_a_fault_is_chosen() -> None:
    """Of all measured options at a hundred million passages, the choice has no fault, and none without a fault costs less."""
    candidates = outcomes(Demand(10**8, 50, 5), constants(), PRICES, TARGETS, seed=1, searches=100)

    plan = chosen(candidates)

    assert plan is not None
    measured = [candidate for candidate in candidates if candidate.fleet.option.kind != "diskann"]
    good = [candidate for candidate in measured if not candidate.faults]
    assert plan in good
    assert plan.monthly == min(candidate.monthly for candidate in good)
    assert 0 < len(good) < len(measured)


def test_an_index_far_beyond_what_was_measured_is_not_chosen() -> None:
    """A million rows are five times what was measured: fine with a limit of five, not with one of four."""
    demand = Demand(10**6, 1, 0.1)
    fleet = size_fleet(Option("faiss", "hnsw"), demand, constants(), MACHINE, TARGETS)

    def faults(limit: float) -> tuple[str, ...]:
        targets = replace(TARGETS, extrapolation=limit)
        return simulated(fleet, constants(), PRICES, targets, seed=1, searches=100).faults

    assert faults(5) == ()
    assert faults(4) == ("unmeasured",)


def test_what_rests_on_figures_of_others_is_not_chosen() -> None:
    """DiskANN would be cheapest for a billion passages, but nothing of it was measured here."""
    candidates = outcomes(Demand(10**9, 50, 5), constants(), PRICES, TARGETS, seed=1, searches=100)
    cheapest = min((c for c in candidates if not c.faults), key=lambda c: c.monthly)

    plan = chosen(candidates)

    assert cheapest.fleet.option.kind == "diskann"
    assert plan is not None
    assert plan.fleet.option.kind != "diskann"


def test_recall_that_nothing_reaches_leaves_no_plan() -> None:
    """Where every index finds .99, a plan for .995 does not exist, and says so by name."""
    strict = replace(TARGETS, recall=0.995)
    candidates = outcomes(Demand(10**6, 1, 0.1), constants(), PRICES, strict, seed=1, searches=100)

    assert chosen(candidates) is None
    assert all("recall" in candidate.faults for candidate in candidates)


def test_the_same_seed_says_the_same() -> None:
    """A plan can be made again."""
    demand = Demand(10**8, 50, 5)

    assert outcome("milvus", "hnsw", demand, searches=200) == outcome("milvus", "hnsw", demand, searches=200)
