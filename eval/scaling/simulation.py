"""Simulates searches that fan out over machines: their times under load, what is merged, and machines that are down.

A search goes to every machine of a replica. Each machine deals the segments that it holds evenly to its cores, first come,
first served; the search is done when the slowest machine has answered and the answers are merged.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# The queue is empty at the beginning; so many searches are not counted.
WARM_UP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class FanOut:
    """One replica of an index: what each of its machines does for a search."""

    machines: int
    segments_per_machine: int
    cores: int
    # The quantiles from 0 to 100 per cent of the time that one core takes for one segment.
    segment_ms: tuple[float, ...]
    # Mean of an exponential, per machine; 0 in one process.
    network_ms: float
    merge_ms: float

    @property
    def searches_at_once(self) -> int:
        """How many searches a machine can work on: one takes as many cores as it has segments."""
        return max(1, self.cores // self.segments_per_machine)


def sampled(quantiles: Sequence[float], shape: tuple[int, ...], random: np.random.Generator) -> Floats:
    """Draw values with these evenly spaced quantiles."""
    places = random.random(shape) * (len(quantiles) - 1)
    drawn: Floats = np.interp(places, np.arange(len(quantiles)), quantiles)
    return drawn


def service_times(fan_out: FanOut, searches: int, random: np.random.Generator) -> Floats:
    """Return how long each machine computes for each search, in milliseconds, one row per search."""
    cores = min(fan_out.cores, fan_out.segments_per_machine)
    busiest = np.zeros((searches, fan_out.machines))
    whole, more = divmod(fan_out.segments_per_machine, cores)
    for core in range(cores):
        segments = whole + (core < more)
        times = sampled(fan_out.segment_ms, (searches, fan_out.machines, segments), random).sum(axis=2)
        busiest = np.maximum(busiest, times)
    return busiest


def waiting_times(service_ms: Floats, gaps_ms: Floats, at_once: int) -> Floats:
    """Return how long each search waits at each machine, first come, first served (Kiefer and Wolfowitz).

    Args:
        service_ms: One row per search, one column per machine.
        gaps_ms: The time from each search to the next one.
        at_once: How many searches a machine works on at a time.
    """
    searches, machines = service_ms.shape
    waits = np.empty((searches, machines))
    # What each place of each machine still has to do, least first.
    left = np.zeros((machines, at_once))
    for number in range(searches):
        waits[number] = left[:, 0]
        left[:, 0] += service_ms[number]
        left = np.maximum(left - gaps_ms[number], 0)
        if at_once > 1:
            left.sort(axis=1)
    return waits


def search_times(fan_out: FanOut, per_second: float, searches: int, random: np.random.Generator) -> Floats:
    """Return the milliseconds of searches that arrive at random, so many per second at this replica."""
    service = service_times(fan_out, searches, random)
    gaps = random.exponential(1000 / per_second, searches)
    waits = waiting_times(service, gaps, fan_out.searches_at_once)
    network = random.exponential(fan_out.network_ms, service.shape) if fan_out.network_ms else 0.0
    times: Floats = (waits + service + network).max(axis=1) + fan_out.merge_ms
    return times[round(WARM_UP_SHARE * searches) :]


def utilisation(fan_out: FanOut, per_second: float, mean_segment_ms: float) -> float:
    """Return the share of a machine's cores that such a load keeps busy."""
    return per_second * fan_out.segments_per_machine * mean_segment_ms / 1000 / fan_out.cores


def merged_recall(
    found_by_rank: Sequence[float], shards: int, trials: int, random: np.random.Generator, *, shards_down: int = 0
) -> float:
    """Return the share of the nearest that is found when shards are searched separately and merged by score.

    Each of the nearest lies in a random shard, where its rank is one more than the number of nearer ones there; it is found
    as often as that rank is. What lies in a shard that is down is not found.
    """
    top = len(found_by_rank)
    placed = random.integers(shards, size=(trials, top))
    same = placed[:, :, None] == placed[:, None, :]
    ranks = np.tril(same, k=-1).sum(axis=2)
    found = np.asarray(found_by_rank)[ranks] * (placed >= shards_down)
    return float(found.mean())


def complete_share(machines: int, replicas: int, down_share: float) -> float:
    """Return how often every machine of an index is up in at least one of its replicas, if machines fail by themselves."""
    return float((1 - down_share**replicas) ** machines)
