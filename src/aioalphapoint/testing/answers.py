"""How the simulated exchange reads a payload and writes an answer. Pure: text in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aioalphapoint._envelope import Json, MessageType, read_json, write_json
from aioalphapoint.models import WithdrawTicket

__all__ = ["Answer", "Refused", "fields_of", "no_such_endpoint", "number", "standard", "text"]

_MESSAGES = {
    20: "Not Authorized",
    100: "Invalid Request",
    101: "Operation Failed",
    102: "Server Error",
    104: "Resource Not Found",
    106: "Operation Not Supported",
    107: "Operation In Process",
    909: "Already Subscribed.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The payload of a reply, and what happened on the way.

    Attributes:
        payload: The text of the reply's payload.
        type: Whether it is a reply or the gateway's own refusal.
        executed: Whether the call was carried out: it changed the exchange's state or read it. A refusal was not.
        changed: The ticket as the call leaves it, of which subscribers hear; None where it changes none.
    """

    payload: str
    type: MessageType = MessageType.REPLY
    executed: bool = True
    changed: WithdrawTicket | None = None


class Refused(Exception):
    """A call is refused with a standard response of this code and detail."""

    def __init__(self, code: int, detail: str | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


def standard(code: int, detail: str | None = None, changed: WithdrawTicket | None = None) -> Answer:
    """Write the standard response: code 0 accepts, every other one refuses."""
    response = {"result": code == 0, "errormsg": _MESSAGES.get(code), "errorcode": code, "detail": detail}
    return Answer(write_json(response), executed=code == 0, changed=changed)


def no_such_endpoint() -> Answer:
    """Write the gateway's refusal of an unknown function, and of a call that needs a login. It is plain text."""
    return Answer("Endpoint Not Found", MessageType.ERROR, executed=False)


def fields_of(payload: str) -> dict[str, Json]:
    """Read the payload of a call, which is an object or `Refused`."""
    try:
        fields = read_json(payload)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise Refused(100, "Not all required fields are provided")
    return fields


def number(fields: Mapping[str, Json], key: str) -> int:
    """Give a field that must hold a whole number, not below 0."""
    value = fields.get(key)
    if type(value) is not int or value < 0:
        raise Refused(100, "Not all required fields are provided")
    return value


def text(fields: Mapping[str, Json], key: str) -> str:
    """Give a field that must hold a string."""
    value = fields.get(key)
    if not isinstance(value, str):
        raise Refused(100, "Not all required fields are provided")
    return value
