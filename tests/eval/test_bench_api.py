"""The benchmark of the API runs through on a small scale, and its figures say what happened."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from eval.bench.load import Target, closed_loop, open_loop
from eval.bench.overload import CHAT, PATH, RUNNING, WAITING, measure_disconnects, measure_idle_streams, measure_overload
from eval.bench.tools import Figure
from eval.bench_api import Size, fill_store, measure_added, missed, print_table, running
from rag_server.config import LimitsSettings, Settings
from rag_server.protocols import Embedder
from tests.conftest import running_server

StartEngine = Callable[..., AbstractContextManager[str]]


def with_limits(settings: Settings, **limits: int) -> Settings:
    return settings.model_copy(update={"limits": LimitsSettings(**limits)})


def values(figures: list[Figure]) -> dict[str, float]:
    return {figure.name: figure.value for figure in figures}


async def test_what_the_server_adds_is_measured_beside_the_proxy(tmp_path: Path, embedder: Embedder) -> None:
    """Three processes of their own; the answers are the engine's, with and without retrieval."""
    fill_store(tmp_path, embedder, 20)
    with running(tmp_path, engine=["--answer", "Yes."]) as servers:
        figures = values(await measure_added(servers, 5))

    for name in ("answer", "stream of 100 tokens"):
        bare, ours = figures[f"{name}: through the bare proxy, median"], figures[f"{name}: through the server, median"]
        assert bare > 0
        assert figures[f"{name}: server relative to the proxy"] == pytest.approx(ours / bare)
        assert figures[f"{name}: server beyond the proxy, median"] == pytest.approx(ours - bare)
    assert figures["answer with retrieval (cached), median"] > 0


async def test_overload_is_refused_and_counted(settings: Settings, scripted_engine: StartEngine) -> None:
    """Four times the load: some are answered, the others are refused, and nothing else happens."""
    limited = with_limits(settings, generate_running=RUNNING, generate_waiting=WAITING)
    # So long that the engine's time counts, and not how busy the machine is: what is carried would be less than could be.
    answer_s = 0.3
    with scripted_engine(time_to_first_token_s=answer_s) as engine, running_server(limited, engine=engine) as client:
        figures = values(await measure_overload(str(client.base_url), seconds=10 * answer_s))

    assert figures["neither answered nor refused"] == 0
    assert figures["load that can be carried"] <= RUNNING / answer_s * 1.2
    assert 0 < figures["refused, of all"] < 100


async def test_idle_streams_and_gone_clients(settings: Settings, scripted_engine: StartEngine) -> None:
    """All streams are held open, and each engine slot is free again in the end."""
    with scripted_engine(tokens_per_s=0.001) as engine, running_server(settings, engine=engine) as client:
        url = str(client.base_url)
        gone = await measure_disconnects(url, engine.removesuffix("/v1"), tries=2)
        idle = values(await measure_idle_streams(url, os.getpid(), num_streams=20))

    assert [figure.target for figure in gone] == [200, 200]
    assert idle["idle streams that are held open"] == 20


async def test_load_arrives_at_its_rate(scripted_engine: StartEngine) -> None:
    """The open loop sends what it is told to, whatever the answers do; the closed one asks again after each."""
    with scripted_engine(time_to_first_token_s=0.5) as engine:
        target = Target(engine.removesuffix("/v1"))
        answers = await open_loop(target, PATH, CHAT, per_second=100, seconds=1.0)
        asked = await closed_loop(target, PATH, CHAT, clients=3, seconds=0.2)
        target.close()

    # Of a Poisson process with mean 100, five standard deviations.
    assert 50 <= len(answers) <= 150
    assert {answer.status for answer in answers} == {200}
    # Timers fire a little early.
    assert min(answer.total_s for answer in answers) > 0.45
    assert len(asked) == 3


def test_missed_figures_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A value at its bound misses an upper one, and not a lower one."""
    figures = [
        Figure("slow", 10.0, "ms", 10),
        Figure("fast", 9.9, "ms", 10),
        Figure("few", 89.9, "%", 90, True),
        Figure("enough", 90.0, "%", 90, True),
        Figure("for information", 1e9, "ms"),
    ]
    print_table(Size(), figures)

    assert missed(figures) == ["slow", "few"]
    assert "missed: slow\nmissed: few\n" in capsys.readouterr().out
