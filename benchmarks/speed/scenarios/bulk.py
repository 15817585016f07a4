"""Whether a bulk run is as fast as its limiter lets it be."""

from __future__ import annotations

from speed.peers import OURS
from speed.result import Line, Result
from speed.stage import Stage

__all__ = ["bulk"]

_TICKETS = 10_000
_RATE = 1000.0  # calls a second
_BURST = 100  # calls that the limiter lets through at once


def bulk(stage: Stage) -> Result:
    """Cancel many tickets with and without a limiter."""
    tickets = 200 if stage.is_quick else _TICKETS
    result = Result()
    with OURS.start(stage) as ours:
        for confirm in (False, True):
            words = f"{tickets:,} tickets cancelled{' and confirmed' if confirm else ''}"
            limited = ours.ask("bulk", tickets=tickets, rate=_RATE, confirm=confirm)
            free = ours.ask("bulk", tickets=tickets, rate=0, confirm=confirm)
            bound = (limited["calls"] - _BURST) / _RATE
            result.figures[words] = {"limited": limited, "bound": bound, "free": free}
            result.lines += [
                Line(
                    f"{words}, {limited['calls']:,} calls at {_RATE:,g} a second, against the limiter alone",
                    f"{limited['wall'] / bound:.3f} times; {limited['wall']:.2f} s to {bound:.2f} s",
                ),
                Line(f"{words}, without a limiter", f"{free['wall']:.2f} s, {free['cpu']:.2f} s of CPU"),
            ]
    return result
