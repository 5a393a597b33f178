"""What the plan takes from others, or assumes, with the place that it is from; nothing here was measured by this project."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """A figure, where it is from, and whether it is only assumed."""

    what: str
    value: float
    unit: str
    source: str
    assumed: bool = False


MILVUS_YAML = "Milvus, configs/milvus.yaml"
DISKANN_PAPER = "Subramanya et al., DiskANN, NeurIPS 2019 (SIFT1B, 128 dimensions, 16 cores)"
README = "this project's README, make bench"

SEGMENT_BYTES = Published("Milvus, raw vectors of a segment at most", 1024 * 2**20, "bytes", f"{MILVUS_YAML}: segment.maxSize")
DISK_SEGMENT_BYTES = Published(
    "the same with a disk index", 2048 * 2**20, "bytes", f"{MILVUS_YAML}: segment.diskSegmentMaxSize"
)
DISKANN_CODES = Published("DiskANN, codes in memory, of the raw vectors", 0.125, "x", f"{MILVUS_YAML}: PQCodeBudgetGBRatio")
DISKANN_CACHE = Published("DiskANN, nodes in memory, of the raw vectors", 0.1, "x", f"{MILVUS_YAML}: SearchCacheBudgetGBRatio")
DISKANN_DEGREE = Published("DiskANN, neighbours of a node", 56, "", f"{MILVUS_YAML}: MaxDegree")
DISKANN_SECTOR = Published("DiskANN, sector that holds whole nodes", 4096, "bytes", "DiskANN's disk layout")
DISKANN_CORE_MS = Published("DiskANN, time of one core per search", 3.2, "ms", f"{DISKANN_PAPER}: 5,000 searches/s")
DISKANN_RECALL = Published("DiskANN, 1-recall@1", 0.95, "", DISKANN_PAPER)
BERT_LARGE_TOKENS = Published(
    "bert-large on one L4, tokens per second", 0.54 * 115_000, "/s", "michaelfeil/infinity, docs/benchmarking.md, TEI"
)
BERT_LARGE_WEIGHTS = Published("bert-large, weights of its layers", 302e6, "", "24 layers of 12 x 1024 x 1024")
MINILM_WEIGHTS = Published("all-MiniLM-L6-v2, weights of its layers", 10.6e6, "", "6 layers of 12 x 384 x 384")
DECODED_TOKENS = Published(
    "8 billion weights on one H100, decoded tokens per second",
    12_500,
    "/s",
    "morphllm.com, vLLM benchmarks, 2026-04 (a third party)",
)
H100_FLOPS = Published("H100, bfloat16, without sparsity", 989e12, "/s", "NVIDIA's data sheet of the H100 SXM")
SERVER_MS = Published("a search over HTTP beyond the query's embedding", 12.0, "ms", README)
ANSWER_MS = Published("an answer beyond retrieval and engine", 8.0, "ms", README)
SERVER_BYTES = Published("a server without indexes", 0.7e9, "bytes", README)

REBUILD_PEAK = Published(
    "a graph that is rebuilt beside the one that is searched, of its memory", 2.5, "x", f"{README}: 3.0 x to 1.2 x"
)

SMALL_MODEL_EFFICIENCY = Published(
    "share of bert-large's arithmetic speed that MiniLM reaches on a GPU", 0.25, "x", "small matrices fill a GPU badly", True
)
PREFILL_EFFICIENCY = Published("share of a GPU's arithmetic that prefill reaches", 0.4, "x", "usual for dense models", True)
ENGINE_WEIGHTS = Published("the answering model, weights", 8e9, "", "such as Llama 3.1 8B", True)
PROMPT_TOKENS = Published("tokens of a prompt", 2300, "", "10 passages of 200 tokens, and the rest", True)
ANSWER_TOKENS = Published("tokens of an answer", 250, "", "a few sentences with citations", True)
NETWORK_MS = Published("network, there and back, per machine: exponential, mean", 0.5, "ms", "one data centre", True)
RELOAD_BYTES = Published("loading an index from object storage", 1e9, "bytes/s", "a link of 10 Gbit/s", True)
USABLE_MEMORY = Published(
    "share of a machine's memory for indexes", 0.75, "x", "the rest is for the system and for growth", True
)
PEAK_UTILISATION = Published(
    "utilisation of what is left when one replica is down, at most", 0.8, "x", "queues grow beyond it", True
)
MILVUS_SMALL_MACHINES = Published(
    "small machines for Milvus's coordinators, etcd and queue", 3, "", "one of each, thrice", True
)
SHARED_SMALL_MACHINES = Published("small machines for Redis and the balancer, with several servers", 2, "", "one of each", True)
DATABASE_COPIES = Published("copies of the truth store, a standby included", 2, "x", "a primary and a standby", True)
MACHINE_DOWN_SHARE = Published("share of the time that a machine is down", 0.001, "x", "99.9 % each, independent", True)
INGEST_CORES = Published("cores that parse, cut and build at the first indexing", 64, "", "four machines of 16", True)
EMBEDDING_GPUS = Published("GPUs that embed at the first indexing", 8, "", "L4", True)

ALL = tuple(value for value in globals().values() if isinstance(value, Published))
