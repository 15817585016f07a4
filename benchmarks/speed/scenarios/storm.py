"""What events cost that nobody is interested in, and what they do to calls under way."""

from __future__ import annotations

import statistics
from functools import partial

from speed.peers import OURS
from speed.program import Answer
from speed.result import Line, Result, spread, spread_of_ratios
from speed.stage import Stage, in_turn

__all__ = ["storm"]

_AT_ONCE = 100
_BURST = 100  # events
_EVERY = 0.002  # seconds
_EVENTS = 100_000
_ROUNDS = 9
_ALLOWED_COST = 0.35  # of a call
_ALLOWED_DELAY = 3.0  # times the quiet p99


def storm(stage: Stage) -> Result:
    """Keep calls in flight for some seconds with events and for as long without, in turn."""
    bursts = 10 if stage.is_quick else _EVENTS // _BURST
    with OURS.start(stage) as ours:
        ask = partial(ours.ask, "storm", bursts=bursts, every=_EVERY, at_once=_AT_ONCE)
        turns = {"quiet": partial(ask, size=0), "storm": partial(ask, size=_BURST)}
        answers = in_turn(2 if stage.is_quick else _ROUNDS, turns)
    quiet, stormy = answers["quiet"], answers["storm"]
    calls = [it["cpu"] / len(it["seconds"]) for it in quiet]
    events = [(it["cpu"] - call * len(it["seconds"])) / it["events"] for it, call in zip(stormy, calls, strict=True)]
    cost = spread_of_ratios(events, calls)
    delay = spread_of_ratios([_p99(it) for it in stormy], [_p99(it) for it in quiet])
    words = (
        f"{stormy[0]['events']:,} events in bursts of {_BURST} each {_EVERY * 1000:g} ms, {_AT_ONCE} calls in flight"
    )
    p99s = [spread(map(_p99, its)).words("ms", 1000) for its in (stormy, quiet)]
    return Result(
        lines=[
            Line(
                f"CPU of an event of no interest, against a call: {words}",
                f"{cost.words('times')}; {spread(events).words('µs', 1e6)}",
                f"≤ {_ALLOWED_COST} times",
                cost.median <= _ALLOWED_COST,
            ),
            Line(
                "99th percentile of those calls' time, against that without events",
                f"{delay.words('times')}; {p99s[0]} to {p99s[1]}",
                f"≤ {_ALLOWED_DELAY:g} times",
                delay.median <= _ALLOWED_DELAY,
            ),
        ],
        figures={name: _percentiles(its) for name, its in answers.items()} | {"event": events, "call": calls},
    )


def _p99(answer: Answer) -> float:
    seconds: list[float] = answer["seconds"]
    return statistics.quantiles(seconds, n=100)[98]


def _percentiles(answers: list[Answer]) -> list[float]:
    """Give the times of all rounds' calls at each half of a percent."""
    return statistics.quantiles([second for answer in answers for second in answer["seconds"]], n=200)
