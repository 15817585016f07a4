"""What a journal says of a ticket. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["FINISHED", "Claim", "Entry", "Key", "Step"]


class Step(enum.StrEnum):
    """How far a ticket has come."""

    SENT = "sent"
    """It is about to be sent, or was; nobody has written down what came of it."""
    NOT_SENT = "not sent"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


FINISHED = frozenset({Step.ACCEPTED, Step.CONFIRMED, Step.REFUSED})
"""Steps after which nothing is sent any more."""


class Key(NamedTuple):
    """Which ticket, and what is to be done with it."""

    function: str
    account_id: int
    ticket_number: int
    request_code: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal says of a ticket.

    Attributes:
        key: The ticket, and the function called for it.
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


class Claim(enum.Enum):
    """What a run may do with a ticket."""

    SEND = enum.auto()
    """It is marked as sent, in this run's name: send it."""
    READ = enum.auto()
    """A run that has ended left it as sent: read it first."""
    DONE = enum.auto()
    """Nothing is to be sent any more."""
    BUSY = enum.auto()
    """A run beside this one has it in hand."""
