"""What a call costs: one at a time, a hundred in flight, a thousand; aioalphapoint beside all others."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from speed.peers import FLOOR, NOTBANK, OURS, PEERS, PER_CALL, Peer
from speed.result import Line, Result, spread, spread_of_ratios, table
from speed.stage import Program, Stage, in_turn

__all__ = ["in_flight"]

_AT_ONCE = (1, 100, 1000)
# So many that a round takes some tenths of a second, and that each task or thread makes several.
_CALLS = {1: 1_000, 100: 5_000, 1000: 10_000}
_FEWER = {1: 200, 100: 1_000, 1000: 3_000}  # of what is dearer by a power of ten
_ROUNDS = {1: 31, 100: 21, 1000: 11}
_ALLOWED = {1: 1.05, 100: 1.10}  # times the floor
_LEAST = {1: 4, 100: 10}  # times less than notbank

_Costs = dict[int, dict[Peer, list[float]]]


def in_flight(stage: Stage) -> Result:
    """Measure the CPU time of a call, contestant by contestant, round by round."""
    with ExitStack() as stack:
        programs = {peer: stack.enter_context(peer.start(stage)) for peer in PEERS if not peer.absence}
        versions: dict[str, str] = {}
        for program in programs.values():
            versions |= program.ask("about")["versions"]
        costs: _Costs = {at_once: _costs(stage, programs, at_once) for at_once in _AT_ONCE}
        gathered = _gathered(stage, programs[OURS])
    figures = {peer.name: {n: costs[n].get(peer, []) for n in _AT_ONCE} for peer in PEERS}
    result = Result(figures={"seconds": figures}, versions=versions)
    result.lines += [_against_floor(costs, at_once) for at_once in _AT_ONCE]
    result.lines += [_against_notbank(costs, at_once) for at_once in _AT_ONCE]
    result.tables.append(_table(costs, gathered))
    return result


def _costs(stage: Stage, programs: dict[Peer, Program], at_once: int) -> dict[Peer, list[float]]:
    taking_part = {peer: it for peer, it in programs.items() if at_once == 1 or not peer.one_at_a_time}
    calls = {peer: (_FEWER if peer in {NOTBANK, PER_CALL} else _CALLS)[at_once] for peer in taking_part}
    if stage.is_quick:
        calls = dict.fromkeys(taking_part, at_once)
    turns = {
        peer.name: partial(program.ask, "calls", calls=calls[peer], at_once=at_once)
        for peer, program in taking_part.items()
    }
    answers = in_turn(2 if stage.is_quick else _ROUNDS[at_once], turns)
    return {peer: [it["cpu"] / calls[peer] for it in answers[peer.name]] for peer in taking_part}


def _gathered(stage: Stage, ours: Program) -> dict[int, list[float]]:
    calls, rounds = (1000, 2) if stage.is_quick else (_CALLS[1000], _ROUNDS[1000])
    turns = {str(n): partial(ours.ask, "gather", calls=calls, at_once=n) for n in _AT_ONCE[1:]}
    answers = in_turn(rounds, turns)
    return {n: [it["cpu"] / calls for it in answers[str(n)]] for n in _AT_ONCE[1:]}


def _words(at_once: int) -> str:
    return "one at a time" if at_once == 1 else f"{at_once:,} in flight"


def _against_floor(costs: _Costs, at_once: int) -> Line:
    ratio = spread_of_ratios(costs[at_once][OURS], costs[at_once][FLOOR])
    what = f"CPU of a call, {_words(at_once)}, against websockets' bare send and receive"
    allowed = _ALLOWED.get(at_once)
    if allowed is None:
        return Line(what, ratio.words("times"))
    return Line(what, ratio.words("times"), f"≤ {allowed:.2f} times", ratio.median <= allowed)


def _against_notbank(costs: _Costs, at_once: int) -> Line:
    what = f"CPU of a call of notbank's client, {_words(at_once)}, against ours"
    least = _LEAST.get(at_once)
    allowed = "" if least is None else f"≥ {least} times"
    if NOTBANK.absence:
        return Line(what, NOTBANK.absence, allowed)
    ratio = spread_of_ratios(costs[at_once][NOTBANK], costs[at_once][OURS])
    return Line(what, ratio.words("times"), allowed, None if least is None else ratio.median >= least)


def _table(costs: _Costs, gathered: dict[int, list[float]]) -> str:
    rows = []
    for peer in PEERS:
        cells = [spread(costs[n][peer]).words(scale=1e6) if peer in costs[n] else "" for n in _AT_ONCE]
        rows.append([peer.name, *([peer.absence, "", ""] if peer.absence else cells)])
        if peer is OURS:
            cells = ["", *(spread(gathered[n]).words(scale=1e6) for n in _AT_ONCE[1:])]
            rows.append(["aioalphapoint, by `asyncio.gather`: a task a call", *cells])
    return table(["µs of CPU a call", *map(_words, _AT_ONCE)], rows)
