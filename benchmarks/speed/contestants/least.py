"""The least that a client is: a table of futures, JSON written and read twice. No validation, no deadline, no login.

What goes wrong here is nobody's concern: a lost socket leaves every call pending.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from speed.program import Answer, measured

from .calls import keep_in_flight
from .frames import CANCEL

__all__ = ["Least"]


class Least:
    """The table, on a socket of whatever kind."""

    def __init__(self, send: Callable[[str], Awaitable[None] | None]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._table: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0

    def receive(self, text: str | bytes) -> None:
        """Take one message."""
        frame = json.loads(text)
        self._table.pop(frame["i"]).set_result(frame)

    async def calls(self, calls: int, at_once: int) -> Answer:
        """Make calls, so many at once."""
        return await measured(keep_in_flight(self._cancel, calls, at_once))

    async def _cancel(self) -> object:
        self._number += 2
        future = self._table[self._number] = self._loop.create_future()
        frame = {"m": 0, "i": self._number, "n": "CancelWithdraw", "o": json.dumps(CANCEL)}
        sent = self._send(json.dumps(frame))
        if sent is not None:
            await sent
        return json.loads((await future)["o"])
