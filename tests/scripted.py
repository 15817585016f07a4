"""A server that does exactly what a test scripts: the other end of frames written by hand.

For what a well-behaved exchange never sends. Nothing of the library's own codec is used here.
"""

import asyncio
import base64
import hashlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

_QUIET = logging.getLogger("scripted")
_QUIET.setLevel(logging.WARNING)  # this end logs the frames that the other must not

GOOD = r'{"result":true,"errormsg":null,"errorcode":0,"detail":null}'


@asynccontextmanager
async def scripted(
    script: Callable[[ServerConnection], Awaitable[None]], *, max_size: int = 2**20
) -> AsyncIterator[str]:
    """Run `script` for each connection, and give the address. Scripts still running at the end are cancelled."""
    running: set[asyncio.Task[object]] = set()

    async def handle(socket: ServerConnection) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        with suppress(ConnectionClosed, asyncio.CancelledError):  # the client left in the middle, or the test did
            await script(socket)
        running.discard(task)

    async with serve(
        handle,
        "127.0.0.1",
        0,
        compression=None,
        ping_interval=None,
        close_timeout=0.2,
        logger=_QUIET,
        max_size=max_size,
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        try:
            yield f"ws://127.0.0.1:{port}/WSGateway/"
        finally:
            for task in running:
                task.cancel()


@asynccontextmanager
async def raw(script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Run `script` on each TCP connection that has shaken hands, and give the address.

    For what no WebSocket library would do to its peer. The receive buffer is small, so that a script that does not
    read is felt soon.
    """
    running: set[asyncio.Task[object]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        key = (await reader.readuntil(b"\r\n\r\n")).split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        with suppress(asyncio.CancelledError, ConnectionError):
            await script(reader, writer)
        running.discard(task)
        writer.transport.abort()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with await asyncio.start_server(handle, sock=listener) as server:
        try:
            yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/WSGateway/"
        finally:
            for task in running:
                task.cancel()


def reply(request: str | bytes, payload: str = GOOD) -> str:
    """Write the good reply to a request, with the standard library alone."""
    frame = json.loads(request)
    return json.dumps({"m": 1, "i": frame["i"], "n": frame["n"], "o": payload}, separators=(",", ":"))


async def answer_all(connection: ServerConnection) -> None:
    """Answer every call well, until the client leaves."""
    async for request in connection:
        await connection.send(reply(request))
