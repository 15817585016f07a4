"""How bytes are carried from one end of a link to the other: at once, or as a bad network would."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "BOTH",
    "CHUNK",
    "BlackHole",
    "Coalesce",
    "Corrupt",
    "Delay",
    "Direction",
    "Freeze",
    "Manner",
    "Pipe",
    "Split",
    "Trickle",
]

CHUNK = 2**16
"""Bytes taken at a time."""


class Pipe(Protocol):
    """One direction of a link, as a manner sees it."""

    reader: asyncio.StreamReader

    async def send(self, data: bytes, *, late: float = 0.0) -> None:
        """Write bytes, now or so many seconds late."""

    async def end(self) -> None:
        """Say that no more bytes come, once all have been written; until then the link has to stand."""

    def tear(self) -> None:
        """End the whole link by RST."""

    def lose(self) -> None:
        """Take note that something was swallowed."""


class Direction(enum.Enum):
    """Which way bytes go."""

    UP = "to the exchange"
    DOWN = "to the client"


BOTH = frozenset(Direction)


@dataclass(eq=False)
class Manner:
    """How bytes are carried. As it stands: at once."""

    directions: Collection[Direction] = BOTH
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def carry(self, data: bytes, pipe: Pipe) -> None:
        await pipe.send(data)

    async def end(self, pipe: Pipe) -> None:
        """Carry the end of the stream."""
        await pipe.end()

    async def tear(self, pipe: Pipe) -> None:
        """Carry a reset."""
        pipe.tear()

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the fault is over: what is left goes at once then."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()


class BlackHole(Manner):
    async def carry(self, data: bytes, pipe: Pipe) -> None:  # noqa: ARG002
        pipe.lose()

    async def end(self, pipe: Pipe) -> None:
        pipe.lose()

    async def tear(self, pipe: Pipe) -> None:
        pipe.lose()


class Freeze(Manner):
    async def carry(self, data: bytes, pipe: Pipe) -> None:
        await self.ended.wait()
        await pipe.send(data)

    async def end(self, pipe: Pipe) -> None:
        await self.ended.wait()
        await pipe.end()

    async def tear(self, pipe: Pipe) -> None:
        await self.ended.wait()
        pipe.tear()


@dataclass(eq=False)
class Trickle(Manner):
    pause: float = 1.0

    async def carry(self, data: bytes, pipe: Pipe) -> None:
        for position in range(len(data)):
            if self.ended.is_set():
                await pipe.send(data[position:])
                return
            await pipe.send(data[position : position + 1])
            await self._pause(self.pause)


class Split(Manner):
    async def carry(self, data: bytes, pipe: Pipe) -> None:
        for position in range(len(data)):
            await pipe.send(data[position : position + 1])
            await asyncio.sleep(0)  # the other side may read each one by itself


@dataclass(eq=False)
class Coalesce(Manner):
    seconds: float = 0.0

    async def carry(self, data: bytes, pipe: Pipe) -> None:
        held = bytearray(data)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                while more := await pipe.reader.read(CHUNK):
                    held += more
        await pipe.send(bytes(held))


@dataclass(eq=False)
class Delay(Manner):
    seconds: float = 0.0
    jitter: float = 0.0
    chance: random.Random = field(default_factory=random.Random)

    async def carry(self, data: bytes, pipe: Pipe) -> None:
        late = self.chance.uniform(self.seconds - self.jitter, self.seconds + self.jitter)
        await pipe.send(data, late=max(late, 0.0))


@dataclass(eq=False)
class Corrupt(Manner):
    chance: random.Random = field(default_factory=random.Random)

    async def carry(self, data: bytes, pipe: Pipe) -> None:
        spoiled = bytearray(data)
        spoiled[self.chance.randrange(len(spoiled))] ^= 1 << self.chance.randrange(8)
        await pipe.send(bytes(spoiled))
