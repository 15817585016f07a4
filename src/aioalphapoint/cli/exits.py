"""How a command ends: an exit status that says what is known. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable

from aioalphapoint import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    InvalidArguments,
    NotCancelled,
)
from aioalphapoint.bulk import Outcome, OutcomeState

__all__ = ["Exit", "Misuse", "check_seconds", "exit_of", "exit_of_all"]


class Exit(enum.IntEnum):
    """Exit statuses. Of several tickets the highest counts: it needs a person most."""

    DONE = 0
    REFUSED = 1
    """The exchange said no, or the ticket ended otherwise: nothing is left to wait for."""
    USAGE = 2
    NOT_SENT = 3
    """Nothing was sent: to type the command again is safe."""
    UNKNOWN = 4
    """It was sent, and what became of it is not known: read the ticket first."""
    HUNG_UP = 129  # 128 + SIGHUP, as shells have it
    INTERRUPTED = 130  # SIGINT
    TERMINATED = 143  # SIGTERM


class Misuse(Exception):
    """The command cannot be meant like this: one sentence for its user. Nothing was sent."""


def exit_of(error: AlphaPointError) -> Exit:
    """Tell how a command ends that met this error."""
    match error:
        case InvalidArguments():
            return Exit.USAGE
        case CallNotSent():
            return Exit.NOT_SENT
        case CallRejected() | AuthenticationFailed() | NotCancelled():
            return Exit.REFUSED
    return Exit.UNKNOWN


def exit_of_all(outcomes: Iterable[Outcome]) -> Exit:
    """Tell how a command ends that met these outcomes."""
    return max((_exit_of_one(outcome) for outcome in outcomes), default=Exit.DONE)


def check_seconds(option: str, value: float) -> None:
    """Check a time span before anything is sent.

    Raises:
        Misuse: It is none.
    """
    if not 0 < value < math.inf:
        raise Misuse(f"{option} must be a positive number of seconds, not {value!r}")


def _exit_of_one(outcome: Outcome) -> Exit:
    match outcome.state, outcome.error:
        case OutcomeState.CONFIRMED, _:
            return Exit.DONE
        case OutcomeState.NOT_SENT, _:
            return Exit.NOT_SENT
        case OutcomeState.REFUSED, _:
            return Exit.REFUSED
        case OutcomeState.ACCEPTED, None:  # nobody asked for its confirmation
            return Exit.DONE
        case _, NotCancelled():
            return Exit.REFUSED
    return Exit.UNKNOWN
