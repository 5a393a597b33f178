"""The simulation beside the formulas that there are for simple cases."""

import math

import numpy as np
import pytest

from eval.scaling.constants import mean_of_quantiles
from eval.scaling.simulation import (
    FanOut,
    complete_share,
    merged_recall,
    sampled,
    search_times,
    service_times,
    utilisation,
    waiting_times,
)

# The quantiles of an exponential with mean 1, fine enough for its tail.
EXPONENTIAL = (*(-math.log(1 - place / 10_000) for place in range(10_000)), 12.0)
UNIT = (1.0, 1.0)


def fan_out(**changed: object) -> FanOut:
    """One machine of one core with one segment that takes a millisecond."""
    values = {
        "machines": 1, "segments_per_machine": 1, "cores": 1, "segment_ms": UNIT, "network_ms": 0.0, "merge_ms": 0.0,
    }  # fmt: skip
    return FanOut(**{**values, **changed})


def test_samples_have_the_quantiles_they_are_drawn_from() -> None:
    """Values drawn from quantiles have these quantiles again, and the mean that is worked out from them."""
    quantiles = (1.0, 2.0, 4.0, 8.0, 12.0)

    drawn = sampled(quantiles, (200_000,), np.random.default_rng(1))

    assert np.percentile(drawn, [25, 50, 75]) == pytest.approx([2, 4, 8], rel=0.02)
    assert drawn.mean() == pytest.approx(mean_of_quantiles(quantiles), rel=0.01)


@pytest.mark.parametrize("machines", [1, 4, 32])
def test_slowest_of_exponential_machines_takes_the_harmonic_number(machines: int) -> None:
    """Without a queue, the mean of the slowest of S exponentials with mean 1 is 1 + 1/2 + ... + 1/S."""
    times = search_times(
        fan_out(machines=machines, segment_ms=EXPONENTIAL), per_second=0.001, searches=40_000, random=np.random.default_rng(2)
    )

    assert times.mean() == pytest.approx(sum(1 / number for number in range(1, machines + 1)), rel=0.02)


def test_network_and_merging_come_on_top() -> None:
    """The slowest of exponential ways there and back is added to a constant search, and so is merging."""
    fleet = fan_out(machines=8, network_ms=2.0, merge_ms=5.0)

    times = search_times(fleet, per_second=0.001, searches=40_000, random=np.random.default_rng(3))

    assert times.mean() == pytest.approx(1 + 2 * sum(1 / number for number in range(1, 9)) + 5, rel=0.02)


@pytest.mark.parametrize("busy", [0.3, 0.7])
def test_queue_of_one_place_waits_as_an_m_m_1_queue(busy: float) -> None:
    """With exponential work and arrivals a search waits rho / (1 - rho) times its own work on average."""
    random = np.random.default_rng(4)
    service = random.exponential(1, (60_000, 1))

    waits = waiting_times(service, random.exponential(1 / busy, 60_000), at_once=1)

    assert waits.mean() == pytest.approx(busy / (1 - busy), rel=0.06)


def test_queue_of_several_places_waits_as_an_m_m_c_queue() -> None:
    """With c places the mean wait is Erlang's: the chance that all are taken, divided by c (1 - rho)."""
    places, busy = 4, 0.8
    offered = places * busy
    weights = [offered**number / math.factorial(number) for number in range(places)]
    full = offered**places / math.factorial(places) / (1 - busy)
    expected = full / (sum(weights) + full) / (places * (1 - busy))
    random = np.random.default_rng(5)
    service = random.exponential(1, (60_000, 1))

    waits = waiting_times(service, random.exponential(1 / offered, 60_000), at_once=places)

    assert waits.mean() == pytest.approx(expected, rel=0.08)


def test_queue_is_worked_off_in_order() -> None:
    """By hand: three searches a millisecond apart, two of work each, wait 0, 1 and 2 with one place, and 0, 0, 0 with two."""
    service, gaps = np.full((3, 1), 2.0), np.ones(3)

    assert waiting_times(service, gaps, at_once=1)[:, 0].tolist() == [0, 1, 2]
    assert waiting_times(service, gaps, at_once=2)[:, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("segments", "cores", "expected"), [(1, 4, 1), (4, 4, 1), (5, 4, 2), (9, 2, 5), (7, 1, 7)])
def test_segments_are_dealt_evenly_to_the_cores(segments: int, cores: int, expected: int) -> None:
    """A machine takes as long as the core with most segments: segments / cores, rounded up, of a millisecond each."""
    fleet = fan_out(segments_per_machine=segments, cores=cores)

    assert service_times(fleet, 3, np.random.default_rng(6)).tolist() == [[expected]] * 3


def test_utilisation_counts_every_segment() -> None:
    """By hand: 10 searches a second on 8 segments of 5 ms each keep 0.4 cores busy, a tenth of four."""
    assert utilisation(fan_out(segments_per_machine=8, cores=4), 10, 5.0) == pytest.approx(0.1)


def test_more_machines_load_and_network_never_make_a_search_faster() -> None:
    """The median and the tail grow with the load, with the machines that are waited for, and with the network."""
    worse = [
        [fan_out(machines=machines, segment_ms=EXPONENTIAL) for machines in (1, 4, 16)],
        [fan_out(machines=4, segment_ms=EXPONENTIAL, network_ms=network) for network in (0.0, 1.0, 4.0)],
    ]
    for fleets in worse:
        percentiles = [
            np.percentile(search_times(fleet, 100, 4000, np.random.default_rng(7)), [50, 95]).tolist() for fleet in fleets
        ]
        assert percentiles == sorted(percentiles)
    loaded = [
        np.percentile(search_times(fan_out(segment_ms=EXPONENTIAL), rate, 10_000, np.random.default_rng(8)), [50, 95]).tolist()
        for rate in (100, 400, 800)
    ]
    assert loaded == sorted(loaded)


def expected_recall(found: tuple[float, ...], shards: int) -> float:
    """The mean over the nearest of what is found: how many nearer ones share its shard is binomial."""
    total = 0.0
    for place in range(len(found)):
        for nearer in range(place + 1):
            chance = math.comb(place, nearer) * (1 / shards) ** nearer * (1 - 1 / shards) ** (place - nearer)
            total += chance * found[nearer]
    return total / len(found)


@pytest.mark.parametrize("shards", [1, 2, 10, 1000])
def test_merged_recall_is_that_of_the_binomial_ranks(shards: int) -> None:
    """What is found after merging agrees with the exact sum over ranks, which with one shard is the shard's own recall."""
    found = (1.0, 0.99, 0.97, 0.96, 0.95, 0.94, 0.9, 0.85, 0.8, 0.7)

    simulated = merged_recall(found, shards, 20_000, np.random.default_rng(9))

    assert simulated == pytest.approx(expected_recall(found, shards), abs=0.002)


def test_shards_that_are_down_take_their_share_of_the_recall() -> None:
    """Of four shards that find all, one that is down costs a quarter of what is found."""
    assert merged_recall((1.0,) * 10, 4, 20_000, np.random.default_rng(10), shards_down=1) == pytest.approx(0.75, abs=0.005)


def test_replicas_make_an_index_more_often_complete() -> None:
    """By hand: 10 machines, each down a tenth of the time; one replica is whole .9^10 of it, two (1 - .01)^10."""
    assert complete_share(10, 1, 0.1) == pytest.approx(0.9**10)
    assert complete_share(10, 2, 0.1) == pytest.approx(0.99**10)
