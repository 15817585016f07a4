"""What a journal says of a ticket. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Claim", "Entry", "Key", "Step"]


class Step(enum.StrEnum):
    """How far a ticket has come."""

    SENT = "sent"
    """It is about to be sent, or was; nobody has written down what came of it."""
    NOT_SENT = "not sent"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Key(NamedTuple):
    """What is done: the function called, and what it names the ticket by."""

    function: str
    ticket: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal says of a ticket.

    Attributes:
        key: The function called for it, and what the call names it by: `system/ticket number`, or
            `system/account/request code`.
        step: How far it has come.
        status: The ticket's status as it was last seen; None where it was not read.
        error: The name of the error's class, where there was one.
        code: The exchange's code, where it refused.
        changed: When this was written: ISO text, UTC.
    """

    key: Key
    step: Step
    status: str | None = None
    error: str | None = None
    code: int | None = None
    changed: str = ""

    @property
    def is_finished(self) -> bool:
        """Nothing is to be sent any more.

        A refusal ends nothing, whatever its code: a withdrawal that is refused while it is looked into (101) can be
        cancelled a minute later, when it is pending.
        """
        return self.step in (Step.ACCEPTED, Step.CONFIRMED)


class Claim(enum.Enum):
    """What a run may do with a ticket."""

    SEND = enum.auto()
    """It is marked as sent, in this run's name: send it."""
    READ = enum.auto()
    """A run that has ended sent it, and that did not end it, or was refused before this one began: read it first."""
    DONE = enum.auto()
    """Nothing is to be sent any more, or not by this run: one beside it was refused."""
    BUSY = enum.auto()
    """A run beside this one has it in hand."""
