"""A server of hostile frames, in a process of its own: what it costs to make them is not the client's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection

from websockets.asyncio.server import ServerConnection

from scripted import reply, scripted

from .frames import Frames

__all__ = ["flood"]

_BURST = 40  # hostile frames at most between two answers
_IMPOSTORS = 0.5  # of the answers come after a frame that bears their number, and is no answer

# A hostile reply that bears a pending number is the answer to that call, and nobody can know better: those come as the
# answers to victims alone. All others bear numbers that are never given out, or were before the first of them came.
_PAST, _NEVER = 200, 10**9
_NUMBERS = (-2, -1, 0, 1, 3, 2, 4, 20, 101, 2**31, 2**40, 2**53 + 1, 2**63 - 1, -(2**63))
_NUMBER = re.compile(rb'"i"\s*:\s*(\d{3,9})(?!\d)')


@asynccontextmanager
async def flood(seed: int, count: int) -> AsyncIterator[str]:
    """Run a server that sends so many hostile frames, and give its address.

    The first call on a connection is answered as a subscription, `Echo` by its own payload, and all others by hostile
    payloads.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(seed, count, there), daemon=True)
    await asyncio.to_thread(process.start)
    there.close()
    try:
        yield await asyncio.to_thread(here.recv)
    finally:
        here.close()  # the process ends by it
        await asyncio.to_thread(process.join)


def _serve(seed: int, count: int, parent: Connection) -> None:
    async def main() -> None:
        async with scripted(lambda socket: _Hostile(seed, count, socket).run()) as url:
            parent.send(url)
            with contextlib.suppress(EOFError):
                await asyncio.to_thread(parent.recv)

    asyncio.run(main())


class _Hostile:
    """The script of one connection: hostile frames in bursts, and between them the answers to what was asked."""

    def __init__(self, seed: int, count: int, socket: ServerConnection) -> None:
        self._count = count
        self._socket = socket
        self._frames = Frames(seed, _NUMBERS)
        self._chance = random.Random(seed)
        self._asked: list[str | bytes] = []

    async def run(self) -> None:
        await self._socket.send(reply(await self._socket.recv(), '{"Subscribed":true}'))
        for _ in range(_PAST // 2):
            await self._send_answer(await self._socket.recv())
        reader = asyncio.create_task(self._read())
        try:
            while self._count:
                for _ in range(min(self._count, self._chance.randrange(1, _BURST))):
                    await self._send_hostile()
                await self._answer()
                await asyncio.sleep(0)
            while True:
                await self._answer()
                await asyncio.sleep(0.001)
        finally:
            reader.cancel()

    async def _read(self) -> None:
        async for request in self._socket:
            self._asked.append(request)

    async def _send_hostile(self) -> None:
        message = self._frames.message()
        if any(_PAST < int(number) < _NEVER for number in _NUMBER.findall(message)):  # it may be pending
            return
        self._count -= 1
        match self._chance.randrange(50):
            case 0:
                await self._socket.send(message)  # binary
            case 1 if message:
                middle = len(message) // 2
                await self._socket.send(iter([message[:middle], message[middle:]]), text=True)
            case _:
                await self._socket.send(message, text=True)

    async def _answer(self) -> None:
        """Answer a few of those that wait, in any order."""
        for _ in range(min(len(self._asked), self._chance.randrange(6))):
            place = self._chance.randrange(len(self._asked))
            self._asked[place], self._asked[-1] = self._asked[-1], self._asked[place]
            await self._send_answer(self._asked.pop())

    async def _send_answer(self, request: str | bytes) -> None:
        frame = json.loads(request)
        if self._count and self._chance.random() < _IMPOSTORS:
            self._count -= 1
            kind = self._chance.choice((0, 1, 2, 3, 4))
            impostor = json.dumps({**frame, "m": kind, "o": "wrong"}).encode()
            await self._socket.send(impostor, text=kind != 1)  # a reply that is binary is none
        if frame["n"] == "Echo":
            await self._socket.send(reply(request, frame["o"]))
        else:
            await self._socket.send(self._hostile_reply(frame["i"]), text=True)

    def _hostile_reply(self, number: int) -> bytes:
        payload = json.dumps(self._frames.payload())
        return f'{{"m":{self._chance.choice("11115")},"i":{number},"n":"F","o":{payload}}}'.encode("utf-8", "replace")
