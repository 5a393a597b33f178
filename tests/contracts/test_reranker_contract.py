"""Every reranker, as the server builds it: each candidate comes back once, whatever it is given and whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from indexers.sentence_embedder import packaged_folder
from rag_server import factory
from rag_server.config import load_settings
from rag_server.protocols import Reranker
from rag_server.types import Passage

Engines = Callable[..., AbstractContextManager[str]]

VARIANTS: dict[str, dict[str, Any]] = {
    "none": {},
    "cross_encoder": {},
    "full_ranking": {},
    "full_ranking, compact": {"format": "compact"},
    "full_ranking, top 5": {"top_m": 5},
    "full_ranking, first token": {"format": "compact", "first_token": True},
    "sliding_window": {},
    "sliding_window, compact, 2 passes": {"format": "compact", "passes": 2},
}
TEXTS: dict[str, Sequence[str]] = {
    "none": [],
    "one": ["A ketch has two masts."],
    "some": ["Green tea is hot.", "A ketch has two masts.", "Cats sleep.", "Two masts make a ketch or a yawl."],
    "500": [f"Passage number {number} about masts." for number in range(500)],
    "empty": ["", "  \n", "", "masts"],
    "duplicate": ["masts"] * 30,
    "enormous": ["masts " * 50_000, "short", "x" * 300_000],
    "like identifiers": ["[1] > [2] > [3]", "Passage A: Passage B:", "Search Query: what?", "[2]", "Query: A", "A B C"],
}


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny cross-encoder with random weights and the packaged model's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "tiny-cross-encoder"
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder(), local_files_only=True)
    tokenizer.model_max_length = 64
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@asynccontextmanager
async def built(kind: str, engine_url: str, cross_encoder: str, **options: Any) -> AsyncIterator[Reranker]:
    """The reranker of that kind, as the server has it."""
    rerank = {"kind": kind, **options}
    if kind == "cross_encoder":
        rerank["model"] = cross_encoder
    settings = load_settings({}, data_dir=Path("unused"), engine={"base_url": engine_url}, rerank=rerank)
    engine = factory.build_engine(settings, None)
    try:
        yield factory.build_rerankers(settings, engine)[kind]
    finally:
        await engine.aclose()


def kind_of(variant: str) -> str:
    return variant.partition(",")[0]


def passages(texts: Sequence[str]) -> list[Passage]:
    return [
        Passage(index, f"d{index}", "f", "a.md", f"Title {index % 3}", text, 0, len(text), 1 / (index + 1), index + 1)
        for index, text in enumerate(texts)
    ]


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("variant", VARIANTS)
async def test_every_candidate_comes_back_once(variant: str, texts: str, scripted_engine: Engines, cross_encoder: str) -> None:
    """None is lost, none is doubled, each keeps its text, and the ranks are 1 to n; nothing falls back."""
    given = passages(TEXTS[texts])
    with scripted_engine() as url:
        async with built(kind_of(variant), url, cross_encoder, **VARIANTS[variant]) as reranker:
            ranking = await reranker.rerank("how many masts has a ketch", given)

    assert sorted(passage.id for passage in ranking.passages) == [passage.id for passage in given]
    assert all(passage.text == given[passage.id].text for passage in ranking.passages)
    assert [passage.rank for passage in ranking.passages] == list(range(1, len(given) + 1))
    assert ranking.report.fallback is None


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in {"none", "cross_encoder"}])
async def test_listwise_rerankers_put_the_model_s_choice_first(
    variant: str, scripted_engine: Engines, cross_encoder: str
) -> None:
    """The scripted model prefers shared words: of 60 candidates the one that answers is last, and comes first; scores stay."""
    given = passages([*[f"Green tea number {number}." for number in range(59)], "A ketch has two masts, a cutter has one."])
    with scripted_engine() as url:
        async with built(kind_of(variant), url, cross_encoder, **VARIANTS[variant]) as reranker:
            ranking = await reranker.rerank("how many masts has a ketch", given)

    assert ranking.passages[0].id == 59
    assert [passage.score for passage in ranking.passages] == [given[passage.id].score for passage in ranking.passages]
    calls = {"sliding_window": 5, "sliding_window, compact, 2 passes": 10}
    assert ranking.report.calls == calls.get(variant, 1)
    assert ranking.report.well_formed == ranking.report.calls


async def test_cross_encoder_orders_by_its_scores(scripted_engine: Engines, cross_encoder: str) -> None:
    """Scores are those of the library for the same pairs, one by one, and replace the first stage's."""
    given = passages(["Green tea is hot.", "A ketch has two masts.", "Cats sleep for sixteen hours a day, as a rule."])
    async with built("cross_encoder", "http://127.0.0.1:9/v1", cross_encoder) as reranker:
        ranking = await reranker.rerank("how many masts", given)

    library = CrossEncoder(cross_encoder, local_files_only=True)
    expected = {passage.id: float(library.predict(("how many masts", f"{passage.title} {passage.text}"))) for passage in given}
    assert [passage.id for passage in ranking.passages] == sorted(expected, key=lambda id_: -expected[id_])
    for passage in ranking.passages:
        assert passage.score == pytest.approx(expected[passage.id], abs=1e-5)


FAULTS: dict[str, tuple[dict[str, Any], str | None]] = {
    "prose": ({"answer": "All of these passages are interesting."}, None),
    "repetition": ({"answer": "[2] > " * 400}, None),
    "invention": ({"answer": "[700] > [0] > [-3] > [99999999]"}, None),
    "silence": ({"answer": ""}, None),
    "cut off": ({"answer": "[3] > [1] > [2"}, None),
    "overloaded": ({"fail_every": 1}, "overloaded"),
    "slow": ({"time_to_first_token_s": 30}, "did not answer within 1 s"),
    "too small": ({"context_length": 60}, "leaves no room"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["full_ranking", "sliding_window"])
async def test_whatever_the_engine_does_the_ranking_is_complete(
    kind: str, fault: str, scripted_engine: Engines, cross_encoder: str
) -> None:
    """Ill-formed answers are repaired and counted; an engine that fails or dawdles leaves the first stage's order."""
    script, fallback = FAULTS[fault]
    given = passages([f"Text {number}" for number in range(25)])
    with scripted_engine(**script) as url:
        async with built(kind, url, cross_encoder, deadline_s=1) as reranker:
            ranking = await reranker.rerank("masts", given)

    ids = [passage.id for passage in ranking.passages]
    assert sorted(ids) == list(range(25))
    if fallback is None:
        assert ranking.report.fallback is None
        assert ranking.report.repaired == ranking.report.calls > 0
    else:
        assert fallback in (ranking.report.fallback or "")
        assert ids == list(range(25))


async def test_engine_that_dies_in_mid_answer_costs_nothing(cross_encoder: str) -> None:
    """The connection is cut after the headers and half a body: the first stage's order, and the reason.

    Where the engine is and how it failed stays in the log.
    """

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"data": [')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with (
        server,
        built("full_ranking", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", cross_encoder) as ranker,
    ):
        ranking = await ranker.rerank("masts", passages(["a", "b", "c"]))

    assert [passage.id for passage in ranking.passages] == [0, 1, 2]
    assert "the engine broke off" in (ranking.report.fallback or "")
    assert "127.0.0.1" not in (ranking.report.fallback or "")
