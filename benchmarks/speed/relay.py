"""A long way to the exchange: a relay that delays all bytes, each way, and the setting-up of a connection likewise.

Whoever connects is taken in at once, because a relay cannot delay that: the kernel answers. Instead what a client sends
first is held back by a whole way there and back, the time that the answer of a distant kernel would have taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .program import Answer, Commands, Settings, serve

__all__: list[str] = []


class _End(asyncio.Protocol):
    """One end of a connection: what comes in here goes out at the other end, later."""

    def __init__(self, delay: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay = delay
        self._hold = 0.0
        self._connected = self._loop.time()
        self._transport: asyncio.Future[asyncio.WriteTransport] = self._loop.create_future()
        self.other: _End

    def hold_first(self) -> None:
        """Hold back what comes in by a whole way there and back, as if the connection had been made only then."""
        self._hold = 2 * self._delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # for the type checker
        self._connected = self._loop.time()
        self._transport.set_result(transport)

    def data_received(self, data: bytes) -> None:
        self._loop.call_at(self._due(), self.other.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._loop.call_at(self._due(), self.other.close)

    def _due(self) -> float:
        return max(self._loop.time(), self._connected + self._hold) + self._delay

    def write(self, data: bytes) -> None:
        if self._transport.done():
            self._transport.result().write(data)

    def close(self) -> None:
        if self._transport.done():
            self._transport.result().close()


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    loop = asyncio.get_running_loop()
    dials: set[asyncio.Task[object]] = set()

    def taken_in() -> _End:
        near, far = _End(settings.delay), _End(settings.delay)
        near.other, far.other = far, near
        near.hold_first()
        # It is there long before the first byte has come this far.
        dial: asyncio.Task[object] = asyncio.create_task(_dial(far, settings.port))
        dials.add(dial)
        dial.add_done_callback(dials.discard)
        return near

    server = await loop.create_server(taken_in, "127.0.0.1", 0)

    async def listen() -> Answer:
        return {"port": server.sockets[0].getsockname()[1]}

    yield {"listen": listen}
    server.close()


async def _dial(end: _End, port: int) -> None:
    await asyncio.get_running_loop().create_connection(lambda: end, "127.0.0.1", port)


if __name__ == "__main__":
    serve(_program)
