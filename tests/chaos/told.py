"""What the caller of one call was told, held against what the exchange has in its journal of it."""

from __future__ import annotations

import asyncio
import enum
import json
from dataclasses import dataclass, field

from aioalphapoint import (
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    CallTimeout,
    ConnectionLost,
    StandardResponse,
    UnexpectedReply,
    WithdrawTicket,
)
from aioalphapoint.testing import Arrival

__all__ = ["Call", "Told", "key_of"]

# Seconds that the turns of the loop may take in which a deadline is noticed.
_ROUNDING = 1e-6


class Told(enum.Enum):
    """What a caller knows of its call."""

    ACCEPTED = enum.auto()
    REFUSED = enum.auto()
    UNREADABLE = enum.auto()
    NOT_SENT = enum.auto()
    LATE = enum.auto()
    LOST = enum.auto()
    CANCELLED = enum.auto()


_ERRORS = {
    CallRejected: Told.REFUSED,
    UnexpectedReply: Told.UNREADABLE,
    CallNotSent: Told.NOT_SENT,
    AuthenticationFailed: Told.NOT_SENT,
    CallTimeout: Told.LATE,
    ConnectionLost: Told.LOST,
}


@dataclass(eq=False)
class Call:
    """One call. It has a ticket and an account of its own, so that all that is said of it names it.

    Attributes:
        function: What is called.
        account_id: The number of the account, which no other call has.
        ticket_number: The only ticket of that account.
        timeout: The seconds that it was given.
        task: What its caller waits for.
        arrivals: What the exchange has of it in its journal.
        ended: When its caller was told; None before.
        is_given_up: Whether its caller was cancelled.
        ahead: How many calls were under way when it began.
        is_found_over: Whether there was no session then, or somebody was opening or closing it.
        acts: How often somebody had opened or closed the session.
        ends: How many connections had ended before.
        is_checked: Whether the reason for what its caller was told has been looked at.
    """

    function: str
    account_id: int
    ticket_number: int
    timeout: float
    task: asyncio.Task[object]
    arrivals: list[Arrival] = field(default_factory=list)
    ended: float | None = None
    is_given_up: bool = False
    ahead: int = 0
    is_found_over: bool = False
    acts: int = 0
    ends: int = 0
    is_checked: bool = False

    def __post_init__(self) -> None:
        loop = self.task.get_loop()
        self.deadline = loop.time() + self.timeout
        self.task.add_done_callback(lambda _task: setattr(self, "ended", loop.time()))

    @property
    def is_due(self) -> bool:
        """Whether it was not over before its deadline."""
        return self.ended is None or self.ended >= self.deadline - _ROUNDING

    def give_up(self) -> None:
        """Cancel its caller."""
        self.is_given_up = True
        self.task.cancel()

    @property
    def arrival(self) -> Arrival | None:
        return self.arrivals[0] if self.arrivals else None

    @property
    def told(self) -> Told:
        """What the caller was told. An error that no call may end with is raised."""
        if self.task.cancelled():
            return Told.CANCELLED
        error = self.task.exception()
        if error is None:
            return Told.ACCEPTED
        for kind, told in _ERRORS.items():
            if isinstance(error, kind):
                return told
        raise error

    def check(self, now: float) -> None:
        """Hold what was told, if anything was, against the journal as it stands."""
        assert len(self.arrivals) <= 1, "it was sent twice"
        if self.ended is None:
            assert now <= self.deadline + _ROUNDING, "its caller was told nothing by its deadline"
            return
        assert self.ended <= self.deadline + _ROUNDING, "its caller was told after its deadline"
        match self.told:
            case Told.CANCELLED:
                assert self.is_given_up, "another caller's cancellation reached it"
            case Told.NOT_SENT:
                assert not self.arrivals, "it was sent, and its caller told that it was not"
            case Told.LATE:
                assert self.is_due, "it was told to be late before its deadline"
            case Told.LOST:
                pass  # whether there was a loss is the session's affair
            case told:
                assert told is self._answered(), "what was told is not what the exchange has answered"
                self._check_answer(told)

    def _answered(self) -> Told | None:
        """Read what went back, by the standard library alone."""
        if self.arrival is None or self.arrival.answer is None:
            return None
        frame = json.loads(self.arrival.answer)
        if frame["m"] == 5:
            return Told.REFUSED
        try:
            value = json.loads(frame["o"])
        except ValueError:
            return Told.UNREADABLE
        return Told.REFUSED if isinstance(value, dict) and value.get("result") is False else Told.ACCEPTED

    def _check_answer(self, told: Told) -> None:
        assert self.arrival is not None
        if told is Told.ACCEPTED:
            assert self.arrival.executed, "it was accepted, and not executed"
            self._check_result(self.task.result())
            return
        assert told is Told.UNREADABLE or not self.arrival.executed, "it was executed, and its caller told of a refusal"
        error = self.task.exception()
        assert isinstance(error, CallRejected | UnexpectedReply)
        assert (error.function, error.sequence) == (self.function, self.arrival.sequence), "another call's answer"

    def _check_result(self, result: object) -> None:
        numbers: object = None
        match result:
            case StandardResponse():
                assert result.is_accepted
                return  # which call it accepts stands in the journal alone
            case {"msg": "PONG"}:
                return
            case {"TicketNumber": number}:
                numbers = number
            case WithdrawTicket():
                numbers = result.ticket_number
            case [WithdrawTicket() as ticket]:
                numbers = ticket.ticket_number
        assert numbers == self.ticket_number, "another call's answer"


def key_of(arrival: Arrival) -> tuple[str, int] | None:
    """Say which call arrived: its function, and its account or, where it names none, its ticket.

    None for what the client sends by itself, and for a log-out.
    """
    fields = json.loads(arrival.payload or "{}")
    number = fields.get("AccountId", fields.get("ticketId"))
    return None if number is None else (arrival.function or "", number)
