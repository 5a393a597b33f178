"""The tables and plots of the plan."""

import math
from collections.abc import Callable, Mapping, Sequence

from eval.report import Cell, Plot, Series, Table
from eval.scaling import published
from eval.scaling.constants import Constants
from eval.scaling.fleet import Machine, Prices
from eval.scaling.indexing import first_indexing
from eval.scaling.plan import Outcome, Times

Plans = Mapping[int, Outcome]
MONEY = "$"


def plan_table(plans: Plans) -> Table:
    """Return what is rented for each size, and what it does."""
    lines: dict[str, Callable[[Outcome], Cell]] = {
        "vectors in": lambda outcome: outcome.fleet.option.label,
        "truth in": lambda outcome: {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[outcome.fleet.database],
        "searched by": lambda outcome: "vectors and BM25" if outcome.fleet.hybrid else "vectors",
        "index in memory, one replica": lambda outcome: size(outcome.fleet.profile.resident_bytes),
        "truth on disk, one copy": lambda outcome: size(outcome.fleet.sql_bytes),
        "BM25 on each server's disk": lambda outcome: size(outcome.fleet.bm25_bytes_per_server or None),
        "servers": lambda outcome: outcome.fleet.servers,
        "index machines x replicas": _index_machines,
        "database machines": lambda outcome: outcome.fleet.database_machines or None,
        "engine GPUs": lambda outcome: outcome.fleet.engine_gpus,
        "recall@10 of an exact search": lambda outcome: f"{outcome.recall:.3f}",
        "search, p50 / p95 / p99": lambda outcome: times(outcome.times),
        "the same with one machine down": lambda outcome: times(outcome.times_one_down),
        "per month": lambda outcome: money(outcome.monthly),
        "per month without engines": lambda outcome: money(outcome.without_engines),
        "per million passages and month, without engines": _per_million,
    }
    rows = [(name, *(line(outcome) for outcome in plans.values())) for name, line in lines.items()]
    return Table("The cheapest plan that is good and fast enough", ("passages", *map(count, plans)), tuple(rows))


def options_table(passages: int, candidates: Sequence[Outcome], plan: Outcome | None) -> Table:
    """Return every way to keep the vectors of one size, and what is wrong with it."""
    rows = []
    for outcome in candidates:
        fleet = outcome.fleet
        buildable = not fleet.faults
        rows.append((
            fleet.option.label,
            size(fleet.profile.resident_bytes),
            f"{fleet.profile.segments:,}",
            f"{fleet.profile.mean_segment_ms:,.1f} ms",
            _extrapolated(fleet.profile.extrapolated),
            fleet.servers if buildable else None,
            _index_machines(outcome),
            f"{outcome.recall:.3f}",
            times(outcome.times),
            money(outcome.without_engines) if buildable else None,
            "chosen" if outcome is plan else _verdict(outcome),
        ))  # fmt: skip
    columns = (
        "index", "memory", "segments", "one segment", "beyond measured", "servers", "machines", "recall@10",
        "search p50 / p95 / p99", "per month", "verdict",
    )  # fmt: skip
    return Table(f"{count(passages)} passages: every option, without engines", columns, tuple(rows))


def failure_table(plans: Plans) -> Table:
    """Return what one machine that is down does to each plan."""
    rows = [
        (
            count(passages),
            f"{outcome.utilisation:.2f}",
            "–" if outcome.times_one_down is None else f"{outcome.utilisation_one_down:.2f}",
            times(outcome.times),
            times(outcome.times_one_down),
            f"{outcome.recall_one_lost:.3f}" if outcome.fleet.index_machines else None,
            f"{outcome.reload_s / 60:.1f} min",
            f"{100 * outcome.complete_share:.4f} %",
        )
        for passages, outcome in plans.items()
    ]
    columns = (
        "passages", "busy", "busy, one down", "search p50 / p95 / p99", "one down", "recall@10 without a replica, one down",
        "loading what it held", "whole index reachable",
    )  # fmt: skip
    return Table("One machine of the index is down", columns, tuple(rows))


def indexing_table(sizes: Sequence[int], plans: Plans, constants: Constants, prices: Prices) -> Table:
    """Return how long the first indexing takes."""
    rows = []
    for passages in sizes:
        took = first_indexing(passages, constants, prices.machine.cores)
        build = plans[passages].fleet.profile.build_core_s if passages in plans else None
        gpus = published.EMBEDDING_GPUS.value
        rows.append((
            count(passages),
            hours(took.embedding_one_machine_h),
            hours(took.embedding_gpus_h),
            money(took.embedding_gpus_h * gpus * prices.embedding_gpu_per_hour),
            hours(took.storing_one_process_h),
            hours(None if build is None else build / published.INGEST_CORES.value / 3600),
        ))  # fmt: skip
    columns = (
        "passages", f"embedding, {prices.machine.cores} cores", f"embedding, {gpus_name()}", "its cost",
        "parsing and storing, one process", f"building the vectors' index, {published.INGEST_CORES.value:.0f} cores",
    )  # fmt: skip
    return Table("The first indexing", columns, tuple(rows))


def cost_table(plans: Plans, prices: Prices) -> Table:
    """Return what a month costs, by what it is for."""
    parts = {passages: outcome.fleet.monthly(prices) for passages, outcome in plans.items()}
    names = list(next(iter(parts.values()), {}))
    rows = [(name, *(money(part[name]) for part in parts.values())) for name in names]
    return Table("Cost per month", ("for", *map(count, plans)), tuple(rows))


def kinds_table(constants: Constants) -> Table:
    """Return what was measured of each kind of index."""
    rows = tuple(
        (
            figures.kind,
            figures.rows,
            f"{figures.resident_bytes / figures.rows:,.0f}",
            f"{figures.disk_bytes / figures.rows:,.0f}",
            f"{figures.rows / figures.build_core_s:,.0f}/s" if figures.build_core_s else None,
            f"{figures.recall:.3f}",
            f"{figures.mean_ms:.2f} ms",
            f"{figures.latency_ms[95]:.2f} ms",
        )
        for figures in constants.indexes
    )
    columns = ("kind", "rows", "bytes in memory", "bytes on disk", "built", "recall@10", "search, mean", "p95")
    return Table("Measured: vector indexes, per row, one core", columns, rows)


def other_constants_table(constants: Constants) -> Table:
    """Return what else was measured."""
    rows: list[tuple[Cell, ...]] = [("machine, date", f"{constants.machine}, {constants.date}")]
    for store in constants.stores:
        name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[store.database]
        rows += [
            (f"{name}: bytes per passage, its vector included", f"{store.sql_bytes:,.0f}"),
            (f"{name}: parsing, cutting, storing and indexing a passage, one core", f"{store.ingest_core_ms:.2f} ms"),
        ]
    store = constants.stores[0]
    rows += [
        ("text of a passage", f"{store.text_bytes:,.0f} bytes, {store.tokens:.0f} tokens"),
        ("BM25: bytes per passage", f"{store.bm25_bytes:,.0f}"),
        *((f"BM25: search among {count(figures.rows)}", f"{figures.mean_ms:.2f} ms") for figures in constants.lexical),
        ("embedding a passage, one core", f"{constants.embedding.passage_core_ms:.1f} ms"),
        ("embedding a query, one core", f"{constants.embedding.query_core_ms:.1f} ms"),
        ("merging, per hit", f"{constants.merge_ns_per_hit:.0f} ns"),
        ("time of the searches that their thread waited for a core", f"{100 * constants.waiting_share:.1f} %"),
    ]
    return Table("Measured: the rest", ("what", "value"), tuple(rows))


def real_text_table(constants: Constants) -> Table:
    """Return how the recall among made-up vectors compares with that among vectors of real texts."""
    rows = tuple((f.kind, f.rows, f"{f.recall:.3f}", f"{f.recall_made_up:.3f}") for f in constants.real_text)
    return Table("Measured: recall@10 on real texts", ("kind", "rows", "real texts", "made up"), rows)


def sources_table() -> Table:
    """Return what was not measured here, and where it is from."""
    rows = tuple(
        (value.what, f"{value.value:,.10g} {value.unit}".strip(), "assumed" if value.assumed else "published", value.source)
        for value in published.ALL
    )
    return Table("Not measured here", ("what", "value", "kind", "from"), rows)


def prices_table(prices: Prices) -> Table:
    """Return the example prices."""
    machine: Machine = prices.machine
    large = f"machine: {machine.cores} cores, {size(machine.memory_bytes)} of memory, {size(machine.disk_bytes)} of NVMe"
    rows = (
        (large, f"{MONEY}{machine.per_hour:.2f} per hour"),
        ("small machine: 4 cores", f"{MONEY}{prices.small_per_hour:.2f} per hour"),
        ("GPU for engines: H100", f"{MONEY}{prices.gpu_per_hour:.2f} per hour"),
        ("GPU for embedding: L4", f"{MONEY}{prices.embedding_gpu_per_hour:.2f} per hour"),
        ("storage", f"{MONEY}{prices.gb_month:.3f} per GB and month"),
    )
    return Table("Prices", ("what", "price"), rows)


def plots(plans: Plans, constants: Constants) -> list[Plot]:
    """Return the times of the plans, and their cost per million passages."""
    categories = tuple(map(count, plans))
    places = tuple(float(place) for place in range(len(plans)))
    shown = [outcome.times or Times(math.nan, math.nan, math.nan) for outcome in plans.values()]
    named = {"p50": [t.p50 for t in shown], "p95": [t.p95 for t in shown], "p99": [t.p99 for t in shown]}
    bars = tuple(Series(name, places, tuple(values)) for name, values in named.items())
    per_million = tuple(outcome.without_engines / passages * 1e6 for passages, outcome in plans.items())
    kinds = list(dict.fromkeys(figures.kind for figures in constants.indexes))
    recall = tuple(
        Series(kind, tuple(f.rows for f in constants.of_kind(kind)), tuple(f.recall for f in constants.of_kind(kind)))
        for kind in kinds
    )
    return [
        Plot("times.png", "Simulated time of a search", "passages", "milliseconds", bars, categories),
        Plot(
            "cost.png", "Cost per month of a million passages, without engines", "passages", MONEY,
            (Series("plan", places, per_million),), categories,
        ),
        Plot("recall.png", "Recall@10 of one segment, measured", "rows", "recall@10", recall),
    ]  # fmt: skip


def count(number: int) -> str:
    """Return a number of passages in words: 1 M, 10 M, 1 B."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)


def size(num_bytes: float | None) -> Cell:
    """Return bytes with a decimal unit and three digits at most."""
    if num_bytes is None:
        return None
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.3g} {name}"
    return f"{num_bytes:.0f} B"


def hours(number: float | None) -> Cell:
    """Return hours as minutes, hours or days."""
    if number is None:
        return None
    if number < 1:
        return f"{60 * number:.2g} min"
    return f"{number:.1f} h" if number < 48 else f"{number / 24:,.0f} days"


def money(amount: float) -> str:
    """Return an amount to three digits: what a plan is worth."""
    digits = max(0, 2 - math.floor(math.log10(amount))) if amount > 0 else 0
    return f"{MONEY}{amount:,.{digits}f}" if digits else f"{MONEY}{round(amount, 2 - math.floor(math.log10(amount or 1))):,.0f}"


def times(value: Times | None) -> Cell:
    """Return the percentiles, or nothing."""
    return None if value is None else f"{value.p50:.0f} / {value.p95:.0f} / {value.p99:.0f} ms"


def gpus_name() -> str:
    """Return the GPUs that embed."""
    return f"{published.EMBEDDING_GPUS.value:.0f} GPUs"


def _index_machines(outcome: Outcome) -> Cell:
    fleet = outcome.fleet
    return f"{fleet.index_machines} x {fleet.replicas}" if fleet.index_machines else None


def _per_million(outcome: Outcome) -> Cell:
    return money(outcome.without_engines / outcome.fleet.demand.passages * 1e6)


def _verdict(outcome: Outcome) -> str:
    by_others = ", by others' figures" if outcome.fleet.profile.extrapolated is None else ""
    return (", ".join(outcome.faults) or "good") + by_others


def _extrapolated(factor: float | None) -> Cell:
    if factor is None:
        return "published"
    return f"{factor:.0f} x" if factor >= 2 else f"{factor:.1f} x"
