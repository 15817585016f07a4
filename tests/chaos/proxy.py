"""A TCP proxy between a client and an exchange, which does to bytes what networks do.

It listens on 127.0.0.1 and runs on the test's own event loop. What it does wrong is named after the event, as on the
simulated exchange: `reset` and `finish` happen at once, to all links that stand; the others are context managers, of
which the inner one counts; `at` lets a link meet its fate at its n-th byte, so that a test can choose the moment: in
the middle of the handshake, of the login, of a frame.

A TCP stream never loses a byte and then goes on: links that fell into a black hole are reset when it ends, and
everything else comes late, but whole and in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from .manners import (
    BOTH,
    CHUNK,
    BlackHole,
    Coalesce,
    Corrupt,
    Delay,
    Direction,
    Freeze,
    Manner,
    Split,
    Trickle,
)

__all__ = ["Link", "Proxy"]

# SO_LINGER, on, 0 seconds: closing the socket throws away what is unsent, and sends RST in place of FIN.
_NO_LINGERING = struct.pack("ii", 1, 0)

# Seconds between the writes of two chunks that are due at the same moment: the loop's timers have no other order.
_NEXT = 1e-6


@dataclass(frozen=True)
class _Fate:
    """What becomes of a link at a byte of its own."""

    direction: Direction
    count: int
    act: Callable[[Link], None]


class _Pipe:
    """One direction of a link."""

    def __init__(
        self, link: Link, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.link = link
        self.reader = reader
        self.has_ended = False  # on the side that it reads from
        self._direction = direction
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._due = 0.0  # when the last chunk is to be written: no later one may overtake it
        self._late = 0  # chunks that wait for that; they may be overdue, where the loop is busy
        self._carried = 0
        self._is_finished = False

    async def run(self) -> None:
        """Carry bytes until their end has been carried too."""
        try:
            while data := await self.reader.read(CHUNK):
                await self._meet_fates(data)
            self.has_ended = True
        except (ConnectionError, ssl.SSLError):
            self.has_ended = True
            await self.link.manner(self._direction).tear(self)
        else:
            await self.link.manner(self._direction).end(self)

    async def send(self, data: bytes, *, late: float = 0.0) -> None:
        """Write bytes, now or so many seconds late."""
        now = self._loop.time()
        if late or self._late:
            self._due = max(now + late, self._due + _NEXT)
            self._late += 1
            self._loop.call_at(self._due, self._write_late, data)
        else:
            self._write(data)
            await self._writer.drain()

    async def end(self) -> None:
        """Say that no more bytes come, once all have been written; until then the link has to stand."""
        is_due = asyncio.Event()
        self._loop.call_at(self._due + _NEXT, is_due.set)
        await is_due.wait()
        self.finish()

    def tear(self) -> None:
        """End the whole link by RST."""
        self.link.reset()

    def lose(self) -> None:
        """Take note that something was swallowed."""
        self.link.is_whole = False

    def finish(self) -> None:
        """Say that no more bytes come."""
        if self._is_finished or self._writer.transport.is_closing():
            return
        self._is_finished = True
        if self._writer.can_write_eof():
            with contextlib.suppress(OSError):  # the other side has reset it, which the loop has yet to hear
                self._writer.write_eof()
        else:  # TLS has no half-closed links
            self._writer.close()

    def reset(self) -> None:
        """End the side that it writes to by RST."""
        _do_not_linger(self._writer)
        self._writer.transport.abort()

    async def _meet_fates(self, data: bytes) -> None:
        while (fate := self.link.fate_of(self._direction)) and fate.count <= self._carried + len(data):
            first = max(fate.count - self._carried, 0)
            await self._carry(data[:first])
            data = data[first:]
            self.link.fates.remove(fate)
            fate.act(self.link)
        await self._carry(data)

    async def _carry(self, data: bytes) -> None:
        if data:
            self._carried += len(data)
            await self.link.manner(self._direction).carry(data, self)

    def _write_late(self, data: bytes) -> None:
        self._late -= 1
        self._write(data)

    def _write(self, data: bytes) -> None:
        if not self._is_finished and not self._writer.transport.is_closing():
            self._writer.write(data)


class Link:
    """One client's way to the exchange. `is_whole` is False once bytes of it were swallowed."""

    def __init__(self, proxy: Proxy, near: _Stream, far: _Stream) -> None:
        self.is_whole: bool = True
        self.fates: list[_Fate] = list(proxy.fates)
        self._proxy = proxy
        self._own: Manner | None = None
        self._up = _Pipe(self, Direction.UP, near[0], far[1])
        self._down = _Pipe(self, Direction.DOWN, far[0], near[1])

    @property
    def is_left(self) -> bool:
        """Whether the client has ended it, even where nobody hears of that."""
        return self._up.has_ended

    def fate_of(self, direction: Direction) -> _Fate | None:
        """Give what is to become of it at a byte of this direction; None where nothing is."""
        return next((fate for fate in self.fates if fate.direction is direction), None)

    def manner(self, direction: Direction) -> Manner:
        """Give how bytes of this direction are carried now."""
        return self._own or self._proxy.manner(direction)

    async def run(self) -> None:
        """Carry both ways until both have ended."""
        await asyncio.gather(self._up.run(), self._down.run())

    def reset(self) -> None:
        """End it by RST on both sides."""
        self._up.reset()
        self._down.reset()

    def finish(self) -> None:
        """End it by FIN on both sides, as when the machine in between is shut down."""
        self._up.finish()
        self._down.finish()

    def swallow(self) -> None:
        """Let everything on it vanish from now on."""
        self._own = BlackHole()


def _do_not_linger(writer: asyncio.StreamWriter) -> None:
    side = writer.get_extra_info("socket")
    if side is not None:  # else TLS has let go of it
        with contextlib.suppress(OSError):  # it is closed already
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """A way to a server on this machine. Use it by `async with`.

    Args:
        target: The server's address, such as the `url` of a simulated exchange.
        takes_off: The TLS that it takes off clients' bytes before it sends them on; None carries them as they are.
    """

    def __init__(self, target: str, *, takes_off: ssl.SSLContext | None = None) -> None:
        self.fates: list[_Fate] = []
        self.links: set[Link] = set()
        """The links that stand."""
        self.opened: int = 0
        """How many links there have been."""
        self._target = urlsplit(target)
        self._tls = takes_off
        self._on: list[Manner] = [Manner()]
        self._refuses = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The address to connect to in the server's place."""
        port = self._server.sockets[0].getsockname()[1]
        target = self._target if self._tls is None else self._target._replace(scheme="wss")
        return target._replace(netloc=f"127.0.0.1:{port}").geturl()

    def manner(self, direction: Direction) -> Manner:
        """Give how bytes of this direction are carried now."""
        return next(manner for manner in reversed(self._on) if direction in manner.directions)

    # At once.

    def reset(self) -> None:
        """End all links that stand by RST on both sides."""
        for link in self.links:
            link.reset()

    def finish(self) -> None:
        """End all links that stand by FIN on both sides, without a goodbye of WebSocket's."""
        for link in self.links:
            link.finish()

    # While it lasts.

    @contextmanager
    def refuse(self) -> Iterator[None]:
        """Reset new links as soon as they come."""
        self._refuses += 1
        try:
            yield
        finally:
            self._refuses -= 1

    @contextmanager
    def black_hole(self, directions: Collection[Direction] = BOTH) -> Iterator[None]:
        """Let everything vanish that goes these ways. Links that lost bytes are reset when it ends."""
        with self._while_on(BlackHole(directions)):
            yield
        for link in self.links:
            if not link.is_whole:
                link.reset()

    @contextmanager
    def freeze(self, directions: Collection[Direction] = BOTH) -> Iterator[None]:
        """Carry nothing; what came meanwhile goes on when it ends."""
        with self._while_on(Freeze(directions)):
            yield

    @contextmanager
    def trickle(self, bytes_per_second: float = 1.0, directions: Collection[Direction] = BOTH) -> Iterator[None]:
        """Carry so many bytes a second; the rest goes at once when it ends."""
        with self._while_on(Trickle(directions, pause=1 / bytes_per_second)):
            yield

    @contextmanager
    def split(self, directions: Collection[Direction] = BOTH) -> Iterator[None]:
        """Send each byte as a segment of its own."""
        with self._while_on(Split(directions)):
            yield

    @contextmanager
    def coalesce(self, seconds: float, directions: Collection[Direction] = BOTH) -> Iterator[None]:
        """Gather what comes within so many seconds, and send it in one piece."""
        with self._while_on(Coalesce(directions, seconds=seconds)):
            yield

    @contextmanager
    def delay(
        self,
        seconds: float,
        *,
        jitter: float = 0.0,
        chance: random.Random | None = None,
        directions: Collection[Direction] = BOTH,
    ) -> Iterator[None]:
        """Carry bytes so many seconds late, give or take `jitter` seconds, each way and in order."""
        with self._while_on(Delay(directions, seconds=seconds, jitter=jitter, chance=chance or random.Random(0))):
            yield

    @contextmanager
    def corrupt(self, chance: random.Random, directions: Collection[Direction] = BOTH) -> Iterator[None]:
        """Turn one bit over in whatever comes at a time."""
        with self._while_on(Corrupt(directions, chance=chance)):
            yield

    @contextmanager
    def at(self, count: int, act: Callable[[Link], None], direction: Direction = Direction.DOWN) -> Iterator[None]:
        """Do something to each new link once it has carried so many bytes.

        Args:
            count: How many bytes.
            act: What to do: `Link.reset`, `Link.finish`, `Link.swallow`.
            direction: Which way they went.
        """
        fate = _Fate(direction, count, act)
        self.fates.append(fate)
        try:
            yield
        finally:
            self.fates.remove(fate)

    @contextmanager
    def _while_on(self, manner: Manner) -> Iterator[None]:
        self._on.append(manner)
        try:
            yield
        finally:
            self._on.remove(manner)
            manner.ended.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # by `__aexit__`, which awaits it; Python 3.11's streams complain of a cancelled task
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _do_not_linger(writer)
            return
        try:
            far = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:  # nobody listens there now
            return
        link = Link(self, (reader, writer), far)
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)
            far[1].transport.abort()
