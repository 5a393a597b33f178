"""One-pass scoring: blocks, anchors, and what the model's context does not hold."""

import random
from collections.abc import Callable, Sequence

import pytest

from rag_server.errors import EngineRequestError, EngineUnavailableError
from rag_server.types import Passage
from rerankers.listwise_scorer import ListwiseScorerReranker

SIZES = [0, 1, 2, 63, 64, 65, 120, 121, 500]


def passages(texts: Sequence[str]) -> list[Passage]:
    return [Passage(i, f"d{i}", "f", "f.md", f"t{i}", text, 0, len(text), 0.5, i + 1) for i, text in enumerate(texts)]


class FakeScorer:
    """Scores a text with `true`, shifted by an offset per call; remembers what it was sent."""

    def __init__(self, true: Callable[[str], float], *, offsets: bool = False, max_characters: int | None = None) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self._true = true
        self._offsets = random.Random(7) if offsets else None
        self._max_characters = max_characters

    async def score(self, query: str, texts: Sequence[str]) -> tuple[list[float], int]:
        if self._max_characters is not None and sum(map(len, texts)) > self._max_characters:
            raise EngineRequestError(400, {"error": {"message": "maximum context length"}})
        self.calls.append((query, list(texts)))
        offset = self._offsets.uniform(-100, 100) if self._offsets else 0.0
        return [self._true(text) + offset for text in texts], 10 * len(texts)


def number_in(text: str) -> float:
    """The last word of a text as its score."""
    return float(text.rsplit(maxsplit=1)[-1])


def shuffled(n: int) -> list[str]:
    return [f"word {number}" for number in random.Random(n).sample(range(n), n)]


@pytest.mark.parametrize("n", SIZES)
async def test_orders_by_score_whatever_the_blocks_offsets(n: int) -> None:
    """Though every call's scores are shifted by another offset, the order is that of the true scores."""
    candidates = passages(shuffled(n))
    scorer = FakeScorer(number_in, offsets=True)

    ranking = await ListwiseScorerReranker(scorer, passage_words=50).rerank("q", candidates)

    assert [p.id for p in ranking.passages] == [p.id for p in sorted(candidates, key=lambda p: -number_in(p.text))]
    assert [p.rank for p in ranking.passages] == list(range(1, n + 1))
    # All scores are those of the first block: the true ones, all shifted alike.
    assert len({round(p.score - number_in(p.text), 6) for p in ranking.passages}) <= 1


@pytest.mark.parametrize(("n", "calls"), [(0, 0), (1, 1), (64, 1), (65, 2), (120, 2), (121, 3), (500, 9)])
async def test_blocks_hold_64_and_begin_with_the_eight_best(n: int, calls: int) -> None:
    """No call reads more than 64 texts; each but the first begins with the best eight of the first; all is counted."""
    candidates = passages(shuffled(n))
    scorer = FakeScorer(number_in)

    report = (await ListwiseScorerReranker(scorer, passage_words=50).rerank("q", candidates)).report

    texts = [f"{p.title} {p.text}" for p in candidates]
    best = sorted(texts[:64], key=number_in, reverse=True)[:8]
    blocks = [block for _, block in scorer.calls]
    assert len(blocks) == report.calls == calls
    assert max(map(len, blocks), default=0) <= 64
    assert all(block[:8] == best for block in blocks[1:])
    assert [text for block in blocks[:1] for text in block] + [text for block in blocks[1:] for text in block[8:]] == texts
    assert report.prompt_tokens == 10 * sum(map(len, blocks))
    # Three words each: title, "word" and the number; anchors are read again.
    assert (report.words, report.words_cut, report.fallback) == (3 * sum(map(len, blocks)), 0, None)


@pytest.mark.parametrize("n", [7, 64, 130])
async def test_ties_and_duplicates_keep_the_first_stages_order(n: int) -> None:
    """Passages that score alike stay as they were, each of them once."""
    candidates = passages(["same"] * n)

    ranking = await ListwiseScorerReranker(FakeScorer(lambda _: 0.25), passage_words=50).rerank("q", candidates)

    assert [p.id for p in ranking.passages] == list(range(n))
    assert {p.score for p in ranking.passages} == {0.25}


async def test_only_the_first_words_are_read() -> None:
    """A passage is read up to the limit, title included, and what is left out is counted."""
    scorer = FakeScorer(lambda _: 0.0)

    report = (await ListwiseScorerReranker(scorer, passage_words=4).rerank("q", passages(["a b c d e", "a"]))).report

    assert scorer.calls == [("q", ["t0 a b c", "t1 a"])]
    assert (report.words, report.words_cut) == (8, 2)


async def test_passages_are_shortened_until_the_context_holds_them() -> None:
    """What the scorer refuses is sent again with the longest passages cut by half, and the loss is counted."""
    candidates = passages(["word " * 400, "short", "x" * 1_000_000, ""])
    scorer = FakeScorer(len, max_characters=3000)

    ranking = await ListwiseScorerReranker(scorer, passage_words=1000).rerank("q", candidates)

    (_, texts), *others = scorer.calls
    # 1,000,003 characters with the title, halved ten times.
    assert (others, list(map(len, texts))) == ([], [976, 8, 976, 2])
    assert sorted(p.id for p in ranking.passages) == [0, 1, 2, 3]
    words = len(candidates[0].text.split()) + 1 + 1 + 4
    assert (ranking.report.words, ranking.report.words_cut) == (words, words - sum(len(text.split()) for text in texts))


@pytest.mark.parametrize("error", [EngineRequestError(404, {}), EngineUnavailableError("down"), EngineRequestError(400, {})])
async def test_what_shortening_cannot_mend_is_raised(error: Exception) -> None:
    """Other refusals, and 400 for texts that cannot be too long, reach the caller after a bounded number of calls."""
    calls = []

    class Refusing:
        async def score(self, query: str, texts: Sequence[str]) -> tuple[list[float], int]:
            calls.append(max(map(len, texts)))
            raise error

    with pytest.raises(type(error)) as caught:
        await ListwiseScorerReranker(Refusing(), passage_words=1000).rerank("q", passages(["word " * 100]))

    assert caught.value is error
    assert len(calls) == (4 if getattr(error, "status", 0) == 400 else 1)


async def test_special_tokens_in_texts_are_defused() -> None:
    """Neither query nor passage can hold a model's special token, not even one that appears when another is removed."""
    scorer = FakeScorer(lambda _: 0.0)

    await ListwiseScorerReranker(scorer, passage_words=50).rerank(
        "<|rerank_token|>", passages(["a <|embed<|embed_token|>_token|> b", "<|im_end|>", "<<||"])
    )

    assert not any("<|" in text for query, texts in scorer.calls for text in [query, *texts])
