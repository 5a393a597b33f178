"""Draws examples so that those of a batch have about one length, which saves what padding costs."""

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

# Batches are formed within so many drawn at random: enough to find neighbours, few enough that each draw stays mixed.
POOL = 16


class LengthGroups(Sampler[int]):
    """The places of all examples, each once; every `batch_size` of them are of about one length, and batches come in any order.

    Sorted samplers end each round with the shortest examples; here no part of a round differs from another.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        """Have the next round drawn as the one of this number: a resumed run draws what the interrupted one did."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        chooser = random.Random(f"{self._seed} {self._epoch}")
        places = chooser.sample(range(len(self)), len(self))
        batches = []
        size = POOL * self._batch_size
        for start in range(0, len(places), size):
            pool = sorted(places[start : start + size], key=lambda place: self._lengths[place])
            batches += [pool[begin : begin + self._batch_size] for begin in range(0, len(pool), self._batch_size)]
        # A batch that is not full must come last: the others are cut off one after another.
        last = [batches.pop()] if len(places) % self._batch_size else []
        chooser.shuffle(batches)
        return (place for batch in batches + last for place in batch)
