"""`aioalphapoint call`: any function of the exchange, by its name and its payload."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from aioalphapoint import Client, Json, NotConnected
from aioalphapoint._envelope import read_json, write_json

from .exits import Exit, Misuse
from .session import NOWHERE, Session

__all__ = ["call_function"]


async def call_function(session: Session, function: str, payload: str, *, dry_run: bool) -> Exit:
    """Call a function, and show what it answers.

    Args:
        session: How to reach the exchange.
        function: The exchange's name of it.
        payload: Its parameters, a JSON object; numbers keep every digit.
        dry_run: Check both, and send nothing at all.
    """
    if "authenticate" in function.lower():
        raise Misuse(f"{function} is no function for this: a login comes from the environment or a file")
    fields = _fields(payload)
    with contextlib.suppress(NotConnected):  # an unconnected client checks what it is given, and sends nothing
        await Client(NOWHERE).call(function, fields)
    screen = session.screen
    if dry_run:
        screen.record({"function": function, "payload": fields, "outcome": "dry run"})
        screen.say(f"{function} {write_json(fields)} would be sent. Nothing was sent.")
        return Exit.DONE
    async with session.connected() as client:
        try:
            reply = await client.call(function, fields)
        except asyncio.CancelledError:
            screen.record({"function": function, "outcome": "unknown", "error": "interrupted"})
            screen.note(f"{function} may have been sent: read what it changes before you call it again.")
            raise
    screen.record({"function": function, "reply": reply})
    screen.say(_in_lines(reply))
    return Exit.DONE


def _fields(payload: str) -> Mapping[str, object]:
    try:
        fields = read_json(payload)
    except ValueError as error:
        raise Misuse(f"the payload must be a JSON object such as '{{\"OMSId\":1}}': {error}") from None
    if not isinstance(fields, dict):
        raise Misuse("the payload must be a JSON object such as '{\"OMSId\":1}'")
    return fields


def _in_lines(value: Json) -> str:
    """Write JSON with a line for each of its parts; what is inside of them stays in the line, each digit as it came."""
    match value:
        case list():
            parts, (opening, closing) = [write_json(item) for item in value], "[]"
        case dict():
            parts, (opening, closing) = [f"{write_json(key)}: {write_json(item)}" for key, item in value.items()], "{}"
        case _:
            return write_json(value)
    lines = ",\n".join(f"  {part}" for part in parts)
    return f"{opening}\n{lines}\n{closing}" if parts else f"{opening}{closing}"
