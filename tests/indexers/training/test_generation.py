"""The probability of a passage against the model's own, token by token."""

import torch

from indexers.training.generation import TEMPLATE, padded_pairs, pair_tokens, passage_log_probs
from tests.indexers.tiny_llm import tiny_model, tiny_tokenizer


def test_only_the_passages_tokens_count() -> None:
    """The sum is that of the passage's tokens alone, each after all before it; padding and company change nothing."""
    model, tokenizer = tiny_model(), tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    queries, passages = ["Who?", "Where is she, then?"], ["Ada.", "In a town by the sea."]
    with torch.no_grad():
        pairs = pair_tokens(tokenizer, queries, passages, max_tokens=240)
        sums, lengths = passage_log_probs(model, padded_pairs(tokenizer, pairs))
        for query, passage, found, length in zip(queries, passages, sums, lengths, strict=True):
            asked = tokenizer(TEMPLATE.format(query=query))["input_ids"]
            told = tokenizer(passage)["input_ids"]
            scores = model(torch.tensor([asked + told])).logits[0].log_softmax(dim=-1)
            expected = sum(scores[len(asked) + place - 1, token].item() for place, token in enumerate(told))
            assert length == len(told)
            torch.testing.assert_close(found.item(), expected, rtol=1e-4, atol=1e-3)


def test_long_texts_are_cut() -> None:
    """Neither side takes more than half of the room."""
    pairs = pair_tokens(tiny_tokenizer(), ["q" * 500], ["p" * 500], max_tokens=100)

    assert [(len(asked), len(told)) for asked, told in pairs] == [(50, 50)]
