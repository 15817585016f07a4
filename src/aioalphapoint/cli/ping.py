"""`aioalphapoint ping`: whether the exchange is there, and how far away."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Sequence

from aioalphapoint import AlphaPointError

from .exits import Exit, Misuse, exit_of
from .screen import Screen
from .session import Session

__all__ = ["ping"]

_TAIL = 0.95  # of the round trips are not longer than what is told as p95


async def ping(session: Session, *, count: int, interval: float, logs_in: bool) -> Exit:
    """Send pings one after another, and tell how long their answers took.

    Args:
        session: How to reach the exchange.
        count: How many.
        interval: Seconds from the start of one to the start of the next.
        logs_in: Log in first; a ping alone needs no login.
    """
    screen = session.screen
    if not 0 <= interval < math.inf:
        raise Misuse(f"--interval must be a number of seconds from 0, not {interval!r}")
    async with session.connected(logs_in=logs_in) as client:
        screen.say(f"Connected: {client!r}")
        took: list[float] = []
        status, sent = Exit.DONE, 0
        loop = asyncio.get_running_loop()
        try:
            for number in range(1, count + 1):
                began, sent = loop.time(), number
                try:
                    took.append(await client.ping())
                except AlphaPointError as error:
                    status = max(status, exit_of(error))
                    screen.record({"ping": number, "seconds": None, "error": type(error).__name__})
                    screen.say(f"{number:>4}  {error}")
                else:
                    screen.record({"ping": number, "seconds": took[-1], "error": None})
                    screen.say(f"{number:>4}  {_milliseconds(took[-1])}")
                if number < count:
                    await asyncio.sleep(began + interval - loop.time())
        finally:
            _sum_up(screen, sent, took)
    return status


def _sum_up(screen: Screen, sent: int, took: Sequence[float]) -> None:
    ordered = sorted(took)
    figures: dict[str, float | None] = dict.fromkeys(("min", "median", "p95", "max"))
    if ordered:
        tail = ordered[min(int(_TAIL * len(ordered)), len(ordered) - 1)]
        figures = {"min": ordered[0], "median": statistics.median(ordered), "p95": tail, "max": ordered[-1]}
    screen.record({"sent": sent, "answered": len(took), "seconds": figures})
    told = ", ".join(f"{name} {_milliseconds(value)}" for name, value in figures.items() if value is not None)
    screen.say(f"{sent} sent, {len(took)} answered{f'; round trip {told}' if told else ''}")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
