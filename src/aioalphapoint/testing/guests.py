"""The connections of the simulated exchange: each can fall silent, be reset, and hear late."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, broadcast

from aioalphapoint._envelope import Envelope, MessageType, encode

from .users import Visitor

__all__ = ["GOODBYE_TIMEOUT", "Guest", "Line"]

GOODBYE_TIMEOUT = 1.0
"""What the exchange's own goodbye may take, in seconds, when the other side does not answer it."""

# Bytes of events that may wait for a guest that does not read, before it is shown out.
_MOST_UNREAD = 4 * 2**20

# SO_LINGER, on, 0 seconds: closing the socket throws away what is unsent, and sends RST in place of FIN.
_NO_LINGERING = struct.pack("ii", 1, 0)


class Line(ServerConnection):
    """A connection that can stop reading, whoever else asks its transport to go on."""

    _reads = True
    _paused_here = False
    _held: list[bytes]  # what came in nevertheless

    def stop_reading(self) -> None:
        """Read nothing more: the other side's writes pile up, and its goodbyes go unheard."""
        self._reads = False
        self._pause()

    def read_on(self) -> None:
        """Read again, from where it stopped."""
        self._reads = True
        held, self._held = self._held, []
        if self.transport.is_closing():
            return
        if self._paused_here:
            self._paused_here = False
            self.transport.resume_reading()
        for data in held:
            super().data_received(data)

    def data_received(self, data: bytes) -> None:
        """Take what came in, or keep it for later."""
        # websockets resumes a transport that it paused itself, once its queue has been emptied
        if self._reads:
            super().data_received(data)
        else:
            self._held.append(data)
            self._pause()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing held."""
        self._held = []
        super().connection_made(transport)

    def reset(self) -> None:
        """End the connection by a TCP reset, as a crashed machine or a strict firewall does."""
        with suppress(OSError):  # it is closed already
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
        self.transport.abort()

    def _pause(self) -> None:
        if self.transport.is_reading():
            self._paused_here = True
            self.transport.pause_reading()


class Guest:
    """Whoever is at the other end of a connection.

    Attributes:
        line: The connection.
        number: Which connection it is, counted from 1 over the life of the exchange.
        visitor: What the exchange's rules know of it.
        is_silent: Whether nothing is read from it and nothing sent to it.
        is_ended: Whether the exchange has ended the connection, or the guest has left.
    """

    def __init__(self, line: Line, number: int) -> None:
        self.line = line
        self.number = number
        self.visitor: Visitor = Visitor()
        self.is_silent: bool = False
        self.is_ended: bool = False
        self._next_event = 2
        self._kept_back: list[Callable[[], None]] = []
        self._bytes_kept_back = 0
        self._timers: set[asyncio.TimerHandle] = set()

    def send_event(self, name: str, payload: str) -> None:
        """Send an event without waiting: no guest may hold up, or take down, another guest's call."""
        event = encode(Envelope(MessageType.EVENT, self._next_event, name, payload)).decode()
        self._next_event += 2
        if self.is_silent:
            self._bytes_kept_back += len(event)
        self.act(lambda: self.send(event))
        if self.line.transport.get_write_buffer_size() + self._bytes_kept_back > _MOST_UNREAD:
            self.line.transport.abort()

    def send(self, message: str) -> None:
        """Send a message at once; nothing happens when the connection has ended."""
        if not self.line.transport.is_closing():  # websockets hears of that one turn of the loop later
            broadcast([self.line], message)

    def act(self, action: Callable[[], None]) -> None:
        """Do something that sends: now or, to a silent guest, when it is silent no more; never once it has left."""
        if self.is_silent:
            self._kept_back.append(action)
        elif not self.is_ended:
            action()

    def act_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something that sends, so many seconds from now."""

        def act() -> None:
            self._timers.discard(timer)
            self.act(action)

        timer = asyncio.get_running_loop().call_later(seconds, act)
        self._timers.add(timer)

    def fall_silent(self) -> None:
        """Read nothing and send nothing from now on."""
        self.is_silent = True
        self.line.stop_reading()

    def speak(self) -> None:
        """Send what was kept back, and read on."""
        self.is_silent = False
        actions, self._kept_back, self._bytes_kept_back = self._kept_back, [], 0
        for action in actions:
            self.act(action)
        self.line.read_on()

    async def end(self, code: int | None) -> None:
        """End the connection, with a close code or, None, by a TCP reset. A silent guest hears no close code."""
        self.is_ended = True
        if code is None or self.is_silent:
            self.line.reset()
            await self.line.wait_closed()
            return
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                await self.line.close(code)
        except TimeoutError:  # a guest that reads nothing holds its goodbye up for ever
            self.line.transport.abort()

    def forget(self) -> None:
        """Drop what was still to be sent, because the guest has left."""
        self.is_ended = True
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._kept_back.clear()
