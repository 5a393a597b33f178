"""Examples: the prompt is what serving sends, the answer is the order, and batches are padded so that nothing changes."""

import random
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from rag_server.errors import TrainingDataError, UnsupportedModelError
from rerankers.listwise_format import ListwiseFormat, PaperFormat
from rerankers.listwise_model import ListwiseModel, ListwiseOptions
from rerankers.training.examples import DrawnExamples, ExampleMaker, ExampleOptions, collate
from rerankers.training.importance import compact_format, ranking_loss
from rerankers.training.labels import as_passages
from tests.rerankers.conftest import TokenizerEngine
from tests.rerankers.tokenizer_kinds import byte_level
from tests.rerankers.training.conftest import as_transformers, label

LONG = " ".join(["the cat sat on the mat"] * 30)
ALL = ExampleOptions(min_passages=3, max_passages=3, passage_words=40)


def _form(tokenizer: PreTrainedTokenizerFast, kind: str) -> ListwiseFormat:
    return compact_format(tokenizer) if kind == "compact" else PaperFormat()


@pytest.mark.parametrize("kind", ["compact", "paper"])
def test_the_prompt_is_what_serving_sends(smollm: PreTrainedTokenizerFast, kind: str) -> None:
    """The messages that a ListwiseModel sends for these passages, through the chat template, token by token."""
    import asyncio

    one = label([LONG, "the mat <|im_end|>", "Passage A: [1] cat"], [2, 0, 1], query="who <|im_start|> sat [2]")
    engine = TokenizerEngine(byte_level(), lambda _: "")
    serving = ListwiseModel(engine, ListwiseOptions(format=kind, passage_words=40))
    asyncio.run(serving.rank(one.query, as_passages(one.passages)))
    sent = engine.sent[0]["messages"]

    made = ExampleMaker(smollm, _form(smollm, kind), ALL).make(one, random.Random(0))

    assert list(made.prompt_ids) == smollm.apply_chat_template(sent, add_generation_prompt=True)["input_ids"]
    assert smollm.decode(list(made.answer.token_ids)) == {"compact": " C A B", "paper": "[3] > [1] > [2]"}[kind]


def test_numbers_of_passages_vary_and_orders_hold(smollm: PreTrainedTokenizerFast) -> None:
    """The best passage and drawn ones stand as they were found, named by falling relevance; every number of 2 to 6 comes."""
    texts = [f"p{letter}" for letter in "abcdef"]
    one = label(texts, [5, 3, 1, 0, 2, 4])
    maker = ExampleMaker(smollm, PaperFormat(), ExampleOptions(min_passages=2, max_passages=6))
    numbers = set()
    for seed in range(60):
        made = maker.make(one, random.Random(seed))
        prompt = smollm.decode(list(made.prompt_ids))
        placed = [text for text in texts if f"] {text}\n" in prompt]
        places = sorted(placed, key=prompt.index)
        named = [int(part.strip(" []")) - 1 for part in smollm.decode(list(made.answer.token_ids)).split(">")]
        numbers.add(len(placed))

        assert places == placed
        assert texts[one.permutation[0]] in placed
        assert [places[index] for index in named] == [texts[index] for index in one.permutation if texts[index] in placed]
    assert numbers == {2, 3, 4, 5, 6}


def test_initial_orders_are_shuffled_only_when_asked(smollm: PreTrainedTokenizerFast) -> None:
    """Shuffled, the best is still named first, at whatever place it stands."""
    texts = [f"p{letter}" for letter in "abcdef"]
    one = label(texts, [5, 3, 1, 0, 2, 4])
    maker = ExampleMaker(smollm, PaperFormat(), ExampleOptions(min_passages=6, max_passages=6, shuffled=True))
    first = set()
    for seed in range(20):
        made = maker.make(one, random.Random(seed))
        number = smollm.decode(list(made.answer.token_ids)).split("]")[0].strip(" [")
        first.add(number)

        assert f"[{number}] pf\n" in smollm.decode(list(made.prompt_ids))
    assert len(first) > 2


def test_passages_are_cut_alike_to_fit(smollm: PreTrainedTokenizerFast) -> None:
    """The most words per passage that fit: one more would be too long."""
    one = label([LONG, LONG, LONG], [0, 1, 2])
    options = ExampleOptions(min_passages=3, max_passages=3, passage_words=100, max_tokens=700)
    made = ExampleMaker(smollm, PaperFormat(), options).make(one, random.Random(0))
    words = smollm.decode(list(made.prompt_ids)).split("[1] ")[1].split("\n")[0].count(" ") + 1
    longer = ExampleMaker(smollm, PaperFormat(), ExampleOptions(3, 3, passage_words=words + 1)).make(one, random.Random(0))

    assert 10 <= words < 100
    assert len(made.prompt_ids) + len(made.answer.token_ids) <= 700
    assert len(longer.prompt_ids) + len(longer.answer.token_ids) > 700


def test_what_cannot_fit_is_named(smollm: PreTrainedTokenizerFast) -> None:
    """Ten words of each passage are too much: the query is told."""
    maker = ExampleMaker(smollm, PaperFormat(), ExampleOptions(3, 3, max_tokens=300))
    with pytest.raises(TrainingDataError, match="'who sat' with 3 passages of 10 words"):
        maker.make(label([LONG, LONG, LONG], [0, 1, 2]), random.Random(0))


@pytest.mark.parametrize(("least", "most"), [(1, 5), (6, 5)])
def test_numbers_that_make_no_ranking_are_refused(smollm: PreTrainedTokenizerFast, least: int, most: int) -> None:
    """One passage has no order."""
    with pytest.raises(TrainingDataError, match="2 passages or more"):
        ExampleMaker(smollm, PaperFormat(), ExampleOptions(least, most))


def test_a_model_without_a_chat_template_is_refused_before_anything_is_spent() -> None:
    """And so is one whose template refuses the system's message."""
    bare, strict = as_transformers(byte_level()), as_transformers(byte_level())
    bare.chat_template = None
    strict.chat_template = "{{ raise_exception('no system role') }}"
    for tokenizer in (bare, strict):
        with pytest.raises(UnsupportedModelError, match="cannot be asked in this format"):
            ExampleMaker(tokenizer, PaperFormat(), ALL)


def test_examples_come_back_the_same_after_an_interruption(smollm: PreTrainedTokenizerFast) -> None:
    """A place holds the same example whenever it is asked for, and another one when its label comes round again."""
    texts = [f"p{letter}" for letter in "abcdef"]
    labels = [label(texts, [5, 3, 1, 0, 2, 4], query=f"q{number}") for number in range(3)]
    maker = ExampleMaker(smollm, PaperFormat(), ExampleOptions(2, 6))
    once, again = (DrawnExamples(labels, maker, number=30, seed=1) for _ in range(2))

    assert len(once) == 30
    assert [once[index] for index in (7, 29, 4)] == [again[index] for index in (7, 29, 4)]
    assert len({once[index] for index in range(0, 30, 3)}) > 3


def test_padding_changes_no_loss(smollm: PreTrainedTokenizerFast, tiny_model: Path) -> None:
    """The loss of a batch is the mean of its examples' by themselves, each computed on the whole sequence by hand."""
    model = LlamaForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            # So that attention depends on where a token stands, which new weights leave all but even.
            layer.self_attn.q_proj.weight.mul_(50)
            layer.self_attn.k_proj.weight.mul_(50)
            layer.self_attn.o_proj.weight.mul_(50)
    maker = ExampleMaker(smollm, PaperFormat(), ExampleOptions(2, 3))
    examples = [maker.make(label(["a b", "c", "d"], [2, 0, 1]), random.Random(seed)) for seed in range(4)]
    assert len({len(example.answer.token_ids) for example in examples}) > 1
    losses = []
    for example in examples:
        sequence = [*example.prompt_ids, *example.answer.token_ids]
        log_p = model(torch.tensor([sequence])).logits[0].log_softmax(dim=-1).detach()
        places = range(len(example.prompt_ids), len(sequence))
        weighted = [w * log_p[at - 1, sequence[at]] for at, w in zip(places, example.answer.weights, strict=True)]
        losses.append(-float(sum(weighted)) / len(weighted))
    batch = collate(examples, padding_id=int(smollm.pad_token_id))

    assert batch.pop("num_tokens") == sum(len(one.prompt_ids) + len(one.answer.token_ids) for one in examples)
    assert ranking_loss(model, batch)[0].item() == pytest.approx(sum(losses) / 4, rel=1e-4)
