"""Which replica gets a request: beside a choice by brute force, and in a simulation of conversations on several replicas."""

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from rag_server.engines.replica_choice import SLACK, SLACK_SHARE, Standing, chosen, prompt_prefix

ADDRESSES = [f"http://engine-{number}:8000/v1" for number in range(4)]
standings = st.dictionaries(st.sampled_from(ADDRESSES), st.integers(0, 60), min_size=1).map(
    lambda queues: [Standing(address, queue) for address, queue in queues.items()]
)


def in_order(addresses: list[str], prefix: bytes) -> list[str]:
    """The addresses in the order in which a prefix prefers them."""
    return sorted(addresses, key=lambda address: hashlib.sha256(address.encode() + b"\n" + prefix).hexdigest(), reverse=True)


@given(standings, st.binary(max_size=8))
def test_the_first_of_its_order_that_is_not_much_busier(there: list[Standing], prefix: bytes) -> None:
    """By brute force: down the prefix's own order, past those whose queue is too long."""
    queues = {standing.address: standing.queue for standing in there}
    shortest = min(queues.values())
    expected = next(
        address for address in in_order(list(queues), prefix) if queues[address] <= shortest * (1 + SLACK_SHARE) + SLACK
    )

    assert chosen(there, prefix) == expected


@given(standings)
def test_without_a_prefix_the_shortest_queue(there: list[Standing]) -> None:
    """As where a request has no prompt."""
    address = chosen(there, None)

    assert {standing.address: standing.queue for standing in there}[address] == min(standing.queue for standing in there)


def test_only_the_prefixes_of_a_replica_that_goes_move() -> None:
    """And they spread over all that stay."""
    prefixes = [str(number).encode() for number in range(1000)]
    idle = [Standing(address, 0) for address in ADDRESSES]
    before = {prefix: chosen(idle, prefix) for prefix in prefixes}
    after = {prefix: chosen(idle[1:], prefix) for prefix in prefixes}
    moved = [prefix for prefix in prefixes if before[prefix] != after[prefix]]

    assert {before[prefix] for prefix in moved} == {ADDRESSES[0]}
    assert min(Counter(after[prefix] for prefix in moved).values()) > len(moved) / 6
    assert min(Counter(before.values()).values()) > len(prefixes) / 6


def body(*messages: tuple[str, str], model: str = "m") -> dict:
    return {"model": model, "messages": [{"role": role, "content": content} for role, content in messages]}


def test_turns_of_a_conversation_share_a_prefix() -> None:
    """Whatever is said later; another first question, other instructions or another model make another prefix."""
    told, asked = ("system", "Be kind."), ("user", "What is a cat?")
    first = prompt_prefix(body(told, asked))

    assert first is not None
    assert prompt_prefix(body(told, asked, ("assistant", "An animal."), ("user", "Why?"))) == first
    others = [body(told, ("user", "What is a dog?")), body(("system", "Be rude."), asked), body(told, asked, model="n")]
    assert len({first, *map(prompt_prefix, others)}) == 4


def test_a_long_beginning_in_common_is_the_prefix() -> None:
    """Questions behind the same long passages; images count as their data."""
    passages = "passage " * 200
    image = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * 4000}"}}]

    assert prompt_prefix(body(("user", f"{passages} one?"))) == prompt_prefix(body(("user", f"{passages} two?")))
    assert prompt_prefix({"prompt": f"{passages} one?"}) == prompt_prefix({"prompt": f"{passages} two?"})
    assert prompt_prefix({"messages": [{"role": "user", "content": image}]}) is not None


def test_hostile_bodies_have_a_prefix_or_none() -> None:
    """Nothing of a client's body raises here; the engine refuses it."""
    for messages in ([], None, 1, "x", {}):
        assert prompt_prefix({"messages": messages}) is None
    for hostile in ([None], [1, 2], [{}], [{"role": ["system"]}], [{"role": "system", "content": {"a": None}}]):
        assert prompt_prefix({"messages": hostile}) is not None
    assert prompt_prefix({"prompt": ["a", "b"]}) is None
    assert prompt_prefix(None) is None


@dataclass
class Simulated:
    """Replicas that answer some requests at once, each in the time that it takes; a prefix that a replica knows takes less."""

    choose: Callable[[list[Standing], bytes], str]
    running: Counter[str] = field(default_factory=Counter)
    known: set[tuple[str, bytes]] = field(default_factory=set)
    hits: int = 0
    asked: int = 0
    widest: int = 0

    def run(self, arrivals: list[tuple[float, bytes]]) -> "Simulated":
        ends: list[tuple[float, str]] = []
        for now, prefix in arrivals:
            while ends and ends[0][0] <= now:
                self.running[heapq.heappop(ends)[1]] -= 1
            address = self.choose([Standing(address, self.running[address]) for address in ADDRESSES], prefix)
            hit = (address, prefix) in self.known
            self.known.add((address, prefix))
            self.hits, self.asked = self.hits + hit, self.asked + 1
            self.running[address] += 1
            heapq.heappush(ends, (now + (1.0 if hit else 2.0), address))
            queues = [self.running[one] for one in ADDRESSES]
            self.widest = max(self.widest, max(queues) - min(queues))
        return self


def conversations(chooser: random.Random, *, hot_share: float) -> list[tuple[float, bytes]]:
    """Turns of 300 conversations, about 40 running at a time; a share of all requests has one and the same prefix."""
    prefixes = [b"hot" if chooser.random() < hot_share else str(chooser.randrange(300)).encode() for _ in range(3000)]
    return [(number / 30, prefix) for number, prefix in enumerate(prefixes)]


def test_conversations_stay_where_their_cache_is() -> None:
    """Nearly as often as if only the prefix counted, with under half of the misses by the queue alone; none is much busier."""
    arrivals = conversations(random.Random(1), hot_share=0.0)
    ours = Simulated(chosen).run(arrivals)
    by_prefix = Simulated(lambda there, prefix: in_order([one.address for one in there], prefix)[0]).run(arrivals)
    by_queue = Simulated(lambda there, _: chosen(there, None)).run(arrivals)

    assert by_prefix.hits == 2700
    assert ours.hits > 0.94 * by_prefix.hits
    assert by_queue.asked - by_queue.hits > 2 * (ours.asked - ours.hits)
    assert ours.widest <= 12 < by_prefix.widest


def test_one_prefix_that_all_ask_for_is_spread() -> None:
    """By the prefix alone one replica would have nearly all; here none has more than the slack above the idlest."""
    arrivals = conversations(random.Random(2), hot_share=0.9)
    ours = Simulated(chosen).run(arrivals)
    by_prefix = Simulated(lambda there, prefix: in_order([one.address for one in there], prefix)[0]).run(arrivals)

    assert by_prefix.widest > 20
    assert ours.widest <= 12
    assert ours.hits > 0.9 * by_prefix.hits
