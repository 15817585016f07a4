"""One thing after another goes wrong while a client is at work: every fault of the campaign, at a steady pace."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Iterator

from .weather import FAULTS, Weather

__all__ = ["KINDS", "outages"]

_LONGEST = 5.0  # seconds: twice what a call may take, so that no more calls fail in a longer one

KINDS = [
    (state, name)
    for state in ("loaded", "dialling", "handshake", "logging in")  # a working client is in none of the others
    for name in FAULTS[state]
    if name != "a corrupted byte"  # which needs TLS
]
"""What can go wrong, by name and by the state of the session in which it begins."""


async def outages(weather: Weather, pauses: Iterable[float], happened: Counter[str]) -> None:
    """Let one happen after each of the pauses, each kind once before any happens twice.

    Args:
        weather: Where, and the chance that decides which and for how long.
        pauses: Seconds from the beginning of one to that of the next. Two thirds of them it lasts at most.
        happened: Where to count them.
    """
    loop = asyncio.get_running_loop()
    due = loop.time()
    for pause, (state, name) in zip(pauses, _in_rounds(weather.chance), strict=False):
        due += pause
        await asyncio.sleep(due - loop.time())
        happened[f"{state}: {name}"] += 1
        async with FAULTS[state][name](weather):
            if state != "loaded":
                weather.proxy.reset()  # so that it dials
            await asyncio.sleep(weather.chance.uniform(0.1, min(_LONGEST, pause * 2 / 3)))


def _in_rounds(chance: random.Random) -> Iterator[tuple[str, str]]:
    while True:
        yield from chance.sample(KINDS, len(KINDS))
