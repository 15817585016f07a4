"""Whether a call costs more the more of them are under way, and how much memory each takes that waits."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from speed.peers import OURS
from speed.result import Line, Result, Spread, spread, spread_of_ratios
from speed.stage import Stage, in_turn

__all__ = ["pending", "scale"]

_AT_ONCE = (100, 1_000, 10_000, 100_000)
_CALLS = 2  # by each task, and 20,000 at least
_FEWEST = 20_000
_ROUNDS = 5
_ALLOWED = 1.2

# Python's collector looks at what waits, again and again: how much of the ratio that is.
_UNCOLLECTED = (100, 10_000)

_WAITING = (10_000, 100_000)
_PROCESSES = 3
_ALLOWED_BYTES = 2048


def scale(stage: Stage) -> Result:
    """Measure the CPU time of a call with more and more in flight, a process each."""
    at_once = (10, 100) if stage.is_quick else _AT_ONCE
    calls = {n: n * 2 if stage.is_quick else max(_FEWEST, n * _CALLS) for n in at_once}
    with ExitStack() as stack:
        programs = {n: stack.enter_context(OURS.start(stage)) for n in at_once}
        turns = {str(n): partial(it.ask, "calls", calls=calls[n], at_once=n) for n, it in programs.items()}
        turns |= {
            f"{n} uncollected": partial(programs[n].ask, "uncollected", calls=calls[n], at_once=n)
            for n in at_once
            if n in _UNCOLLECTED
        }
        answers = in_turn(2 if stage.is_quick else _ROUNDS, turns)
    costs = {n: [answer["cpu"] / calls[n] for answer in answers[str(n)]] for n in at_once}
    result = Result(figures={"seconds": costs})
    base = at_once[0]
    for n in at_once[1:]:
        ratio = spread_of_ratios(costs[n], costs[base])
        what = f"CPU of a call, {n:,} in flight, against {base:,} in flight"
        seen = f"{ratio.words('times')}; {spread(costs[n]).words('µs', 1e6)}"
        is_promised = n == 10_000  # noqa: PLR2004
        result.lines.append(
            Line(what, seen, f"≤ {_ALLOWED} times", ratio.median <= _ALLOWED) if is_promised else Line(what, seen)
        )
    if not stage.is_quick:
        few, many = ([it["cpu"] / calls[n] for it in answers[f"{n} uncollected"]] for n in _UNCOLLECTED)
        result.figures["seconds uncollected"] = dict(zip(_UNCOLLECTED, (few, many), strict=True))
        what = f"the same with {_UNCOLLECTED[1]:,} in flight while Python looks for no garbage"
        result.lines.append(
            Line(what, f"{spread_of_ratios(many, few).words('times')}; {spread(many).words('µs', 1e6)}")
        )
    return result


def pending(stage: Stage) -> Result:
    """Measure the memory of calls that wait for an answer, beside that of tasks that wait for a bare future."""
    result = Result()
    for calls in (1_000,) if stage.is_quick else _WAITING:
        ours = _held(stage, "ours", calls, traced=False)
        bare = _held(stage, "bare", calls, traced=False)
        traced, traced_bare = (_held(stage, module, calls, traced=True) for module in ("ours", "bare"))
        result.figures[f"bytes of {calls}"] = {"ours": ours.median, "bare": bare.median}
        added = ours.median - bare.median
        seen = (
            f"{added:,.0f} bytes: {ours.words('bytes')} less {bare.median:,.0f}; "
            f"by Python's own count {traced.median - traced_bare.median:,.0f}"
        )
        what = f"memory of a call that waits, {calls:,} of them, beyond that of a task that waits for a bare future"
        result.lines.append(Line(what, seen, f"≤ {_ALLOWED_BYTES:,} bytes", added <= _ALLOWED_BYTES))
    return result


def _held(stage: Stage, module: str, calls: int, *, traced: bool) -> Spread:
    bytes_each = []
    for _ in range(1 if stage.is_quick or traced else _PROCESSES):
        with stage.program(f"contestants.{module}", path="mute") as program:
            bytes_each.append(program.ask("hold", calls=calls, traced=traced)["bytes"] / calls)
    return spread(bytes_each)
