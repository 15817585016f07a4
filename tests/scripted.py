"""A server that does exactly what a test scripts: the other end of frames written by hand.

For what a well-behaved exchange never sends. Nothing of the library's own codec is used here.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

GOOD = r'{"result":true,"errormsg":null,"errorcode":0,"detail":null}'


@asynccontextmanager
async def scripted(script: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    """Run `script` for each connection, and give the address. Scripts still running at the end are cancelled."""
    running: set[asyncio.Task[object]] = set()

    async def handle(socket: ServerConnection) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with suppress(ConnectionClosed, asyncio.CancelledError):  # the client left in the middle, or the test did
            await script(socket)
        running.discard(task)

    async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None, close_timeout=0.2) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        try:
            yield f"ws://127.0.0.1:{port}/WSGateway/"
        finally:
            for task in running:
                task.cancel()


def reply(request: str | bytes, payload: str = GOOD) -> str:
    """Write the good reply to a request, with the standard library alone."""
    frame = json.loads(request)
    return json.dumps({"m": 1, "i": frame["i"], "n": frame["n"], "o": payload}, separators=(",", ":"))


async def answer_all(socket: ServerConnection) -> None:
    """Answer every call well, until the client leaves."""
    async for request in socket:
        await socket.send(reply(request))
