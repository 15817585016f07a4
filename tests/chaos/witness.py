"""A simulated exchange whose every answer says which call it answers.

Each call of the campaign is about a ticket of its own, in an account of its own, so the ticket's number names the
call. It stands in the payload of the call in one way or another, and goes back in the answer: in the tickets that are
listed, and else in the `detail` of the standard response, or before the gateway's plain text.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from aioalphapoint._envelope import Envelope, MessageType, read_json, write_json
from aioalphapoint.testing import SimulatedExchange
from aioalphapoint.testing.answers import Answer
from aioalphapoint.testing.guests import Guest

__all__ = ["FIRST", "Witness", "code_of", "no_code_of", "number_in"]

FIRST = 292
"""The number of the exchange's first ticket."""

_NO_TICKET = 2**64


def code_of(number: int) -> UUID:
    """Give the request code of a call's ticket."""
    return UUID(int=number)


def no_code_of(number: int) -> UUID:
    """Give a request code that names the call, and no ticket."""
    return UUID(int=number + _NO_TICKET)


def number_in(payload: str | None) -> int | None:
    """Give the number of the call that has this payload; None where it names none, as a ping's."""
    fields = read_json(payload or "null")
    match fields:
        case {"ticketId": int(number)} | {"Token": int(number)}:
            return number
        case {"RequestCode": str(code)}:
            return UUID(code).int % _NO_TICKET
        case {"AccountId": int(number)}:
            return number
        case {"StartIndex": int(start)}:
            return start + FIRST
        case _:
            return None


class Witness(SimulatedExchange):
    """It knows one function more: `Echo` answers with its own payload."""

    logins: int = 0
    """How many logins it has granted."""

    def add_ticket(self, status: str) -> int:
        """Add the ticket of a call, and give its number."""
        number = FIRST + len(self._rules.tickets)
        ticket = self.add_withdraw(account_id=number, amount="1.10", status=status, request_code=code_of(number))
        assert ticket.ticket_number == number
        return number

    def _answer(self, guest: Guest, call: Envelope) -> Answer:
        if call.function == "Echo":
            return Answer(call.payload)
        was_in = guest.visitor.user is not None
        answer = super()._answer(guest, call)
        self.logins += guest.visitor.user is not None and not was_in
        number = number_in(call.payload)
        return answer if number is None else replace(answer, payload=_signed(answer, number))


def _signed(answer: Answer, number: int) -> str:
    if answer.type is MessageType.ERROR:
        return f"{number} {answer.payload}"
    fields = read_json(answer.payload)
    if isinstance(fields, dict) and "errorcode" in fields:
        return write_json(fields | {"detail": str(number)})
    return answer.payload
