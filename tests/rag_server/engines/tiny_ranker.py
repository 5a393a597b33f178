"""A tiny random model of the architecture JinaForRanking, and its scores as transformers computes them.

As a program, `python tiny_ranker.py FOLDER` reads `{"query": ..., "texts": [...]}` and prints the scores.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

# vLLM takes the hidden states at these tokens.
SPECIAL_TOKENS = {"<|embed_token|>": 151670, "<|rerank_token|>": 151671}
HIDDEN, EMBEDDING = 64, 512
CONTEXT_LENGTH = 16384


def save_tiny_ranker(folder: Path) -> None:
    """Write the model; its tokens are bytes, the rest of its vocabulary is never used."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=max(SPECIAL_TOKENS.values()) + 1,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=CONTEXT_LENGTH,
        # Wide enough for scores that differ.
        initializer_range=0.5,
        tie_word_embeddings=True,
        architectures=["JinaForRanking"],
    )
    config.save_pretrained(folder)
    weights = {f"model.{name}": weight.contiguous() for name, weight in Qwen3Model(config).state_dict().items()}
    weights["projector.0.weight"] = torch.randn(HIDDEN // 2, HIDDEN)
    weights["projector.2.weight"] = torch.randn(EMBEDDING, HIDDEN // 2)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer().save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    used = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = [f"unused{number}" for number in range(min(SPECIAL_TOKENS.values()) - len(used))]
    tokenizer = Tokenizer(models.BPE(vocab={token: id_ for id_, token in enumerate(used + unused)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])

    assert {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS} == SPECIAL_TOKENS

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|embed_token|>", model_max_length=CONTEXT_LENGTH)


def reference_scores(folder: Path, query: str, texts: list[str]) -> list[float]:
    """Return the cosine of each text's projected hidden state with the query's, from vLLM's own prompt."""
    from vllm.entrypoints.pooling.scoring.io_processor import JinaRankingIOProcessorMixin

    prompt = JinaRankingIOProcessorMixin.format_docs_prompts_func(query, texts)
    ids = torch.tensor(PreTrainedTokenizerFast.from_pretrained(folder)(prompt)["input_ids"])
    weights = load_file(folder / "model.safetensors")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()(ids[None]).last_hidden_state[0]
    projected = torch.relu(hidden @ weights["projector.0.weight"].T) @ weights["projector.2.weight"].T
    of_texts, of_query = (projected[ids == token] for token in SPECIAL_TOKENS.values())

    assert (len(of_texts), len(of_query)) == (len(texts), 1)

    return torch.nn.functional.cosine_similarity(of_texts, of_query).tolist()


if __name__ == "__main__":
    json.dump(reference_scores(Path(sys.argv[1]), **json.load(sys.stdin)), sys.stdout)
