"""What the answerer learns: the server's own prompt, the right mark, refusals, and nothing of the prompt itself."""

import random
from pathlib import Path

import pytest

from rag_server.errors import TrainingDataError, UnsupportedModelError
from rag_server.learning.models import load_tokenizer
from rag_server.prompt import INSTRUCTIONS
from rag_server.training.distractors import Distractors
from rag_server.training.examples import REFUSAL, Example, ExampleOptions, make_example, tokenized
from rag_server.training.rows import Row, RowPassage

GOLD = RowPassage(title="Ferry", text="The ferry leaves at seven.", gold=True)
ROW = Row(id="1", question="When does the ferry leave?", answers=("seven",), passages=(GOLD,))
OTHERS = Distractors(
    {
        "bm25": tuple(RowPassage(title=f"B{number}", text=f"The bus of line {number}.") for number in range(4)),
        "random": tuple(RowPassage(title=f"R{number}", text=f"A random fact, number {number}.") for number in range(4)),
    }
)


def made(number: int, options: ExampleOptions, row: Row = ROW) -> list[Example]:
    chooser = random.Random(1)
    return [make_example(row, OTHERS, options, chooser) for _ in range(number)]


def prompt_of(example: Example) -> str:
    return str(example.messages[-1]["content"])


def test_the_prompt_is_the_servers_and_the_mark_is_right() -> None:
    """Instructions, fences and numbers are those of serving; [n] is where the gold passage stands, at every place in turn."""
    marks = set()
    for example in made(60, ExampleOptions(max_passages=3, unanswerable=0.0)):
        text = prompt_of(example)
        assert example.messages[0] == {"role": "system", "content": INSTRUCTIONS}
        assert text.startswith("Passages:\n---\n[1] ")
        assert text.endswith("\n---\n\nQuestion: When does the ferry leave?")
        mark = example.answer.removeprefix("seven ")
        assert f"{mark} Ferry\nThe ferry leaves at seven." in text
        marks.add((mark, text.count("\n---\n")))

    assert {mark for mark, _ in marks} == {"[1]", "[2]", "[3]"}
    assert {fences - 1 for _, fences in marks} == {1, 2, 3}


def test_every_gold_passage_is_marked_in_the_order_of_the_prompt() -> None:
    """An answer that rests on two passages bears both numbers, ascending."""
    second = RowPassage(title="Time", text="Seven is early.", gold=True)
    row = ROW.model_copy(update={"passages": (GOLD, second)})

    for example in made(20, ExampleOptions(max_passages=4, unanswerable=0.0), row):
        numbers = example.answer.removeprefix("seven ").strip("[]").split("][")
        assert len(numbers) == 2
        assert numbers == sorted(numbers)
        for number in numbers:
            assert f"[{number}] Ferry" in prompt_of(example) or f"[{number}] Time" in prompt_of(example)


def test_a_question_whose_passage_is_missing_is_refused() -> None:
    """The share that loses its gold passages is answered with a refusal, and shows none of them."""
    examples = made(200, ExampleOptions(max_passages=3, unanswerable=0.3))
    refused = [example for example in examples if example.answer == REFUSAL]

    assert 40 <= len(refused) <= 80
    assert not any("The ferry leaves" in prompt_of(example) for example in refused)
    assert all("The ferry leaves" in prompt_of(example) for example in examples if example.answer != REFUSAL)


def test_a_row_without_answers_is_refused_with_its_own_passages() -> None:
    """Its passages are near the question, and the answer is the refusal all the same."""
    row = Row(id="2", question="What does the ferry cost?", passages=(GOLD.model_copy(update={"gold": False}),))

    assert {example.answer for example in made(10, ExampleOptions(unanswerable=0.0), row)} == {REFUSAL}
    assert all("[1]" in prompt_of(example) for example in made(10, ExampleOptions(), row))


def test_reasoning_comes_before_the_answer() -> None:
    """The row's own, or else which passages matter; then the answer as ever."""
    options = ExampleOptions(max_passages=1, unanswerable=0.0, reasoned=1.0)
    own = ROW.model_copy(update={"reasoning": "The timetable says it."})

    assert made(1, options)[0].answer == "The passages that matter: 1.\n\nseven [1]"
    assert made(1, options, own)[0].answer == "The timetable says it.\n\nseven [1]"


def test_tokens_are_those_that_the_engine_reads_and_only_the_answer_is_learned(tiny_model: Path) -> None:
    """The prompt is the chat template's, the rest is the answer with the token that ends it."""
    tokenizer = load_tokenizer(tiny_model)
    example = made(1, ExampleOptions())[0]
    tokens = tokenized(example, tokenizer, max_tokens=4096)
    expected = tokenizer.apply_chat_template(list(example.messages), add_generation_prompt=True, tokenize=False)

    assert tokens is not None
    assert tokenizer.decode(list(tokens.token_ids[: tokens.num_prompt])) == expected
    assert tokenizer.decode(list(tokens.token_ids[tokens.num_prompt :])) == f"{example.answer}<|im_end|>"
    assert tokenized(example, tokenizer, max_tokens=len(tokens.token_ids) - 1) is None


def test_a_model_without_a_chat_template_is_refused(tiny_model: Path) -> None:
    """The server could not ask it either."""
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None

    with pytest.raises(UnsupportedModelError, match="conversation"):
        tokenized(made(1, ExampleOptions())[0], tokenizer, max_tokens=4096)


def test_a_row_without_any_passage_is_an_error() -> None:
    """An empty prompt would teach to answer from memory."""
    row = Row(id="lonely", question="Why?")

    with pytest.raises(TrainingDataError, match="'lonely'"):
        make_example(row, Distractors({"random": ()}), ExampleOptions(), random.Random(0))
