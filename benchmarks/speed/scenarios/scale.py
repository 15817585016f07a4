"""Whether a call costs more the more of them are under way, and how much memory each takes that waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from speed.peers import OURS, PICOWS, Peer
from speed.program import Answer
from speed.result import Line, Result, Spread, spread, spread_of_ratios
from speed.stage import Stage, in_turn

__all__ = ["pending", "scale"]

_AT_ONCE = (100, 1_000, 10_000, 100_000)
# Calls of each task, so many that to make the tasks is no part of the figure; with 100,000 there is no time for that.
_CALLS = {100: 500, 1_000: 50, 10_000: 20, 100_000: 2}
_ROUNDS = 5
_ALLOWED = 1.2
_PROMISED = 10_000  # calls in flight for which that holds

_WAITING = (10_000, 100_000)
_PROCESSES = 3
_ALLOWED_BYTES = 2048


def scale(stage: Stage) -> Result:
    """Measure the CPU time of a call with more and more in flight, a process each."""
    at_once = (10, 100) if stage.is_quick else _AT_ONCE
    calls = {n: n * (2 if stage.is_quick else _CALLS[n]) for n in at_once}
    few, many = at_once[0], at_once[-1] if stage.is_quick else _PROMISED
    with ExitStack() as stack:

        def orders(peer: Peer, do: str, *numbers: int) -> dict[tuple[str, str, int], Callable[[], Answer]]:
            started = {n: stack.enter_context(peer.start(stage)) for n in numbers}
            return {(peer.name, do, n): partial(it.ask, do, calls=calls[n], at_once=n) for n, it in started.items()}

        turns = orders(OURS, "calls", *at_once) | orders(OURS, "uncollected", few, many)
        if not PICOWS.absence:
            turns |= orders(PICOWS, "calls", few, many)
        answers = in_turn(2 if stage.is_quick else _ROUNDS, turns)
    costs = {turn: [answer["cpu"] / calls[turn[2]] for answer in given] for turn, given in answers.items()}

    def line(what: str, peer: Peer, do: str, n: int, allowed: float | None = None) -> Line:
        ratio = spread_of_ratios(costs[peer.name, do, n], costs[peer.name, do, few])
        seen = f"{ratio.words('times')}; {spread(costs[peer.name, do, n]).words('µs', 1e6)}"
        return Line(what, seen) if allowed is None else Line(what, seen, f"≤ {allowed} times", ratio.median <= allowed)

    result = Result(figures={"seconds": {n: costs[OURS.name, "calls", n] for n in at_once}})
    for n in at_once[1:]:
        what = f"CPU of a call, {n:,} in flight, against {few:,} in flight"
        result.lines.append(line(what, OURS, "calls", n, _ALLOWED if n == _PROMISED else None))
    result.lines.append(
        line(f"the same, {many:,} in flight, while Python looks for no garbage", OURS, "uncollected", many)
    )
    if not PICOWS.absence:
        result.lines.append(line(f"the same, {many:,} in flight, of {PICOWS.name}", PICOWS, "calls", many))
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
