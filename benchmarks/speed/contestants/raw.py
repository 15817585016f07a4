"""websockets alone: the same bytes sent, and as many messages received. No JSON, nobody to tell what answers what.

This is the floor under every client that is built on websockets and goes by its documented functions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from websockets.asyncio.client import ClientConnection, connect

from speed.program import Answer, Commands, Settings, measured, serve

from .frames import cancel

__all__: list[str] = []


class _Contestant:
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    async def about(self) -> Answer:
        return {"versions": {"websockets": version("websockets")}}

    async def calls(self, calls: int, at_once: int) -> Answer:
        frames = [cancel(self._number + 2 * place) for place in range(1, calls + 1)]
        self._number += 2 * calls
        return await measured(self._exchange(frames, at_once))

    async def _exchange(self, frames: list[bytes], at_once: int) -> None:
        send, receive = self._socket.send, self._socket.recv
        for start in range(0, len(frames), at_once):
            batch = frames[start : start + at_once]
            for frame in batch:
                await send(frame, text=True)
            for _ in batch:
                await receive()


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    async with connect(settings.url, compression=None) as socket:
        contestant = _Contestant(socket)
        yield {"about": contestant.about, "calls": contestant.calls}


if __name__ == "__main__":
    serve(_program)
