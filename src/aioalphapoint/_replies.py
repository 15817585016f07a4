"""How an answer reads: a value, a refusal, or something that nobody can read. Pure.

The order of the questions is the truth about a call. A gateway's refusal (message type 5) is a refusal, unless
its payload contradicts it. A payload that cannot be read says nothing about the outcome. A standard response
that does not accept is a refusal, whichever function it answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import ValidationError

from ._envelope import Envelope, Json, MessageType, read_items, read_json
from ._secrets import is_private
from .errors import CallRejected, UnexpectedReply, quote
from .models import FromExchange, StandardResponse, Withdraw, WithdrawTicket

__all__ = ["read_response", "read_subscribed", "read_ticket", "read_tickets", "read_value", "read_withdraws"]

_Model = TypeVar("_Model", bound=FromExchange)

# What a repeated subscription is refused with; the first one goes on (captured; not in the documents).
_ALREADY_SUBSCRIBED = 909
_SUBSCRIBED = frozenset({"subscribed", "subscribe", "result"})

# An exchange says "received" in the same words each time, or in few: they are read once. Kept is only what says nothing
# else, which could be private.
_receipts: dict[str, StandardResponse] = {}
_MOST_RECEIPTS = 64
_LONGEST_RECEIPT = 200  # characters
_RECEIPT = frozenset({"result", "errormsg", "errorcode", "detail"})


def read_value(function: str, reply: Envelope) -> Json:
    """Read an answer of any shape.

    Args:
        function: What was called, for the error. The reply's own `n` may differ in case, or altogether.
        reply: The answer.

    Returns:
        The payload's JSON value; or its text where that is plain text or empty, as some functions answer.

    Raises:
        CallRejected: It is a refusal.
        UnexpectedReply: It starts like JSON and cannot be read, or has a standard response's keys and not its
            values.
    """
    return _read(function, reply)[0]


def _read(function: str, reply: Envelope) -> tuple[Json, StandardResponse | None]:
    """Read an answer of any shape, as a standard response too where it is one."""
    if reply.type is MessageType.ERROR:
        raise _gateway_refusal(function, reply)
    try:
        value = read_json(reply.payload)
    except ValueError:
        if reply.payload.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
            raise _unexpected(function, reply) from None
        return reply.payload, None
    response = _as_response(value)
    if response is None and _is_meant_as_response(value):
        raise _unexpected(function, reply)
    if response is not None and not response.is_accepted:
        raise CallRejected.from_response(response, function=function, sequence=reply.sequence)
    return value, response


def read_response(function: str, reply: Envelope) -> StandardResponse:
    """Read the answer of a function that answers with a standard response.

    Raises:
        CallRejected: It is a refusal; the class belongs to the response's code.
        UnexpectedReply: It is no standard response.
    """
    receipt = _receipts.get(reply.payload) if reply.type is MessageType.REPLY else None
    if receipt is not None:
        return receipt
    value, response = _read(function, reply)
    if response is None:
        raise _unexpected(function, reply)
    if len(_receipts) < _MOST_RECEIPTS and len(reply.payload) <= _LONGEST_RECEIPT and _is_receipt(value, response):
        _receipts[reply.payload] = response
    return response


def _is_receipt(value: Json, response: StandardResponse) -> bool:
    says_no_more = not response.errormsg and not response.detail
    return says_no_more and isinstance(value, dict) and {key.lower() for key in value} <= _RECEIPT


def read_withdraws(function: str, reply: Envelope) -> Iterator[Withdraw]:
    """Read the answer of a function that answers with a list of withdrawals; all else is as with `read_tickets`."""
    return _rows(function, reply, Withdraw)


def read_tickets(function: str, reply: Envelope) -> Iterator[WithdrawTicket]:
    """Read the answer of a function that answers with a list of tickets, row by row.

    Raises:
        CallRejected: It is a refusal; this is said before the first step.
        UnexpectedReply: It is no list, or one of its rows cannot be read: a list with a hole would tell half the
            truth. So nothing that came before this may be given out.
    """
    return _rows(function, reply, WithdrawTicket)


def read_ticket(function: str, reply: Envelope, *, account_id: int, request_code: str) -> WithdrawTicket:
    """Read the answer of a function that answers with one ticket.

    Raises:
        CallRejected: It is a refusal.
        UnexpectedReply: It is no ticket, or another one.
    """
    try:
        ticket = WithdrawTicket.model_validate(read_value(function, reply))
    except ValidationError:
        raise _unexpected(function, reply) from None
    if (ticket.account_id, ticket.request_code.lower()) != (account_id, request_code.lower()):
        raise _unexpected(function, reply)
    return ticket


def read_subscribed(function: str, reply: Envelope) -> None:
    """Read the answer to a subscription: `{"Subscribed":true}`, `{"Subscribe":true}`, or "already" (909).

    Raises:
        CallRejected: It is a refusal.
        UnexpectedReply: It does not say that events will come.
    """
    try:
        value = read_value(function, reply)
    except CallRejected as refusal:
        if refusal.code == _ALREADY_SUBSCRIBED:
            return
        raise
    fields = value.items() if isinstance(value, dict) else ()
    said = {item for key, item in fields if key.lower() in _SUBSCRIBED and isinstance(item, bool)}
    if said == {False}:
        raise CallRejected(f"{function} was refused: {quote(reply.payload)}", message=reply.payload, function=function)
    if said != {True}:
        raise _unexpected(function, reply)


def _rows(function: str, reply: Envelope, model: type[_Model]) -> Iterator[_Model]:
    if reply.type is MessageType.ERROR or not reply.payload.lstrip(" \t\n\r").startswith("["):
        read_value(function, reply)  # which raises what is better known
        raise _unexpected(function, reply)
    return _each_row(function, reply, model)


def _each_row(function: str, reply: Envelope, model: type[_Model]) -> Iterator[_Model]:
    try:
        for row in read_items(reply.payload):
            yield model.model_validate(row)
    except ValidationError as error:
        field = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"][:1]
        where = f" ({field[0]})" if field else ""
        raise UnexpectedReply(
            f"{function} was answered with a row that cannot be read{where}",
            payload=reply.payload,
            function=function,
            sequence=reply.sequence,
        ) from None
    except ValueError:
        raise _unexpected(function, reply) from None


def _as_response(value: Json) -> StandardResponse | None:
    if not isinstance(value, dict):
        return None
    try:
        return StandardResponse.model_validate(value)
    except ValidationError:
        return None


def _is_meant_as_response(value: Json) -> bool:
    # `{"result": false, "errorcode": "101"}` is no data, though it is not as documented either.
    return isinstance(value, dict) and {"result", "errorcode"} <= {key.lower() for key in value}


def _gateway_refusal(function: str, reply: Envelope) -> CallRejected | UnexpectedReply:
    # Always plain text on the wire so far ("Endpoint Not Found"); a standard response keeps its code.
    try:
        response = _as_response(read_json(reply.payload))
    except ValueError:
        response = None
    if response is None:
        return CallRejected.from_text(reply.payload, function=function, sequence=reply.sequence)
    if response.is_accepted:  # the frame says no and its payload yes: neither is to be believed
        return _unexpected(function, reply)
    return CallRejected.from_response(response, function=function, sequence=reply.sequence)


def _unexpected(function: str, reply: Envelope) -> UnexpectedReply:
    # The answer to a login that a program makes by `call` holds the session token.
    is_secret = is_private(function)
    words = "" if is_secret else f": {quote(reply.payload) or '(empty)'}"
    return UnexpectedReply(
        f"{function} was answered in a shape that nobody knows{words}",
        payload="" if is_secret else reply.payload,
        function=function,
        sequence=reply.sequence,
    )
