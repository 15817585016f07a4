"""What callers were told, held against what the exchange has executed."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aioalphapoint import AuthenticationFailed, CallNotSent, CallRejected, CallTimeout, OutcomeUnknown
from aioalphapoint.testing.journal import Arrival

from .calls import Kind
from .witness import number_in

__all__ = ["Told", "Verdict", "judge"]

# Seconds that the loop's clock may be ahead of a timer.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Told:
    """What the caller of one call was told.

    Attributes:
        kind: Which call it was.
        number: Its ticket.
        outcome: What it returned or raised.
        after: How many seconds after its deadline it ended; negative where before.
        was_cancelled: Whether its caller was cancelled on purpose.
    """

    kind: Kind
    number: int
    outcome: object
    after: float = 0.0
    was_cancelled: bool = False


@dataclass
class Verdict:
    """What is wrong, counted; and how the calls ended.

    Attributes:
        wrong_caller: Answers that reached another call's caller.
        twice: Calls that arrived at the exchange more than once.
        misreported: Calls of which the caller was told what is not so.
        arrived: Calls that arrived at the exchange; most of the others ended before anybody was logged in.
        ends: How many calls ended in which way: "answered", "cancelled", or the name of the error's class.
        problems: One sentence for each thing that is wrong.
    """

    wrong_caller: int = 0
    twice: int = 0
    misreported: int = 0
    arrived: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def judge(told: Iterable[Told], journal: Iterable[Arrival]) -> Verdict:
    """Hold each call's outcome against the exchange's journal."""
    arrived: Mapping[int, list[Arrival]] = defaultdict(list)
    for arrival in journal:
        number = number_in(arrival.payload)
        if number is not None:
            arrived[number].append(arrival)
    verdict = Verdict()
    for call in told:
        _judge(call, arrived[call.number], verdict)
    return verdict


def _judge(call: Told, arrivals: list[Arrival], verdict: Verdict) -> None:
    outcome, executed = call.outcome, sum(arrival.executed for arrival in arrivals)
    verdict.arrived += bool(arrivals)
    if len(arrivals) > 1:
        verdict.twice += 1
        verdict.problems.append(f"ticket {call.number} ({call.kind.name}) arrived {len(arrivals)} times")
    match outcome:
        case asyncio.CancelledError():  # and not because somebody else's connection ended
            end, is_true = "cancelled", call.was_cancelled
        case CallNotSent() | AuthenticationFailed():
            end, is_true = type(outcome).__name__, not arrivals
        case OutcomeUnknown():
            end, is_true = type(outcome).__name__, call.after >= -_ROUNDING or not isinstance(outcome, CallTimeout)
        case CallRejected():
            end, is_true = type(outcome).__name__, (len(arrivals), executed) == (1, 0)
        case BaseException():
            end, is_true = type(outcome).__name__, False
        case _:
            end, is_true = "answered", (len(arrivals), executed) == (1, 1)
    verdict.ends[end] += 1
    if not is_true:
        verdict.misreported += 1
        verdict.problems.append(
            f"ticket {call.number} ({call.kind.name}): told {outcome!r}, arrived {len(arrivals)}, executed {executed}"
        )
    if isinstance(outcome, CallRejected) or end == "answered":
        proof = call.kind.proof(outcome)
        if proof != call.number:
            verdict.wrong_caller += 1
            verdict.problems.append(f"ticket {call.number} ({call.kind.name}): answered about {proof}: {outcome!r}")
