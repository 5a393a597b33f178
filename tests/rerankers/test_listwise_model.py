"""One call of a listwise model: what is sent, and what comes of the answer."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from rag_server.errors import EngineRequestError, PromptTooLongError, RerankError
from rag_server.types import Passage
from rerankers.listwise_model import ListwiseModel, ListwiseOptions
from rerankers.permutation_constraint import REQUEST_FIELD, decode
from tests.rerankers.conftest import TokenizerEngine
from tests.rerankers.tokenizer_kinds import byte_level, characters

Make = Callable[..., list[Passage]]
TOKENIZER = byte_level()


def texts(num: int, words: int = 3) -> list[str]:
    return [" ".join([f"w{index}"] * words) for index in range(num)]


def model(engine: TokenizerEngine, **options: Any) -> ListwiseModel:
    return ListwiseModel(engine, ListwiseOptions(**options))


async def test_order_and_counts_come_from_the_answer(passages: Make) -> None:
    """A complete ranking is taken as it is; its usage is counted."""
    engine = TokenizerEngine(TOKENIZER, lambda _: "[3] > [1] > [2]")

    order = await model(engine).rank("q", passages(texts(3)))

    report = order.report
    assert order.positions == (2, 0, 1)
    assert (report.calls, report.prompt_tokens, report.output_tokens, report.cached_tokens) == (1, 7, 3, 2)
    assert (report.well_formed, report.repaired, report.missing, report.unread) == (1, 0, 0, 0)
    assert (report.words, report.words_cut) == (9, 0)


async def test_what_is_not_named_is_counted_and_follows(passages: Make) -> None:
    """Three of five are named, one twice and one that is not there: repaired, two missing."""
    engine = TokenizerEngine(TOKENIZER, lambda _: "[5] > [5] > [9] > [2] > [1]")

    order = await model(engine).rank("q", passages(texts(5)))

    assert order.positions == (4, 1, 0, 2, 3)
    assert (order.report.well_formed, order.report.repaired, order.report.missing) == (1, 1, 2)


@pytest.mark.parametrize("num", [0, 1])
async def test_nothing_to_order_asks_nobody(passages: Make, num: int) -> None:
    """No passage, or one, needs no call."""
    engine = TokenizerEngine(TOKENIZER)

    order = await model(engine).rank("q", passages(texts(num)))

    assert order.positions == tuple(range(num))
    assert (order.report.calls, engine.sent) == (0, [])


async def test_output_is_as_long_as_a_ranking(passages: Make) -> None:
    """max_tokens is the number of tokens of a full ranking in either format; in the compact one that is one per passage."""
    paper, compact = (TokenizerEngine(TOKENIZER), TokenizerEngine(TOKENIZER))

    await model(paper).rank("q", passages(texts(100)))
    await model(compact, format="compact").rank("q", passages(texts(100)))

    written = " > ".join(f"[{number}]" for number in range(1, 101))
    assert paper.sent[0]["max_tokens"] == len(TOKENIZER.encode(written).ids)
    assert compact.sent[0]["max_tokens"] == 100
    assert compact.sent[0]["temperature"] == 0


async def test_permutation_decoding_sends_the_identifiers_tokens(passages: Make) -> None:
    """The constraint names each identifier as the tokenizer writes it, and how many are wanted."""
    engine = TokenizerEngine(TOKENIZER)

    await model(engine, decoding="permutation", top_m=4).rank("q", passages(texts(30)))

    constraint = decode(engine.sent[0]["vllm_xargs"][REQUEST_FIELD])
    assert constraint.num_ranked == 4
    assert [TOKENIZER.decode(list(piece)) for piece in constraint.first] == [f"[{number}]" for number in range(1, 31)]
    assert [TOKENIZER.decode(list(piece)) for piece in constraint.later] == [f" > [{number}]" for number in range(1, 31)]


async def test_structured_decoding_sends_a_pattern(passages: Make) -> None:
    """Without the logits processor a pattern keeps the form; it is vLLM's `structured_outputs`."""
    engine = TokenizerEngine(TOKENIZER)

    await model(engine, decoding="structured").rank("q", passages(texts(3)))

    assert engine.sent[0]["structured_outputs"] == {"regex": r"\[(1|2|3)\]( > \[(1|2|3)\]){2}"}
    assert "vllm_xargs" not in engine.sent[0]


async def test_free_decoding_sends_plain_openai(passages: Make) -> None:
    """An endpoint that knows OpenAI's fields only refuses none of ours."""
    engine = TokenizerEngine(TOKENIZER)

    await model(engine).rank("q", passages(texts(3)))

    assert set(engine.sent[0]) == {"model", "messages", "temperature", "max_tokens", "frequency_penalty"}


async def test_top_m_names_the_first_and_leaves_the_rest(passages: Make) -> None:
    """Of what is named only the first m count; not naming the others is no fault."""
    engine = TokenizerEngine(TOKENIZER, lambda _: "[5] > [3]")

    order = await model(engine, top_m=2).rank("q", passages(texts(6)))

    assert order.positions == (4, 2, 0, 1, 3, 5)
    assert (order.report.repaired, order.report.missing) == (0, 0)


@pytest.mark.parametrize("form", ["paper", "compact"])
@pytest.mark.parametrize("context", [1000, 1500, 5000])
async def test_passages_are_shortened_alike_until_the_prompt_fits(passages: Make, form: str, context: int) -> None:
    """The prompt and the longest answer fit the context, one more word per passage would not, and the cut is reported."""
    engine = TokenizerEngine(TOKENIZER, context=context)
    long = passages([" ".join(["mat"] * (40 + index)) for index in range(20)])

    order = await model(engine, format=form).rank("q", long)

    sent = engine.sent[0]
    used = await engine.count_tokens("test", sent["messages"])
    assert used + sent["max_tokens"] <= context
    kept = [line.split().count("mat") for line in sent["messages"][-1]["content"].splitlines() if "mat" in line.split()]
    assert kept == [min(40 + index, max(kept)) for index in range(20)]
    assert order.report.words_cut == sum(40 + index for index in range(20)) - sum(kept)
    if order.report.words_cut:
        assert used + sent["max_tokens"] + 20 * 2 > context


async def test_passages_that_do_not_fit_at_all_stay_behind(passages: Make) -> None:
    """Where ten words of each are too much, the first that fit are ranked, and the others follow unread."""
    engine = TokenizerEngine(TOKENIZER, lambda _: "[2] > [1]", context=900)

    order = await model(engine).rank("q", passages(texts(500, words=30)))

    assert sorted(order.positions) == list(range(500))
    assert order.positions[:2] == (1, 0)
    num_read = 500 - order.report.unread
    assert 2 < num_read < 100
    assert order.positions[num_read:] == tuple(range(num_read, 500))


async def test_more_candidates_than_identifiers_are_read_up_to_them(passages: Make) -> None:
    """The compact format tells apart as many passages as there are single-token words."""
    engine = TokenizerEngine(TOKENIZER, context=100_000)

    order = await model(engine, format="compact").rank("q", passages(texts(500)))

    labels = [line for line in engine.sent[0]["messages"][0]["content"].splitlines() if line.startswith("Passage ")]
    assert order.report.unread == 500 - len(labels) > 0


async def test_question_without_room_for_passages_is_named(passages: Make) -> None:
    """An enormous question leaves nothing to rank with."""
    engine = TokenizerEngine(TOKENIZER, context=400)

    with pytest.raises(PromptTooLongError, match="400 tokens"):
        await model(engine).rank("why " * 1000, passages(texts(5)))


async def test_first_token_ranks_by_the_identifiers_probabilities(passages: Make) -> None:
    """One token is asked for, with the log-probability of each identifier; what has none follows in its order."""
    engine = TokenizerEngine(TOKENIZER)
    asked: list[int] = []

    async def chat(body: dict[str, Any]) -> dict[str, Any]:
        asked.extend(body["logprob_token_ids"])
        values = {asked[2]: -0.1, asked[0]: -2.0, asked[3]: -1.0, 0: -0.01}
        entries = [{"token": f"token_id:{id_}", "logprob": value} for id_, value in values.items()]
        return {"choices": [{"logprobs": {"content": [{"top_logprobs": entries}]}}], "usage": {"completion_tokens": 1}}

    engine.chat = chat

    order = await model(engine, format="compact", first_token=True).rank("q", passages(texts(5)))

    assert [TOKENIZER.decode([id_]).strip() for id_ in asked] == ["A", "B", "C", "D", "E"]
    assert order.positions == (2, 3, 0, 1, 4)
    assert (order.report.output_tokens, order.report.missing, order.report.repaired) == (1, 2, 1)


@pytest.mark.parametrize(
    "answer",
    [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": None}]}, {"choices": [{"message": {"content": 3}}]}],
)
@pytest.mark.parametrize("first_token", [False, True])
async def test_answer_without_a_text_is_a_ranking_of_nothing(passages: Make, answer: Any, first_token: bool) -> None:
    """Whatever an engine answers in JSON, the first stage's order comes out, counted as repaired."""
    engine = TokenizerEngine(TOKENIZER)

    async def chat(_: dict[str, Any]) -> Any:
        return json.loads(json.dumps(answer))

    engine.chat = chat

    order = await model(engine, format="compact", first_token=first_token).rank("q", passages(texts(3)))

    assert order.positions == (0, 1, 2)
    assert (order.report.repaired, order.report.missing) == (1, 3)


async def test_tokenizer_that_cannot_write_identifiers_is_named(passages: Make) -> None:
    """Where identifiers are no tokens of their own, the compact format and the constraint are refused; free decoding works."""
    engine = TokenizerEngine(characters(), lambda _: "[2] > [1]")

    with pytest.raises(RerankError, match="RAG_RERANK__FORMAT=paper"):
        await model(engine, format="compact").rank("q", passages(texts(2)))
    with pytest.raises(RerankError, match="RAG_RERANK__DECODING=structured or free"):
        await model(engine, decoding="permutation").rank("q", passages(texts(2)))
    assert (await model(engine).rank("q", passages(texts(2)))).positions == (1, 0)


async def test_engine_without_a_tokenizer_ranks_in_the_paper_s_format_only(passages: Make) -> None:
    """Where there is no /tokenize, free decoding works with an assumed length; what needs tokens names the remedy."""
    engine = TokenizerEngine(TOKENIZER, lambda _: "[2] > [1]")

    async def refuse(model: str, text: str) -> list[tuple[int, str]]:
        raise EngineRequestError(404, {"error": {"message": "Not Found"}})

    async def count_tokens(model: str, messages: Any) -> int:
        return len(messages[-1]["content"]) // 2

    engine.tokenize = refuse
    engine.count_tokens = count_tokens

    assert (await model(engine).rank("q", passages(texts(2)))).positions == (1, 0)
    assert engine.sent[0]["max_tokens"] == 12
    for options in ({"format": "compact"}, {"decoding": "permutation"}):
        with pytest.raises(RerankError, match="RAG_RERANK__FORMAT=paper"):
            await model(engine, **options).rank("q", passages(texts(2)))
