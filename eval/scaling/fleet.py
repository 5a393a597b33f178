"""How many machines of which kind hold an index, serve the searches and write the answers, and what they cost per month."""

import math
from dataclasses import dataclass, field

from eval.scaling import published
from eval.scaling.constants import Constants
from eval.scaling.growth import lexical_growth
from eval.scaling.options import FLOAT_BYTES, Option, Profile, profile
from eval.scaling.simulation import FanOut

HOURS_PER_MONTH = 730
GB = 1e9
# RAG_RETRIEVE__NUM_CANDIDATES: what each machine hands over.
CANDIDATES = 100


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked at the busiest time; an answer is a search, too."""

    passages: int
    searches_per_s: float
    answers_per_s: float


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine to rent."""

    cores: int
    memory_bytes: float
    disk_bytes: float
    per_hour: float


@dataclass(frozen=True, slots=True)
class Prices:
    """What machines and storage cost: examples, which the command line replaces."""

    machine: Machine
    small_per_hour: float
    gpu_per_hour: float
    embedding_gpu_per_hour: float
    gb_month: float


@dataclass(frozen=True, slots=True)
class Targets:
    """What a plan must reach, and where it changes its shape."""

    recall: float
    # 95th percentile of a whole search.
    search_ms: float
    # One segment after the other on the cores of a machine, without waiting.
    scan_ms: float
    # An index may have so many times more rows than the largest that was measured.
    extrapolation: float
    # Beyond that, BM25 on one machine is too slow, and vectors alone are searched.
    lexical_ms: float
    # Up to so many passages, one machine without a second one beside it.
    single_machine_passages: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """The machines for one index at one demand."""

    option: Option
    demand: Demand
    profile: Profile
    replicas: int
    servers: int
    # In each replica of the index; 0 where the servers hold it.
    index_machines: int
    engine_gpus: int
    small_machines: int
    database: str
    database_machines: int
    sql_bytes: float
    bm25_bytes_per_server: float
    lexical_ms: float
    hybrid: bool
    # On rented disks or object storage, all copies.
    stored_bytes: float
    fan_out: FanOut
    # Why it cannot be built, empty if it can.
    faults: tuple[str, ...] = field(default=())

    @property
    def machines(self) -> int:
        """All machines of the large kind."""
        return self.servers + self.replicas * self.index_machines + self.database_machines

    def monthly(self, prices: Prices) -> dict[str, float]:
        """Return the cost of a month by what it is for."""
        large = prices.machine.per_hour * HOURS_PER_MONTH
        return {
            "servers": self.servers * large,
            "index": self.replicas * self.index_machines * large,
            "database": self.database_machines * large,
            "small machines": self.small_machines * prices.small_per_hour * HOURS_PER_MONTH,
            "engines": self.engine_gpus * prices.gpu_per_hour * HOURS_PER_MONTH,
            "storage": self.stored_bytes / GB * prices.gb_month,
        }


def size_fleet(option: Option, demand: Demand, constants: Constants, machine: Machine, targets: Targets) -> Fleet:
    """Return the smallest fleet that holds the index and carries the demand, also when one machine of it is down."""
    shape = profile(option, demand.passages, constants)
    replicas = 1 if demand.passages <= targets.single_machine_passages else 2
    lexical_ms = lexical_growth(constants.lexical).at(demand.passages)
    hybrid = lexical_ms <= targets.lexical_ms
    in_server = option.place == "faiss"
    index_machines = 0 if in_server else _index_machines(shape, demand, replicas, machine, targets)
    core_ms = constants.embedding.query_core_ms + published.SERVER_MS.value + (lexical_ms if hybrid else 0)
    servers = _servers(demand, core_ms + (shape.mean_segment_ms if in_server else 0), replicas, machine)
    database = "sqlite" if servers == 1 and in_server else "postgresql"
    store = constants.store(database)
    copies = 1 if database == "sqlite" else int(published.DATABASE_COPIES.value)
    bm25_bytes = store.bm25_bytes * demand.passages if hybrid else 0.0
    # Milvus keeps the vectors and the index in object storage; a machine's own disk holds what it serves.
    in_milvus = 0.0 if in_server else demand.passages * FLOAT_BYTES * constants.dimension + shape.disk_bytes
    return Fleet(
        option=option,
        demand=demand,
        profile=shape,
        replicas=replicas,
        servers=servers,
        index_machines=index_machines,
        engine_gpus=engine_gpus(demand.answers_per_s, spare=replicas > 1),
        small_machines=_small_machines(servers, in_server=in_server),
        database=database,
        database_machines=0 if database == "sqlite" else copies,
        sql_bytes=store.sql_bytes * demand.passages,
        bm25_bytes_per_server=bm25_bytes,
        lexical_ms=lexical_ms,
        hybrid=hybrid,
        stored_bytes=copies * store.sql_bytes * demand.passages + servers * bm25_bytes + in_milvus,
        fan_out=_fan_out(shape, index_machines, constants, machine),
        faults=_faults(shape, machine, in_server=in_server),
    )


def engine_gpus(answers_per_s: float, *, spare: bool) -> int:
    """Return how many GPUs write so many answers: arithmetic for the prompt, a published rate for the answer's tokens."""
    flops = 2 * published.ENGINE_WEIGHTS.value * published.PROMPT_TOKENS.value
    prefill_s = flops / (published.H100_FLOPS.value * published.PREFILL_EFFICIENCY.value)
    decode_s = published.ANSWER_TOKENS.value / published.DECODED_TOKENS.value
    busy = answers_per_s * (prefill_s + decode_s)
    return max(1, math.ceil(busy / published.PEAK_UTILISATION.value)) + spare


def _index_machines(shape: Profile, demand: Demand, replicas: int, machine: Machine, targets: Targets) -> int:
    """Return how many machines one replica needs: for memory, disk, the time of a scan, and the load without one replica."""
    core_s = shape.segments * shape.mean_segment_ms / 1000
    left = max(1, replicas - 1)
    needs = (
        shape.resident_bytes / (machine.memory_bytes * published.USABLE_MEMORY.value),
        shape.disk_bytes / (machine.disk_bytes * published.USABLE_MEMORY.value),
        core_s / (machine.cores * targets.scan_ms / 1000),
        demand.searches_per_s / left * core_s / (machine.cores * published.PEAK_UTILISATION.value),
    )
    return max(1, math.ceil(max(needs)))


def _servers(demand: Demand, search_core_ms: float, replicas: int, machine: Machine) -> int:
    busy = (demand.searches_per_s * search_core_ms + demand.answers_per_s * published.ANSWER_MS.value) / 1000
    needed = max(1, math.ceil(busy / (machine.cores * published.PEAK_UTILISATION.value)))
    return needed if replicas == 1 else needed + 1


def _small_machines(servers: int, *, in_server: bool) -> int:
    shared = published.SHARED_SMALL_MACHINES.value if servers > 1 else 0
    return int(shared + (0 if in_server else published.MILVUS_SMALL_MACHINES.value))


def _fan_out(shape: Profile, index_machines: int, constants: Constants, machine: Machine) -> FanOut:
    """Return what a search does to one replica: a server's own index, or the machines of a cluster."""
    machines = max(1, index_machines)
    hits = machines * CANDIDATES
    return FanOut(
        machines=machines,
        segments_per_machine=math.ceil(shape.segments / machines),
        cores=machine.cores,
        segment_ms=shape.segment_ms,
        network_ms=published.NETWORK_MS.value if index_machines else 0.0,
        merge_ms=hits * constants.merge_ns_per_hit / 1e6 if index_machines else 0.0,
    )


def _faults(shape: Profile, machine: Machine, *, in_server: bool) -> tuple[str, ...]:
    peak = shape.resident_bytes * published.REBUILD_PEAK.value + published.SERVER_BYTES.value
    return ("memory",) if in_server and peak > machine.memory_bytes * published.USABLE_MEMORY.value else ()
