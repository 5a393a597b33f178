"""The benchmark of batches runs through on a small scale, and its figures say what happened."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from eval.bench.batches import ask_live, drive, during_batch, run_batch
from eval.bench_batches import Size, plain_bodies, print_table, rag_bodies, run_bench
from rag_server.config import Settings
from tests.conftest import running_server

SMALL = Size(num_rows=20, num_many=50, num_live=3, live_per_s=5.0, num_chunks=50)

StartEngine = Callable[..., AbstractContextManager[str]]


def test_small_bench_measures_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure is measured against a real server and printed beside its target."""
    figures = run_bench(SMALL)
    print_table(SMALL, figures)

    assert [figure.name for figure in figures if figure.target is not None] == [
        "batch, relative to the engine alone",
        "batch with retrieval, relative to the engine alone",
        "live request during a batch, relative to before",
        "row of a batch beyond the engine",
        "server's growth from 5 rows to 50",
    ]
    assert all(figure.value > 0 for figure in figures if "beyond" not in figure.name and "growth" not in figure.name)
    assert ">= 95 %" in capsys.readouterr().out


async def test_a_batch_is_timed_and_its_server_weighed(settings: Settings, scripted_engine: StartEngine) -> None:
    """The seconds are those of the rows, the tokens those that the engine told, the memory is read at each mark."""
    bodies = plain_bodies(12, seed=1)
    with (
        scripted_engine(answer="one two three", time_to_first_token_s=0.2) as engine,
        running_server(settings, engine=engine) as client,
    ):
        ran = await run_batch(str(client.base_url), bodies, server=os.getpid(), marks=(6, 12))

    words = sum(len(body["messages"][0]["content"].split()) for body in bodies)
    # Two rounds of at most eight rows each.
    assert ran.seconds > 0.2
    assert ran.batch["usage"]["total_tokens"] == words + 3 * 12
    assert ran.tokens_per_s == pytest.approx((words + 36) / ran.seconds)
    assert set(ran.memory_mb) == {6, 12}


async def test_the_engine_is_driven_by_so_many_clients(scripted_engine: StartEngine) -> None:
    """Ten requests of two clients take five rounds, and each is sent once."""
    with scripted_engine(time_to_first_token_s=0.1) as engine:
        seconds = await drive(engine.removesuffix("/v1"), plain_bodies(10, seed=1), clients=2)

    assert seconds >= 0.5


async def test_people_ask_while_a_batch_is_answered(settings: Settings, scripted_engine: StartEngine) -> None:
    """All of them are answered before the batch is, which is cancelled; a batch that is too small for that is an error."""
    live = plain_bodies(3, seed=2)
    with scripted_engine(time_to_first_token_s=0.1, max_running=2) as engine, running_server(settings, engine=engine) as client:
        url = str(client.base_url)
        answers = await during_batch(url, plain_bodies(200, seed=3), live, per_second=20)
        batch = client.get("/v1/batches").json()["data"][0]
        with pytest.raises(RuntimeError, match="over before"):
            await during_batch(url, plain_bodies(2, seed=4), live, per_second=1)

    assert [answer.status for answer in answers] == [200] * 3
    assert batch["status"] == "cancelled"
    assert 0 < batch["request_counts"]["completed"] < 200


async def test_what_fails_is_no_figure(settings: Settings, scripted_engine: StartEngine) -> None:
    """Requests that are refused would be answered fastest of all."""
    with scripted_engine() as engine, running_server(settings, engine=engine) as client:
        url = str(client.base_url)
        with pytest.raises(RuntimeError, match="not every row"):
            await run_batch(url, [*plain_bodies(2, seed=1), {"model": "scripted", "messages": []}])
        with pytest.raises(RuntimeError, match="not answered"):
            await ask_live(url, rag_bodies(2, seed=1), per_second=100)
        with pytest.raises(RuntimeError, match="404"):
            await drive(engine.removesuffix("/v1"), rag_bodies(2, seed=1), clients=1)


def test_no_two_rows_are_alike() -> None:
    """Rows that ask the same would be answered once."""
    bodies = plain_bodies(1000, seed=1)

    assert len({body["messages"][0]["content"] for body in bodies}) == 1000
    assert bodies == plain_bodies(1000, seed=1) != plain_bodies(1000, seed=2)
