"""Limits on a real Valkey, beside a plain model of a bucket that fills evenly."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from rag_server.cache import rate_limiter
from rag_server.cache.rate_limiter import DAY_S, MINUTE_S, Limit, RateLimiter, Verdict
from rag_server.cache.valkey_process import ValkeyProcess
from tests.rag_server.cache.conftest import HangingServer

REQUESTS = Limit("requests_per_minute", "rate", 3, MINUTE_S)
TOKENS = Limit("tokens_per_minute", "rate", 600, MINUTE_S)
QUOTA = Limit("tokens_per_day", "quota", 100, DAY_S)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no failing server."""
    monkeypatch.setattr(rate_limiter, "TIMEOUT_S", 10.0)


@pytest.fixture
async def limiter(valkey: ValkeyProcess) -> AsyncIterator[RateLimiter]:
    limiter = RateLimiter(lambda: valkey.url)
    yield limiter
    await limiter.aclose()


async def charged(limiter: RateLimiter, caller: str, limit: Limit, cost: int) -> None:
    limiter.charge(caller, [(limit, cost)])
    await asyncio.gather(*limiter._charges)


async def test_rate_lets_so_many_through_and_says_when_the_next_one_is(limiter: RateLimiter) -> None:
    """Three per minute: the fourth is refused for the 20 seconds in which one more flows in; other callers are not."""
    verdicts = [await limiter.take("a", [(REQUESTS, 1)]) for _ in range(4)]
    other = await limiter.take("b", [(REQUESTS, 1)])

    assert [verdict.refused is None for verdict in verdicts] == [True, True, True, False]
    assert [verdict.standings[0].remaining for verdict in verdicts] == [2, 1, 0, 0]
    assert verdicts[0].standings[0].reset_s == pytest.approx(20, abs=1)
    assert verdicts[3].refused.enough_in_s == pytest.approx(20, abs=5)
    assert verdicts[3].refused.reset_s == pytest.approx(60, abs=5)
    assert other.refused is None


async def test_rate_flows_back_evenly(valkey: ValkeyProcess, limiter: RateLimiter) -> None:
    """After a part of the minute that part of the limit is there again, as a bucket computed by hand says."""
    costs = (100, 250, 50, 199)
    for cost in costs:
        await limiter.take("a", [(TOKENS, cost)])
    redis = Redis.from_url(valkey.url)
    (key,) = await redis.keys()
    before = (await limiter.take("a", [(TOKENS, 0)])).standings[0].remaining
    # As if half a minute had gone by: the moment of the full bucket is so much nearer.
    await redis.set(key, float(await redis.get(key)) - 30)
    after = (await limiter.take("a", [(TOKENS, 0)])).standings[0].remaining
    await redis.aclose()

    # The test itself takes a moment, in which ten tokens a second flow in.
    assert before == pytest.approx(600 - sum(costs), abs=20)
    assert after == pytest.approx(600 - sum(costs) + 300, abs=20)


async def test_all_limits_are_taken_or_none(limiter: RateLimiter) -> None:
    """A request that one limit refuses costs nothing of the others."""
    await charged(limiter, "a", QUOTA, 100)
    refused = await limiter.take("a", [(REQUESTS, 1), (QUOTA, 0)])
    alone = await limiter.take("a", [(REQUESTS, 1)])

    assert refused.refused.limit is QUOTA
    assert refused.standings[0].remaining == 3
    assert alone.standings[0].remaining == 2


async def test_quota_is_a_sum_that_ends_with_the_day(valkey: ValkeyProcess, limiter: RateLimiter) -> None:
    """What is charged may go beyond the quota; then nothing is let through until the day ends, when the sum counts no more."""
    await limiter.take("a", [(QUOTA, 60)])
    before = await limiter.take("a", [(QUOTA, 0)])
    await charged(limiter, "a", QUOTA, 60)
    after = await limiter.take("a", [(QUOTA, 0)])
    redis = Redis.from_url(valkey.url)
    (key,) = await redis.keys()
    number, _, stored = (await redis.get(key)).partition(b":")
    # As if it had been used up the day before.
    await redis.set(key, b"%d:%s" % (int(number) - 1, stored))
    next_day = await limiter.take("a", [(QUOTA, 10)])
    left_s = DAY_S - (await redis.time())[0] % DAY_S
    await redis.aclose()

    assert (before.refused, before.standings[0].remaining) == (None, 40)
    assert (after.refused.limit, after.refused.remaining) == (QUOTA, 0)
    assert stored == b"120"
    assert after.refused.enough_in_s == pytest.approx(left_s, abs=3)
    assert (next_day.refused, next_day.standings[0].remaining) == (None, 90)


async def test_what_came_to_nothing_is_given_back(limiter: RateLimiter) -> None:
    """Never more than was taken: not what belongs to a day that is over, and nothing beyond the limit."""
    await limiter.take("a", [(QUOTA, 70)])

    async def left_after(cost: int, taken_s: float) -> int:
        limiter.give_back("a", [(QUOTA, cost)], taken_s=taken_s)
        await asyncio.gather(*limiter._charges)
        return (await limiter.take("a", [(QUOTA, 0)])).standings[0].remaining

    assert await left_after(30, time.time() - DAY_S) == 30
    assert await left_after(30, time.time()) == 60
    assert await left_after(1000, time.time()) == 100


@pytest.mark.parametrize("limit", [QUOTA, TOKENS], ids=["quota", "rate"])
async def test_answers_do_not_push_out_what_was_used(valkey: ValkeyProcess, limiter: RateLimiter, limit: Limit) -> None:
    """More answers than there is memory for leave the counts of keys that were idle meanwhile as they were."""
    for number in range(20):
        await limiter.take(f"idle {number}", [(limit, limit.limit)])
    redis = Redis.from_url(valkey.url)
    # Of answers, the one that was not read for the longest time is the first to go.
    for number in range(120):
        await redis.set(f"rag:answer:{number}", b"x" * 1024**2, ex=3600)
    num_answers = len(await redis.keys("rag:answer:*"))
    await redis.aclose()
    verdicts = [await limiter.take(f"idle {number}", [(limit, limit.limit // 2)]) for number in range(20)]

    assert 0 < num_answers < 120
    assert all(verdict.refused is not None for verdict in verdicts)


async def test_server_that_hangs_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch, hanging: HangingServer) -> None:
    """One request waits for it; those that follow are let through, and counted, without asking it again."""
    # Long enough for a busy machine to connect in.
    monkeypatch.setattr(rate_limiter, "TIMEOUT_S", 0.5)
    limiter = RateLimiter(lambda: hanging.url)
    before = rate_limiter.CHECKS.labels("unavailable")._value.get()
    await limiter.take("a", [(REQUESTS, 1)])
    asked_once = hanging.num_connections
    for _ in range(5):
        await limiter.take("a", [(REQUESTS, 1)])
    await limiter.aclose()

    assert hanging.num_connections == asked_once > 0
    assert rate_limiter.CHECKS.labels("unavailable")._value.get() == before + 6


async def test_many_at_once_get_exactly_the_limit(valkey: ValkeyProcess) -> None:
    """Of 200 requests over four clients at the same time exactly 40 pass: a look and its taking are one step."""
    limit = Limit("requests_per_minute", "quota", 40, DAY_S)
    limiters = [RateLimiter(lambda: valkey.url) for _ in range(4)]
    verdicts = await asyncio.gather(*(limiters[number % 4].take("a", [(limit, 1)]) for number in range(200)))
    for limiter in limiters:
        await limiter.aclose()

    assert sum(verdict.refused is None for verdict in verdicts) == 40


async def test_debt_is_paid_back_at_the_rate(limiter: RateLimiter) -> None:
    """An answer larger than the limit is paid back at the limit's rate: two minutes for three times as much."""
    await limiter.take("a", [(TOKENS, 0)])
    await charged(limiter, "a", TOKENS, 1800)
    verdict = await limiter.take("a", [(TOKENS, 0)])

    assert verdict.refused.limit is TOKENS
    assert verdict.refused.enough_in_s == pytest.approx(120, abs=2)


async def test_without_its_server_nobody_is_limited(valkey: ValkeyProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """When the server goes away requests pass, each is counted, and the log has one line."""
    address = valkey.url
    limiter = RateLimiter(lambda: address)
    for _ in range(3):
        await limiter.take("a", [(REQUESTS, 1)])
    valkey.stop()
    before = rate_limiter.CHECKS.labels("unavailable")._value.get()
    verdicts = [await limiter.take("a", [(REQUESTS, 1)]) for _ in range(3)]
    await charged(limiter, "a", TOKENS, 5)
    await limiter.aclose()

    assert verdicts == [Verdict()] * 3
    assert rate_limiter.CHECKS.labels("unavailable")._value.get() == before + 4
    assert capsys.readouterr().out.count("cannot be counted") == 1
