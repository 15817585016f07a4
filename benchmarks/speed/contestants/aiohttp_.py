"""aiohttp's WebSocket client with the least that a client is: a table of futures, and a task that reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from aiohttp import ClientSession

from speed.program import Answer, Commands, Settings, serve

from .least import Least

__all__: list[str] = []


async def _about() -> Answer:
    return {"versions": {"aiohttp": version("aiohttp")}}


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    async with ClientSession() as session, session.ws_connect(settings.url) as socket:
        least = Least(socket.send_str)

        async def read() -> None:
            async for message in socket:
                least.receive(message.data)

        reader = asyncio.create_task(read())
        yield {"about": _about, "calls": least.calls}
        reader.cancel()


if __name__ == "__main__":
    serve(_program)
