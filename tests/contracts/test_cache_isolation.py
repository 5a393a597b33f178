"""Caches change how long an answer takes, and nothing else: whoever asks, whatever for, whatever happened to the files."""

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_server.cache import redis_cache
from rag_server.cache.keys import cache_key
from rag_server.cache.redis_cache import RedisCache
from rag_server.cache.valkey_process import ValkeyProcess
from rag_server.config import AnswerCacheKind, Settings
from rag_server.types import Comparison
from tests.contracts.cache_world import VARIANTS, Asked, Asking, Key, World, stores_of

BASE = Asked()
DENSE = Asked(retrieve="dense", filter=None, principals=None)
KINDS: tuple[AnswerCacheKind, ...] = ("off", "exact", "semantic")
# For each part of each kind of key, two requests of which the second gets what the first was told where the part is missing.
REQUESTS = {
    "tenant": (VARIANTS["tenant"], BASE),
    "principals": (BASE, VARIANTS["principals"]),
    # A file is added between them.
    "generations": (BASE, BASE),
    "filter": (VARIANTS["filter"], BASE),
    "options": (VARIANTS["reorder"], BASE),
    "engine": (VARIANTS["model"], BASE),
    "versions": (VARIANTS["instructions"], BASE),
    "settings": (VARIANTS["server"], BASE),
    "sampling": (VARIANTS["sampling"], BASE),
}
PARTS = {
    "hits": {
        **{part: REQUESTS[part] for part in ("tenant", "principals", "generations", "filter")},
        "retriever": (BASE, VARIANTS["retrieve"]),
        "query": (VARIANTS["question"], BASE),
        "k": (VARIANTS["num_candidates"], BASE),
    },
    "vector": {"query": (DENSE, dataclasses.replace(DENSE, question="sail or rope?"))},
    "answer": {**REQUESTS, "messages": (VARIANTS["question"], BASE)},
    "questions": {**REQUESTS, "messages": (VARIANTS["history"], BASE)},
}


@dataclasses.dataclass
class Setting:
    """What all examples share: a loop, a Valkey, a store. Each example has vector stores of its own."""

    runner: asyncio.Runner
    cache: RedisCache
    parts: tuple[list[Settings], Any, Any]

    def world(self, kind: AnswerCacheKind, key: Key = cache_key) -> World:
        of_kind = [
            one.model_copy(update={"cache": one.cache.model_copy(update={"answers": kind, "semantic_threshold": 0.9999})})
            for one in self.parts[0]
        ]
        _, store, indexes = self.parts
        return World(store, indexes, Asking(of_kind, store, indexes, self.cache, key))


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder: Path = tmp_path_factory.mktemp("caches")
    valkey = ValkeyProcess(folder)
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner, stores_of(folder) as parts:
        # A busy machine is no failing server.
        patch.setattr(redis_cache, "TIMEOUT_S", 10.0)
        valkey.start()
        cache = RedisCache(lambda: valkey.url)

        async def up() -> None:
            async with asyncio.timeout(30):
                while not await cache.ping():
                    await asyncio.sleep(0.01)

        runner.run(up())
        yield Setting(runner, cache, parts)
        runner.run(cache.aclose())
        valkey.stop()


async def differences(world: World, asked: list[Asked]) -> list[Asked]:
    """The requests that are told something else with the cache than without it."""
    return [one for one in asked if await world.told(one, cached=True) != await world.told(one, cached=False)]


PRINCIPALS = st.sampled_from([None, ("ann",), ("bob",), ("ann", "bob")])
YEARS = st.sampled_from([1, 2])
PLACES = st.integers(0, 2)
FILTERS = st.sampled_from([None, Comparison("eq", "year", 1), Comparison("eq", "year", 2), Comparison("eq", "year", True)])
ASKED = st.builds(
    Asked,
    server=st.integers(0, 1),
    tenant=st.sampled_from(["a", "a", "b"]),
    principals=PRINCIPALS,
    stores=st.sampled_from([(0,), (1,), (2,), (0, 1), (0, 2)]),
    filter=FILTERS,
    retrieve=st.sampled_from(["lexical", "dense", "hybrid"]),
    num_candidates=st.sampled_from([2, 6]),
    num_passages=st.sampled_from([1, 4]),
    reorder=st.sampled_from(["none", "sides", "reverse"]),
    model=st.sampled_from([None, "other"]),
    question=st.sampled_from(["mast or keel?", "sail or rope?", "Mast or keel?"]),
    history=st.sampled_from([(), ("Ahoy.", "Ahoy!")]),
    sampling=st.sampled_from([{}, {"max_tokens": 7}, {"seed": 1}]),
    instructions=st.sampled_from([None, "Answer like a pirate."]),
    stream=st.booleans(),
)
CHANGES = st.one_of(
    st.tuples(st.just("add"), PLACES, YEARS, PRINCIPALS),
    st.tuples(st.just("delete"), PLACES, st.integers(0, 5)),
    st.tuples(st.just("describe"), PLACES, st.integers(0, 5), YEARS, PRINCIPALS),
)


@given(kind=st.sampled_from(KINDS), asked=st.lists(ASKED, min_size=2, max_size=3), changes=st.lists(CHANGES, max_size=3))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_cached_is_what_an_uncached_server_says(
    setting: Setting, kind: AnswerCacheKind, asked: list[Asked], changes: list[tuple[Any, ...]]
) -> None:
    """Each request is asked anew, twice, after each change of the files; passages, answer and citations are always the same."""
    world = setting.world(kind)

    assert setting.runner.run(differences(world, asked * 2)) == []
    for name, *arguments in changes:
        getattr(world, name)(*arguments)
        assert setting.runner.run(differences(world, asked * 2)) == []


def test_cache_is_used(setting: Setting) -> None:
    """The same request again asks the engine once: with the cache the second time costs nothing."""
    world = setting.world("exact")
    calls = []
    for cached in (True, True, False, False):
        setting.runner.run(world.told(BASE, cached=cached))
        calls.append(world._asking.engine.calls)

    assert calls == [1, 1, 2, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_no_single_difference_is_overlooked(setting: Setting, kind: AnswerCacheKind) -> None:
    """A request and others that differ from it in one thing each are never taken for one another."""
    world = setting.world(kind)
    base = setting.runner.run(world.told(BASE, cached=False))

    assert setting.runner.run(differences(world, [BASE, *VARIANTS.values()] * 2)) == []
    # Nor could they be: each is told something else.
    same = [name for name, asked in VARIANTS.items() if setting.runner.run(world.told(asked, cached=False)) == base]
    assert same == []


@pytest.mark.parametrize(("what", "part"), [(what, part) for what, parts in PARTS.items() for part in parts])
def test_no_part_of_a_key_is_idle(setting: Setting, what: str, part: str) -> None:
    """Without any one part of a key somebody gets what is another's, or was true before: the tests above can fail."""

    def shortened(kind: str, **parts: object) -> str:
        assert part in parts or kind != what
        return cache_key(kind, **{name: value for name, value in parts.items() if (kind, name) != (what, part)})

    kind: AnswerCacheKind = {"answer": "exact", "questions": "semantic"}.get(what, "off")
    first, second = PARTS[what][part]
    wrong = []
    for key in (cache_key, shortened):
        world = setting.world(kind, key)
        setting.runner.run(world.told(first, cached=True))
        if part == "generations":
            world.add(0, 1, None)
        wrong.append(setting.runner.run(differences(world, [second])))

    assert wrong == [[], [second]]


@pytest.mark.parametrize("name", ["tenant", "principals"])
def test_wrong_key_still_shows_nobody_what_the_store_would_not(setting: Setting, name: str) -> None:
    """Should keys ever forget who asks, an answer whose passages are closed to the asker is not given."""

    def careless(kind: str, **parts: object) -> str:
        return cache_key(kind, **{part: value for part, value in parts.items() if part not in ("tenant", "principals")})

    world = setting.world("exact", careless)
    more = dataclasses.replace(BASE, principals=("ann", "bob"))
    less = {"tenant": VARIANTS["tenant"], "principals": dataclasses.replace(BASE, principals=())}[name]
    told = [setting.runner.run(world.told(asked, cached=True)) for asked in (more, less)]
    allowed = setting.runner.run(world.told(less, cached=False))

    assert told[1]["content"] != told[0]["content"]
    ids = [{passage["id"] for passage in one["passages"]} for one in (told[1], allowed)]
    assert ids[0] <= ids[1] < {passage["id"] for passage in told[0]["passages"]}


def test_every_part_of_a_key_is_tried(setting: Setting) -> None:
    """The table of parts is complete: a new part needs a row."""
    seen: dict[str, set[str]] = {}

    def watched(kind: str, **parts: object) -> str:
        seen.setdefault(kind, set()).update(parts)
        return cache_key(kind, **parts)

    world = setting.world("semantic", watched)
    setting.runner.run(world.told(dataclasses.replace(BASE, retrieve="dense"), cached=True))

    # Where all vector stores have one model, the name of the model cannot tell two queries apart.
    assert seen == {
        "hits": set(PARTS["hits"]),
        "vector": {*PARTS["vector"], "model"},
        "answer": set(PARTS["answer"]),
        "questions": set(PARTS["questions"]),
    }
