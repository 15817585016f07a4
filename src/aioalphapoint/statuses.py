"""The statuses of a withdraw ticket, read as the exchange really sends them.

The documents say that a status is an integer; every captured payload shows its name as a string, and two
spellings of "cancelled" are about. All are accepted, and so is a status that nobody knows yet: an exchange
that adds one must not make a list of tickets unreadable.
"""

from __future__ import annotations

import enum
from typing import Self

__all__ = ["WithdrawStatus"]


class WithdrawStatus(enum.StrEnum):
    """Where a withdrawal stands; the value is the exchange's name of it.

    `WithdrawStatus("Pending")`, `WithdrawStatus(7)`, `WithdrawStatus("7")` and `WithdrawStatus("UserCancelled")` all
    find their member.
    A name or number that is not listed becomes a status of its own, equal to itself by its text, of which
    nothing is claimed: it is neither open nor final.
    """

    NEW = "New"
    ADMIN_PROCESSING = "AdminProcessing"
    ACCEPTED = "Accepted"
    REJECTED = "Rejected"
    SYSTEM_PROCESSING = "SystemProcessing"
    FULLY_PROCESSED = "FullyProcessed"
    FAILED = "Failed"
    PENDING = "Pending"
    PENDING_2FA = "Pending2Fa"
    AUTO_ACCEPTED = "AutoAccepted"
    DELAYED = "Delayed"
    USER_CANCELED = "UserCanceled"
    ADMIN_CANCELED = "AdminCanceled"
    AML_PROCESSING = "AmlProcessing"
    AML_ACCEPTED = "AmlAccepted"
    AML_REJECTED = "AmlRejected"
    AML_FAILED = "AmlFailed"
    LIMITS_ACCEPTED = "LimitsAccepted"
    LIMITS_REJECTED = "LimitsRejected"
    SUBMITTED = "Submitted"
    CONFIRMED = "Confirmed"
    MANUALLY_CONFIRMED = "ManuallyConfirmed"
    CONFIRMED_2FA = "Confirmed2Fa"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
            value = int(value)
        if type(value) is int:
            listed = list(cls)  # defined in the exchange's order, so the number is the position
            return listed[value] if 0 <= value < len(listed) else cls._unlisted(str(value))
        if isinstance(value, str):
            known = _by_folded_name.get(value.casefold().replace("cancelled", "canceled"))
            return cls(known) if known is not None else cls._unlisted(value)
        return None

    @classmethod
    def _unlisted(cls, name: str) -> Self:
        # Not entered in the enumeration: statuses from outside must not make it grow.
        status = str.__new__(cls, name)
        status._name_, status._value_ = "UNLISTED", name
        return status

    def __reduce_ex__(self, _protocol: object) -> tuple[type[Self], tuple[str]]:
        # By value: up to Python 3.11.3 an enumeration is copied and pickled by name, and the unlisted share theirs.
        return type(self), (str(self),)

    @property
    def is_open(self) -> bool:
        """The withdrawal is known to be under way still; the exchange decides whether it can be cancelled.

        To miss none that could be, filter by `not is_final`: that lets a status through that nobody knows yet.
        """
        return self in _OPEN

    @property
    def is_cancelled(self) -> bool:
        """A user or an operator cancelled it."""
        return self in _CANCELLED

    @property
    def is_failed(self) -> bool:
        """It ended by a failure; an operator may resubmit it or cancel the failed ticket."""
        return self in _FAILED

    @property
    def is_final(self) -> bool:
        """It has ended, by payment, cancellation, rejection or failure.

        A rejected ticket may be accepted again and a failed one resubmitted, by an operator.
        """
        return self in _FINAL


_DIGITS = 2  # of the highest number; a text that is longer is no number of a status

_by_folded_name = {str(status).casefold(): str(status) for status in WithdrawStatus}

_CANCELLED = frozenset({WithdrawStatus.USER_CANCELED, WithdrawStatus.ADMIN_CANCELED})
_FAILED = frozenset({WithdrawStatus.FAILED, WithdrawStatus.AML_FAILED})
_FINAL = (
    _CANCELLED
    | _FAILED
    | {
        WithdrawStatus.REJECTED,
        WithdrawStatus.FULLY_PROCESSED,
        WithdrawStatus.AML_REJECTED,
        WithdrawStatus.LIMITS_REJECTED,
        WithdrawStatus.MANUALLY_CONFIRMED,
    }
)
_OPEN = frozenset(WithdrawStatus) - _FINAL
