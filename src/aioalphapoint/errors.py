"""What can go wrong with a call, sorted by what the caller does next.

* `CallNotSent`: no byte left this machine. Calling again is safe.
* `OutcomeUnknown`: it left, and no usable answer came. Read the ticket before acting again.
* `CallRejected`: the exchange said no.
* `AuthenticationFailed`: the login was refused. Final: repeating it can lock the user.
* `NotCancelled`, `NotConfirmed`: what the ticket tells after a cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .models import StandardResponse, WithdrawTicket

__all__ = [
    "AlphaPointError",
    "AuthenticationFailed",
    "CallNotSent",
    "CallRejected",
    "CallTimeout",
    "ConnectFailed",
    "ConnectionLost",
    "InvalidArguments",
    "InvalidRequest",
    "JournalError",
    "NotAuthorized",
    "NotCancelled",
    "NotConfirmed",
    "NotConnected",
    "OperationFailed",
    "OperationNotSupported",
    "OutcomeUnknown",
    "Overloaded",
    "ResourceNotFound",
    "ServerError",
    "UnexpectedReply",
]

# An exchange's own words are quoted in an error's sentence up to here: a hostile reply must not become a
# megabyte of log.
_LONGEST_QUOTE = 200  # characters


def quote(text: str) -> str:
    """Make text that came from outside fit for a sentence: bounded, and nothing in it that a terminal obeys."""
    if len(text) > _LONGEST_QUOTE:
        text = f"{text[:_LONGEST_QUOTE]}…"
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class AlphaPointError(Exception):
    """The base of every error that this library raises about a call or a session.

    Attributes:
        function: The exchange's name of the function called, such as `CancelWithdraw`; None outside a call.
        sequence: The number of the call's frame on its connection; None where no frame was made.
    """

    def __init__(self, message: str, *, function: str | None = None, sequence: int | None = None) -> None:
        super().__init__(message)
        self.function = function
        self.sequence = sequence


class CallNotSent(AlphaPointError):
    """No byte of the call left this machine: calling again is safe."""


class ConnectFailed(CallNotSent):
    """No session came about: the dial or the handshake failed, or the login was not answered.

    Attributes:
        status: The HTTP status with which the server refused the handshake; None if it never came to that.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        function: str | None = None,
        sequence: int | None = None,
    ) -> None:
        super().__init__(message, function=function, sequence=sequence)
        self.status = status


class NotConnected(CallNotSent):
    """There was no session within the call's timeout, or the client is closed."""


class InvalidArguments(CallNotSent, ValueError):
    """An argument cannot be sent; the message names it and says what is allowed."""


class Overloaded(CallNotSent):
    """The client already has `max_in_flight` calls under way."""


class JournalError(CallNotSent):
    """The journal cannot be read or written, so what would have to stand in it was not done."""


class OutcomeUnknown(AlphaPointError):
    """The call left this machine and no usable answer came: read the ticket before acting again."""


class ConnectionLost(OutcomeUnknown):
    """The connection ended while the call waited for its reply.

    Attributes:
        close_code: The WebSocket close code (RFC 6455, section 7.4); 1006 where no close frame came.
    """

    def __init__(
        self,
        message: str,
        *,
        close_code: int | None = None,
        function: str | None = None,
        sequence: int | None = None,
    ) -> None:
        super().__init__(message, function=function, sequence=sequence)
        self.close_code = close_code


class CallTimeout(OutcomeUnknown, TimeoutError):
    """No reply came in time. A reply that comes later is dropped and counted.

    Attributes:
        timeout: The seconds that the call was given.
    """

    def __init__(
        self,
        message: str,
        *,
        timeout: float | None = None,
        function: str | None = None,
        sequence: int | None = None,
    ) -> None:
        super().__init__(message, function=function, sequence=sequence)
        self.timeout = timeout


class UnexpectedReply(OutcomeUnknown):
    """The exchange answered in a shape that nobody knows.

    Attributes:
        payload: The text of the reply's payload, as it came.
    """

    def __init__(
        self,
        message: str,
        *,
        payload: str = "",
        function: str | None = None,
        sequence: int | None = None,
    ) -> None:
        super().__init__(message, function=function, sequence=sequence)
        self.payload = payload


class CallRejected(AlphaPointError):
    """The exchange refused the call.

    Attributes:
        code: The exchange's error code; None for a plain-text refusal by the gateway, whose text is `message`
            (`Endpoint Not Found` also stands for a lost login or a missing permission).
        message: The exchange's `errormsg`, or the gateway's text.
        detail: The exchange's `detail`; usually None.
        response: The whole standard response; None for a plain-text refusal.
    """

    _by_code: ClassVar[dict[int, type[CallRejected]]] = {}

    def __init__(
        self,
        sentence: str,
        *,
        code: int | None = None,
        message: str | None = None,
        detail: str | None = None,
        response: StandardResponse | None = None,
        function: str | None = None,
        sequence: int | None = None,
    ) -> None:
        super().__init__(sentence, function=function, sequence=sequence)
        self.code = code
        self.message = message
        self.detail = detail
        self.response = response

    def __init_subclass__(cls, *, code: int) -> None:
        super().__init_subclass__()
        cls._by_code[code] = cls

    @classmethod
    def from_text(cls, text: str, *, function: str, sequence: int) -> CallRejected:
        """Make the error for a gateway's plain-text refusal (message type 5)."""
        return CallRejected(
            f"{function} was refused by the gateway: {quote(text) or '(no text)'}",
            message=text,
            function=function,
            sequence=sequence,
        )

    def without(self, out_of: Callable[[str], str], *, function: str) -> CallRejected:
        """Make the same refusal without what is secret in the exchange's words.

        Args:
            out_of: Takes that out of a text.
            function: What was called.
        """
        sequence = self.sequence or 0
        if self.response is None:
            return CallRejected.from_text(out_of(self.message or ""), function=function, sequence=sequence)
        words = {
            name: None if text is None else out_of(text)
            for name, text in (("errormsg", self.message), ("detail", self.detail))
        }
        return CallRejected.from_response(self.response.model_copy(update=words), function=function, sequence=sequence)

    @classmethod
    def of_code(cls, sentence: str, code: int | None, *, function: str) -> CallRejected:
        """Make the error of the class that belongs to a code, where nothing else is known of the refusal."""
        return cls._by_code.get(code or 0, CallRejected)(sentence, code=code, function=function)

    @classmethod
    def from_response(cls, response: StandardResponse, *, function: str, sequence: int) -> CallRejected:
        """Make the error of the class that belongs to the response's code."""
        words = quote(response.errormsg or "no message")
        detail = f": {quote(response.detail)}" if response.detail else ""
        return cls._by_code.get(response.errorcode, CallRejected)(
            f"{function} was refused: {words} ({response.errorcode}){detail}",
            code=response.errorcode,
            message=response.errormsg,
            detail=response.detail,
            response=response,
            function=function,
            sequence=sequence,
        )


class NotAuthorized(CallRejected, code=20):
    """Code 20: this login may not do that."""


class InvalidRequest(CallRejected, code=100):
    """Code 100: the request does not make sense to the exchange; `detail` often says why."""


class OperationFailed(CallRejected, code=101):
    """Code 101: the request made sense and could not be carried out; `detail` often says why."""


class ServerError(CallRejected, code=102):
    """Code 102: the exchange failed inside."""


class ResourceNotFound(CallRejected, code=104):
    """Code 104: there is no such thing."""


class OperationNotSupported(CallRejected, code=106):
    """Code 106: this exchange does not do that."""


class AuthenticationFailed(AlphaPointError):
    """The login was refused. It is final and never tried again: repeating it can lock the user.

    Attributes:
        locked: The exchange says that the user is locked.
        requires_two_factor: The exchange asks for a second factor, and none was at hand.
    """

    def __init__(
        self,
        message: str,
        *,
        locked: bool = False,
        requires_two_factor: bool = False,
        function: str | None = None,
        sequence: int | None = None,
    ) -> None:
        super().__init__(message, function=function, sequence=sequence)
        self.locked = locked
        self.requires_two_factor = requires_two_factor


class NotCancelled(AlphaPointError):
    """The ticket has ended, and not by being cancelled: paid out, rejected, or failed.

    Attributes:
        ticket: The ticket as it was last seen.
    """

    ticket: WithdrawTicket

    def __init__(self, message: str, *, ticket: WithdrawTicket | None = None) -> None:
        super().__init__(message)
        if ticket is not None:  # else a pickle sets it
            self.ticket = ticket

    @classmethod
    def of(cls, ticket: WithdrawTicket) -> NotCancelled:
        """Make the error for a ticket that has ended."""
        return cls(f"ticket {ticket.ticket_number} ended as {quote(ticket.status)}, not cancelled", ticket=ticket)


class NotConfirmed(AlphaPointError, TimeoutError):
    """The ticket was not seen cancelled in time, nor ended otherwise. The cancel may still take effect.

    Attributes:
        ticket: The ticket as it was last seen; None where it could not be read at all.
        timeout: The seconds that it was watched.
    """

    def __init__(self, message: str, *, ticket: WithdrawTicket | None = None, timeout: float = 0.0) -> None:
        super().__init__(message)
        self.ticket = ticket
        self.timeout = timeout
