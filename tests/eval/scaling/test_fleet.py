"""Machines and money beside sums worked out by hand."""

import math
from dataclasses import replace

import pytest

from eval.scaling import published
from eval.scaling.fleet import Demand, Fleet, Machine, Prices, Targets, engine_gpus, size_fleet
from eval.scaling.indexing import first_indexing, minilm_tokens_per_s
from eval.scaling.options import OPTIONS, Option, diskann_disk_bytes, profile
from eval.scaling.published import Published
from tests.eval.scaling.example import constants

MACHINE = Machine(cores=16, memory_bytes=128e9, disk_bytes=3750e9, per_hour=1.0)
PRICES = Prices(MACHINE, small_per_hour=0.1, gpu_per_hour=3.0, embedding_gpu_per_hour=1.0, gb_month=0.1)
TARGETS = Targets(recall=0.95, search_ms=250, scan_ms=60, extrapolation=1e6, lexical_ms=100, single_machine_passages=2_000_000)


def fleet(place: str, kind: str, passages: int, searches_per_s: float = 50.0, answers_per_s: float = 5.0) -> Fleet:
    """Size a fleet with the round constants."""
    demand = Demand(passages, searches_per_s, answers_per_s)
    return size_fleet(Option(place, kind), demand, constants(), MACHINE, TARGETS)


def test_milvus_cuts_a_billion_passages_into_segments_of_its_size() -> None:
    """By hand: 1 GiB holds 699,050 vectors of 1,536 bytes, so that a billion are 1,431 segments of 7 ms each."""
    shape = profile(Option("milvus", "ivf_sq8"), 10**9, constants())

    assert shape.segments == math.ceil(1e9 / 699_050.67) == 1431
    assert shape.mean_segment_ms == pytest.approx(1e9 / 1431 / 100_000)
    assert shape.resident_bytes == pytest.approx(400e9)
    assert shape.extrapolated == pytest.approx(1e9 / 1431 / 200_000)


def test_diskann_keeps_codes_in_memory_and_two_nodes_in_a_sector() -> None:
    """By hand: .225 of 1,536 bytes in memory; a node of 1,536 + 4 + 56 x 4 bytes, of which 4,096 hold two, on the disk."""
    shape = profile(Option("milvus", "diskann"), 10**9, constants())

    assert shape.resident_bytes == pytest.approx(345.6e9)
    assert shape.disk_bytes == pytest.approx(2048e9)
    assert shape.segments == 716
    assert (shape.build_core_s, shape.extrapolated) == (None, None)
    assert diskann_disk_bytes(4096 * 4) == 5 * 4096


def test_a_million_passages_fit_on_one_machine() -> None:
    """By hand: SQLite, one server and no standby; 1.8 GB of vectors, 5 GB of truth, 200 MB of BM25, which takes 1 ms."""
    plan = fleet("faiss", "hnsw", 10**6)

    assert (plan.database, plan.servers, plan.replicas, plan.index_machines) == ("sqlite", 1, 1, 0)
    assert (plan.database_machines, plan.small_machines, plan.hybrid) == (0, 0, True)
    assert plan.profile.resident_bytes == pytest.approx(1.8e9)
    assert plan.stored_bytes == pytest.approx(5e9 + 0.2e9)
    assert plan.lexical_ms == pytest.approx(1)


def test_index_machines_hold_memory_scan_time_and_load() -> None:
    """By hand, for 1.431 x 6.99 s of work per search in 400 GB: the load of 50 per second on one replica decides."""
    plan = fleet("milvus", "ivf_sq8", 10**9)

    core_s = 1e9 / 100_000 / 1000
    needs = (400 / (128 * 0.75), core_s / (16 * 0.060), 50 * core_s / (16 * 0.8))
    assert needs == pytest.approx((4.17, 10.4, 39.06), rel=0.01)
    assert (plan.replicas, plan.index_machines) == (2, 40)
    assert plan.fan_out.segments_per_machine == math.ceil(1431 / 40)
    # A little load: then the time of one scan decides, and with a graph, whose scans are short, the memory.
    assert fleet("milvus", "ivf_sq8", 10**9, searches_per_s=1).index_machines == 11
    assert fleet("milvus", "hnsw", 10**9, searches_per_s=1).index_machines == math.ceil(1800 / 96)


def test_servers_carry_the_load_with_one_of_them_down() -> None:
    """By hand: 50 searches of 8 + 12 ms and 5 answers of 8 ms keep 1.04 cores busy, so one server does, and one is spare."""
    assert fleet("milvus", "hnsw", 10**9).servers == 2
    # 2,000 searches a second keep 40.04 cores busy; 12.8 of a machine's 16 may be.
    assert fleet("milvus", "hnsw", 10**9, searches_per_s=2000).servers == 4 + 1


def test_an_index_that_does_not_fit_into_a_server_is_refused() -> None:
    """While it is rebuilt, an index takes 2.5 times its memory: of 400 bytes per vector, 96 GB hold 95 million, and not 96."""
    assert fleet("faiss", "ivf_sq8", 96 * 10**6).faults == ("memory",)
    assert fleet("faiss", "ivf_sq8", 95 * 10**6).faults == ()


def test_bm25_is_left_out_where_one_machine_would_be_too_slow() -> None:
    """At 90 ms for 90 million chunks it is searched; beyond a hundred it is not, and takes no room either."""
    assert fleet("milvus", "hnsw", 9 * 10**7).hybrid
    plan = fleet("milvus", "hnsw", 10**9)
    assert not plan.hybrid
    assert plan.bm25_bytes_per_server == 0


def test_a_month_costs_what_its_machines_cost() -> None:
    """By hand, at a dollar an hour: machines, small machines, GPUs and bytes, each 730 hours or per gigabyte."""
    plan = fleet("milvus", "ivf_sq8", 10**9)

    cost = plan.monthly(PRICES)

    stored = 2 * 5000 + 1536 + 400
    assert cost == pytest.approx({
        "servers": 2 * 730,
        "index": 80 * 730,
        "database": 2 * 730,
        "small machines": 5 * 0.1 * 730,
        "engines": plan.engine_gpus * 3 * 730,
        "storage": stored * 0.1,
    })  # fmt: skip
    assert plan.machines == 2 + 80 + 2


def test_engines_follow_arithmetic_and_published_rate() -> None:
    """By hand: 2,300 tokens x 16 GFLOP at 396 TFLOPS and 250 tokens at 12,500 per second are .113 s of a GPU per answer."""
    busy = 2 * 8e9 * 2300 / (989e12 * 0.4) + 250 / 12_500

    assert busy == pytest.approx(0.113, abs=0.001)
    assert engine_gpus(5, spare=False) == math.ceil(5 * busy / 0.8) == 1
    assert engine_gpus(50, spare=True) == math.ceil(50 * busy / 0.8) + 1 == 9


def test_first_indexing_takes_the_time_of_its_parts() -> None:
    """By hand: a million passages of 36 core-ms on 16 cores are .625 h; stored by one process at 2 ms each, .556 h."""
    took = first_indexing(10**6, constants(), cores=16)

    assert took.embedding_one_machine_h == pytest.approx(0.625)
    assert took.storing_one_process_h == pytest.approx(2e-3 * 1e6 / 3600)
    assert took.embedding_gpus_h == pytest.approx(1e6 * 150 / (8 * minilm_tokens_per_s()) / 3600)
    assert minilm_tokens_per_s() == pytest.approx(0.54 * 115_000 * 302 / 10.6 / 4)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.label)
def test_more_passages_and_more_searches_never_take_less(option: Option) -> None:
    """Memory, disks, machines and cost grow with the passages and with the rate, whatever the index."""

    def grown(passages: int, rate: float) -> tuple[float, ...]:
        plan = size_fleet(option, Demand(passages, rate, rate / 10), constants(), MACHINE, TARGETS)
        return plan.profile.resident_bytes, plan.sql_bytes, plan.machines, sum(plan.monthly(PRICES).values())

    by_size = [grown(passages, 50) for passages in (10**6, 10**7, 10**8, 10**9)]
    by_rate = [grown(10**7, rate) for rate in (1, 10, 100, 1000)]
    for figures in (*zip(*by_size, strict=True), *zip(*by_rate, strict=True)):
        assert list(figures) == sorted(figures)


def test_larger_machines_are_fewer() -> None:
    """Twice the memory, disk and cores never need more machines."""
    twice = replace(MACHINE, cores=32, memory_bytes=256e9, disk_bytes=7500e9)
    for option in OPTIONS:
        small = size_fleet(option, Demand(10**9, 50, 5), constants(), MACHINE, TARGETS)
        large = size_fleet(option, Demand(10**9, 50, 5), constants(), twice, TARGETS)
        assert large.machines <= small.machines


def test_every_figure_of_others_has_its_source() -> None:
    """Whatever was not measured here says where it is from, and is listed."""
    values = [value for value in vars(published).values() if isinstance(value, Published)]

    assert values == list(published.ALL)
    assert all(value.source and value.what and value.value > 0 for value in values)
