"""websockets, connected anew for each call: dial, handshake, the call, goodbye. No JSON."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from websockets.asyncio.client import connect

from speed.program import Answer, Commands, Settings, measured, serve

from .frames import cancel, login

__all__: list[str] = []


class _Contestant:
    def __init__(self, settings: Settings) -> None:
        self._url = settings.url
        self._tls = ssl.create_default_context(cafile=settings.authority) if settings.url.startswith("wss:") else None

    async def about(self) -> Answer:
        return {"versions": {"websockets": version("websockets")}}

    async def calls(self, calls: int, at_once: int) -> Answer:
        """Make calls one after another, without a login."""
        assert at_once == 1  # a thousand connections at once are nobody's choice
        return await measured(self._work(calls))

    async def _work(self, calls: int) -> None:
        for _ in range(calls):
            await self._call(logs_in=False)

    async def times(self, calls: int) -> Answer:
        """Tell the seconds from the wish to the answer, the login included and the goodbye not, call by call."""
        return {"seconds": [await self._call(logs_in=True) for _ in range(calls)]}

    async def _call(self, *, logs_in: bool) -> float:
        started = time.perf_counter()
        async with connect(self._url, compression=None, ping_interval=None, ssl=self._tls) as socket:
            if logs_in:
                await socket.send(login(), text=True)
                await socket.recv()
            await socket.send(cancel(4), text=True)
            await socket.recv()
            return time.perf_counter() - started


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    contestant = _Contestant(settings)
    yield {"about": contestant.about, "calls": contestant.calls, "times": contestant.times}


if __name__ == "__main__":
    serve(_program)
