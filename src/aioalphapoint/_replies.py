"""How an answer reads: a value, a refusal, or something that nobody can read. Pure.

The order of the questions is the truth about a call. A gateway's refusal (message type 5) is a refusal, unless
its payload contradicts it. A payload that cannot be read says nothing about the outcome. A standard response
that does not accept is a refusal, whichever function it answers.
"""

from __future__ import annotations

from pydantic import ValidationError

from ._envelope import Envelope, Json, MessageType, read_json
from .errors import CallRejected, UnexpectedReply, quote
from .models import StandardResponse

__all__ = ["read_response", "read_value"]


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
    if reply.type is MessageType.ERROR:
        raise _gateway_refusal(function, reply)
    try:
        value = read_json(reply.payload)
    except ValueError:
        if reply.payload.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
            raise _unexpected(function, reply) from None
        return reply.payload
    response = _as_response(value)
    if response is None and _is_meant_as_response(value):
        raise _unexpected(function, reply)
    if response is not None and not response.is_accepted:
        raise CallRejected.from_response(response, function=function, sequence=reply.sequence)
    return value


def read_response(function: str, reply: Envelope) -> StandardResponse:
    """Read the answer of a function that answers with a standard response.

    Raises:
        CallRejected: It is a refusal; the class belongs to the response's code.
        UnexpectedReply: It is no standard response.
    """
    response = _as_response(read_value(function, reply))
    if response is None:
        raise _unexpected(function, reply)
    return response


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
    is_secret = "authenticate" in function.lower()
    words = "" if is_secret else f": {quote(reply.payload) or '(empty)'}"
    return UnexpectedReply(
        f"{function} was answered in a shape that nobody knows{words}",
        payload="" if is_secret else reply.payload,
        function=function,
        sequence=reply.sequence,
    )
