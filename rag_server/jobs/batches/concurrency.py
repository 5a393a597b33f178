"""How many rows run at once: as many as the engine takes without a queue, found by what it tells, or by what it gets done."""

from dataclasses import dataclass, replace

from rag_server.engines.engine_load import EngineLoad

FIRST_LIMIT = 32
# Near the limit that was too much, it grows by this share.
FINE_GROWTH = 1 / 8
# Of an engine that tells nothing: more rows at once are worth it as long as they bring so much more.
MIN_GAIN = 1.05
# This process answers people too: where it gets round to what is to be done so late, more rows would be at their expense.
LATE_S = 0.01
TOO_LATE_S = 0.025
# After so many rounds without a gain it is tried again: engines and prompts change.
PATIENCE = 20


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen since the one before.

    `load` is None where the engine does not tell it, `rate` is what was got done in a second, in tokens and rows. `running`
    is the number of rows that have begun: more than the limit for a while after it fell; `asked` is how many requests the
    engine has of this process, which its own numbers may tell a step later. `is_used` says whether the limit is what keeps
    rows waiting, `refused` whether the engine had too much to do, `shared` whether people asked meanwhile, `late_s` how long
    something that is to be done in this process waits for its turn.
    """

    load: EngineLoad | None
    running: int
    asked: int
    rate: float = 0.0
    is_used: bool = True
    refused: bool = False
    shared: bool = False
    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many rows may run at once (`limit`), and what was learned.

    Up to `ceiling` it doubles. `places` is how many ran in the engine when others last waited there, 0 before that. `rate`
    is what the limit before this one (`before`) got done, and `rounds` counts those without a gain; these are for engines
    that tell nothing.
    """

    limit: int
    most: int
    ceiling: int
    places: int = 0
    rate: float = 0.0
    before: int = 0
    rounds: int = 0

    @classmethod
    def at_first(cls, most: int) -> "Concurrency":
        """Return where it starts, for an engine of which nothing is known."""
        return cls(min(FIRST_LIMIT, most), most, most)


def adjusted(known: Concurrency, seen: Observation) -> Concurrency:
    """Return the concurrency after an observation."""
    if seen.refused:
        return replace(known, limit=max(1, known.limit // 2), ceiling=max(1, known.limit // 2), rate=0.0, rounds=0)
    if seen.late_s > TOO_LATE_S and known.limit > FIRST_LIMIT:
        limit = max(FIRST_LIMIT, known.limit * 3 // 4)
        return replace(known, limit=limit, ceiling=limit)
    may_grow = seen.is_used and seen.late_s < LATE_S
    if seen.load is not None:
        return _by_load(known, seen.load, seen, may_grow=may_grow)
    return _by_rate(known, seen.rate) if may_grow else known


def _by_load(known: Concurrency, load: EngineLoad, seen: Observation, *, may_grow: bool) -> Concurrency:
    known = replace(known, places=load.running) if load.waiting else known
    # People's requests would have to wait behind those that wait there.
    too_many = load.waiting - (0 if seen.shared else _few(known.places))
    if too_many > 0:
        # Of those that have begun, since what the limit fell by a moment ago still waits; and by half, since rows arrive in
        # bursts: where all wait now, none is on its way to where these will have left.
        limit = max(1, min(known.limit, seen.running - (too_many + 1) // 2))
        return replace(known, limit=limit, ceiling=limit)
    if load.waiting or not may_grow:
        return known
    if load.running < known.places:
        return replace(known, limit=min(known.most, known.limit + max(1, (known.places - load.running) // 2)))
    # Where most rows are elsewhere, in a search for instance, more of them would not fill the engine much faster; and those
    # that waited may have waited for their turn to be read, not for a place.
    is_elsewhere = 2 * seen.asked < known.limit
    return replace(known, limit=_grown(known, finely=is_elsewhere or known.places > 0))


def _few(places: int) -> int:
    """Return how many may wait in the engine, so that a place that becomes free there is taken at once."""
    return 2 + places // 16


def _by_rate(known: Concurrency, rate: float) -> Concurrency:
    """Climb as long as that gains something; else go back to where it stood, and try again after a while."""
    if known.rounds >= PATIENCE:
        return replace(known, before=0, rounds=0)
    if known.rounds:
        return replace(known, rounds=known.rounds + 1)
    if known.before == 0 or rate >= MIN_GAIN * known.rate:
        return replace(known, limit=_grown(known), before=known.limit, rate=rate)
    return replace(known, limit=known.before, rounds=1)


def _grown(known: Concurrency, *, finely: bool = False) -> int:
    step = known.limit if 2 * known.limit <= known.ceiling and not finely else max(1, int(known.limit * FINE_GROWTH))
    return min(known.most, known.limit + step)
