"""What reading a list of tickets costs, every digit kept, and how long the event loop is held up by it."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from speed.peers import OURS
from speed.result import Line, Result, spread, spread_of_ratios
from speed.stage import Stage, in_turn

__all__ = ["listing"]

_TICKETS = {10: 200, 1_000: 5, 10_000: 1}  # and how often in a round
_ROUNDS = 9
_ALLOWED = 1.5
_ALLOWED_TURN = 0.05  # seconds


def listing(stage: Stage) -> Result:
    """Read lists of tickets, end to end, and beside it text that is at hand, with floats."""
    result = Result()
    rounds = 2 if stage.is_quick else _ROUNDS
    with ExitStack() as stack:
        ours = stack.enter_context(OURS.start(stage))
        bare = stack.enter_context(stage.program("contestants.bare"))
        for tickets, times in {10: 1}.items() if stage.is_quick else _TICKETS.items():
            ask = {"ours": ours.ask, "bare": bare.ask}
            turns = {name: partial(it, "listing", tickets=tickets, times=times) for name, it in ask.items()}
            answers = in_turn(rounds, turns | {"turn": partial(ours.ask, "held_up", tickets=tickets)})
            cpu = {name: [it["cpu"] / times for it in answers[name]] for name in ask}
            turn = [it["longest"] for it in answers["turn"]]
            result.figures[f"{tickets} tickets"] = cpu | {"turn": turn}
            result.lines += _lines(tickets, cpu["ours"], cpu["bare"], turn)
    return result


def _lines(tickets: int, ours: list[float], bare: list[float], turn: list[float]) -> list[Line]:
    ratio, longest = spread_of_ratios(ours, bare), spread(turn)
    is_promised = tickets == max(_TICKETS)
    return [
        Line(
            f"CPU of a list of {tickets:,} tickets, from the call to exact decimals, against `json.loads` and models "
            "with floats, on text at hand",
            f"{ratio.words('times')}; {spread(ours).words('ms', 1000)} to {spread(bare).words('ms', 1000)}",
            f"≤ {_ALLOWED} times" if is_promised else "",
            ratio.median <= _ALLOWED if is_promised else None,
        ),
        Line(
            f"longest turn of the event loop while {tickets:,} tickets are read",
            longest.words("ms", 1000),
            f"≤ {_ALLOWED_TURN * 1000:g} ms",
            longest.median <= _ALLOWED_TURN,
        ),
    ]
