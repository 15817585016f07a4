"""What is known of each ticket of a bulk run. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import NoneType
from typing import Protocol

from ._arguments import shown
from ._steps import Entry, Key, Step
from .errors import AlphaPointError, CallRejected, InvalidArguments, OutcomeUnknown
from .models import WithdrawTicket

__all__ = ["Item", "Outcome", "OutcomeState", "Ticket", "key_of"]


class Ticket(Protocol):
    """What has to be known of a ticket to cancel it: a `WithdrawTicket` or a `Withdraw` will do."""

    @property
    def ticket_number(self) -> int:
        """The exchange's number of it."""

    @property
    def account_id(self) -> int:
        """The account that the money leaves."""

    @property
    def request_code(self) -> str:
        """The GUID of the withdrawal."""

    @property
    def oms_id(self) -> int | None:
        """The order management system; None: the client's."""


class OutcomeState(enum.StrEnum):
    """What is known of one ticket's cancel."""

    ACCEPTED = "accepted"
    """The exchange received it. The ticket was not seen cancelled, or not looked at."""
    CONFIRMED = "confirmed"
    """The ticket was seen cancelled."""
    REFUSED = "refused"
    """The exchange said no."""
    NOT_SENT = "not sent"
    """No byte of it left this machine; by the journal, if there is one, not in an earlier run either."""
    UNKNOWN = "unknown"
    """It was sent, or may have been by another run, and neither an answer nor the ticket told what became of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one ticket.

    Attributes:
        ticket: The ticket as it was given.
        state: What is known of its cancel.
        error: Why it is not confirmed; `NotCancelled` where the ticket was seen to have ended otherwise, whatever the
            state.
        seen: The ticket as it was last read; None where it was not.
    """

    ticket: Ticket
    state: OutcomeState
    error: AlphaPointError | None = None
    seen: WithdrawTicket | None = None


@dataclass(eq=False, slots=True)
class Item:
    """One ticket on its way. What stands here is true at every moment: it is what a cancelled run tells."""

    ticket: Ticket
    key: Key
    state: OutcomeState = OutcomeState.NOT_SENT
    error: AlphaPointError | None = None
    seen: WithdrawTicket | None = None
    was_sent: bool = False  # by an earlier run, which was refused, or does not know what came of that
    is_anothers: bool = False  # a run beside this one has it in hand
    is_told: bool = False

    def outcome(self, ticket: Ticket | None = None) -> Outcome:
        """Give what is known now, for this ticket or another that means the same."""
        return Outcome(ticket or self.ticket, self.state, self.error, self.seen)

    def entry(self) -> Entry:
        """Give what the journal is to say of it."""
        return Entry(
            self.key,
            Step(self.state.value),
            status=None if self.seen is None else str(self.seen.status),
            error=None if self.error is None else type(self.error).__name__,
            code=self.error.code if isinstance(self.error, CallRejected) else None,
        )

    def doubt(self, why: str) -> None:
        """Say that it may have been sent, and that nobody knows what came of it."""
        self.state = OutcomeState.UNKNOWN
        self.error = OutcomeUnknown(f"{self.key.function}: {why}", function=self.key.function)

    def adopt(self, entry: Entry) -> None:
        """Take over what another run has written down."""
        function = self.key.function
        words = f"{function} was {entry.step} in another run, or an earlier one"
        match entry.step:
            case Step.SENT | Step.UNKNOWN:
                self.doubt("another run, or an earlier one, has sent it, and knows of no answer")
            case Step.REFUSED:
                reason = entry.error if entry.code is None else entry.code
                self.state = OutcomeState.REFUSED
                self.error = CallRejected.of_code(f"{words} ({reason})", entry.code, function=function)
            case _:
                self.state, self.error = OutcomeState(entry.step.value), None


def key_of(function: str, ticket: Ticket, default_oms: int) -> Key:
    """Tell which ticket it is, by what the call names it by, and check that it is one.

    Raises:
        InvalidArguments: It is none; the message says what is allowed.
    """
    try:
        oms_id, account_id = ticket.oms_id, ticket.account_id
        number, code = ticket.ticket_number, ticket.request_code
    except AttributeError:
        raise InvalidArguments(f"tickets must be WithdrawTicket values or the like, not {shown(ticket)}") from None
    if [type(account_id), type(number), type(code)] != [int, int, str] or type(oms_id) not in (int, NoneType):
        values = shown((oms_id, account_id, number, code))
        raise InvalidArguments(f"a ticket must have its numbers as int and its request_code as str, not {values}")
    system = default_oms if oms_id is None else oms_id
    name = f"{number}" if function == "CancelFailedWithdrawTicket" else f"{account_id}/{code.lower()}"
    # Whatever the exchange has written there must find its place on disk.
    return Key(function, f"{system}/{name}".encode("ascii", "backslashreplace").decode())
