"""How much of something fits where a measurement is the only way to know."""

from collections.abc import Awaitable, Callable


async def largest_that_fits(upper: int, fits: Callable[[int], Awaitable[bool]], *, lower: int = 0) -> int | None:
    """Return the largest n of `lower` to `upper` with fits(n), None if not even `lower` fits.

    `fits` is true up to some n and false above. It is asked about `upper` first, which is mostly the answer.
    """
    if await fits(upper):
        return upper
    if upper <= lower or not await fits(lower):
        return None
    low, high = lower, upper
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if await fits(middle) else (low, middle)
    return low
