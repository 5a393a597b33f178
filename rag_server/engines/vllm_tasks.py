"""What a vLLM is started for: to answer, or to score passages."""

from dataclasses import dataclass

from rag_server.protocols import Json

# Makes the rankings that ask for it permutations, and leaves all other requests alone; vLLM imports it, this layer does not.
LOGITS_PROCESSOR = "rerankers.vllm_logits:PermutationLogitsProcessor"


@dataclass(frozen=True, slots=True)
class VllmTask:
    """What a vLLM is started for. Context lengths None are the model's own; longer ones are cut to what memory holds."""

    name: str
    setting: str
    log_file: str
    arguments: tuple[str, ...]
    # vLLM on a CPU takes its key-value cache from main memory, all of it at once.
    cpu_cache_gib: int
    cpu_context_length: int
    gpu_memory_share: float
    gpu_context_length: int | None
    warm_up_path: str
    warm_up: Json


GENERATE = VllmTask(
    name="generate",
    setting="RAG_ENGINE__MODEL",
    log_file="vllm.log",
    # Without the second, the usage in an answer does not say how many tokens of the prompt were cached; with the third, the
    # rows of batches wait for everybody else's requests. Statistics are left on: batches go by the number of those that wait.
    arguments=(
        "--logits-processors",
        LOGITS_PROCESSOR,
        "--enable-prompt-tokens-details",
        "--scheduling-policy",
        "priority",
    ),
    cpu_cache_gib=2,
    cpu_context_length=8192,
    # The embedding model and FAISS live on the same device.
    gpu_memory_share=0.8,
    gpu_context_length=None,
    warm_up_path="/chat/completions",
    warm_up={"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
)
# 64 passages of 100 words are about 10,000 tokens, for which a model of .6 billion parameters needs 2.2 GiB in float32.
RERANK = VllmTask(
    name="rerank",
    setting="RAG_RERANK__MODEL",
    log_file="vllm-rerank.log",
    arguments=("--runner", "pooling", "--disable-log-stats"),
    cpu_cache_gib=4,
    cpu_context_length=16384,
    # What the model that answers leaves.
    gpu_memory_share=0.15,
    gpu_context_length=16384,
    warm_up_path="/rerank",
    warm_up={"query": "Hello", "documents": ["Hello"]},
)
