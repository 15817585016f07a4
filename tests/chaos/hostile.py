"""Hostile frames at a live client, and replies that come when nobody waits for them any more.

The server of the hostile frames is a process of its own: what memory grows by is the client's, measured as the resident
set of the process in which the client runs (`/proc/self/statm`), from the end of a warm-up to the highest sample after
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from websockets.asyncio.server import ServerConnection

from aioalphapoint import AlphaPointError, Backoff, CallRejected, Client, UnexpectedReply
from aioalphapoint._pending import PendingCalls
from scripted import reply, scripted
from wire import CODE

from .frames import Frames
from .table import Line

__all__ = ["Seen", "frames_seen", "hostile_frames", "late_replies"]

_TIMEOUT = 5.0  # seconds that each good call is given
_PATIENCE = 20.0  # seconds without any progress that count as a hang

_GOOD, _VICTIMS = 50, 4  # calls in flight at any time: those answered well, and those answered by hostile payloads
_BURST = 40  # hostile frames at most between two answers
_IMPOSTORS = 0.5  # of the answers come after a frame that bears their number, and is no answer

_WARM_UP = 20_000  # frames
_MEMORY = 50.0  # MiB that it may grow by
_SAMPLED = 0.2  # seconds between two samples

# A hostile frame that bears a pending number is the answer to that call, and nobody can know better: those come as the
# answers to victims alone. All others bear numbers that are never given out, or were before the first of them came.
_PAST, _NEVER = 200, 10**9
_NUMBERS = (-2, -1, 0, 1, 3, 2, 4, 20, 101, 2**31, 2**40, 2**53 + 1, 2**63 - 1, -(2**63))
_NUMBER = re.compile(rb'"i"\s*:\s*(\d{3,9})(?!\d)')


@dataclass
class Seen:
    """What came of hostile frames.

    Attributes:
        frames: How many came, by what the client counts: dropped, late, events.
        answered: Good calls that were answered right.
        victims: How calls ended that were answered by hostile payloads, by what they gave or raised.
        wrong: What must not be, in words.
        hangs: Good calls without an answer, and standstills.
        slowest: What the slowest good call took, in seconds.
        grown: By how much memory grew, in MiB.
    """

    frames: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    victims: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    hangs: int = 0
    slowest: float = 0.0
    grown: float = 0.0


async def hostile_frames(seed: int, count: int) -> Line:
    """Send a client so many hostile frames, while calls are in flight all the time, and say what came of it."""
    seen = await frames_seen(seed, count)
    kinds = ", ".join(f"{number:,} {name}" for name, number in seen.frames.items())
    return Line(
        tried=f"{count:,} hostile frames ({kinds}), and hostile answers to {seen.victims.total():,} calls",
        seen=f"{len(seen.wrong)} crashes, {seen.hangs} hangs, {seen.grown:.1f} MiB more memory, "
        f"{seen.answered:,} good calls answered right meanwhile, "
        f"the slowest in {seen.slowest:.2f} s{_told(seen.wrong)}",
        allowed=f"0, 0, under {_MEMORY:.0f} MiB; every good call answered, within {_TIMEOUT:.0f} s",
        holds=not seen.wrong and not seen.hangs and seen.grown < _MEMORY and seen.slowest < _TIMEOUT,
    )


async def frames_seen(seed: int, count: int) -> Seen:
    """Do what `hostile_frames` does, and give what was seen."""
    seen = Seen()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.wrong.append(f"the loop: {context}"))
    async with (
        _server(seed, count) as url,
        Client(url, timeout=_TIMEOUT, ping_interval=None, reconnect=Backoff(first=0.01, cap=0.1)) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        with client.events(size=100):  # nobody reads these
            await _Callers(client, events, seen, count).run()
        stats = client.stats
        if stats.reconnects or stats.in_flight:
            seen.wrong.append(f"{stats.reconnects} reconnects, {stats.in_flight} calls in the table")
        seen.frames.update(dropped=stats.dropped_frames, late=stats.late_replies, events=stats.events)
    if seen.frames.total() != count:
        seen.wrong.append(f"{seen.frames.total()} frames were counted")
    return seen


class _Callers:
    """Those who call the client all the time, and look at what comes."""

    def __init__(self, client: Client, events: AsyncIterator[object], seen: Seen, count: int) -> None:
        self._client = client
        self._events = events
        self._seen = seen
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._token = 0
        self._is_over = False

    @property
    def _came(self) -> int:
        stats = self._client.stats
        return stats.dropped_frames + stats.late_replies + stats.events

    async def run(self) -> None:
        calls = [self._good] * _GOOD + [self._victim] * _VICTIMS
        tasks = [asyncio.create_task(self._repeat(call)) for call in calls]
        tasks += [asyncio.create_task(self._listen()), asyncio.create_task(self._measure())]
        came, moved = 0, self._loop.time()
        while self._came < self._count and self._loop.time() - moved < _PATIENCE and not self._seen.wrong:
            await asyncio.wait(tasks, timeout=_SAMPLED, return_when=asyncio.FIRST_EXCEPTION)
            self._seen.wrong += [f"{task}" for task in tasks if task.done()]
            if self._came != came:
                came, moved = self._came, self._loop.time()
        self._seen.hangs += self._came < self._count and not self._seen.wrong
        self._is_over = True
        await asyncio.wait(tasks[: len(calls)], timeout=2 * _TIMEOUT)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._good()  # the table serves the next call as before

    async def _repeat(self, call: Callable[[], Awaitable[None]]) -> None:
        while not self._is_over:
            await call()

    async def _good(self) -> None:
        self._token += 1
        token, started = self._token, self._loop.time()
        answer: object
        try:
            answer = await self._client.call("Echo", {"Token": token})
        except AlphaPointError as error:
            self._seen.hangs += 1
            answer = error
        self._seen.slowest = max(self._seen.slowest, self._loop.time() - started)
        if answer == {"Token": token}:
            self._seen.answered += 1
        else:
            self._seen.wrong.append(f"Echo {token}: {answer!r}")

    async def _victim(self) -> None:
        self._token += 1
        client = self._client
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.cancel_failed_withdraw_ticket(ticket_id=292),
            lambda: client.get_withdraws(account_id=7),
            lambda: client.get_withdraw_ticket(account_id=7, request_code=CODE),
            lambda: client.get_withdraw_tickets(account_id=7),
            lambda: client.call("GetSomething"),
        ]
        answer: object
        try:
            answer = await calls[self._token % len(calls)]()
        except (CallRejected, UnexpectedReply) as error:
            answer = error
        except AlphaPointError as error:
            self._seen.wrong.append(f"a victim: {error!r}")
            return
        self._seen.victims[type(answer).__name__] += 1

    async def _listen(self) -> None:
        async for _ in self._events:
            pass

    async def _measure(self) -> None:
        while self._came < min(_WARM_UP, self._count // 2):
            await asyncio.sleep(_SAMPLED / 10)
        gc.collect()
        before = _resident()
        while True:
            self._seen.grown = max(self._seen.grown, _resident() - before)
            await asyncio.sleep(_SAMPLED)


def _resident() -> float:
    """Give the memory that this process holds, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _told(wrong: list[str]) -> str:
    return f" ({wrong[0][:200]})" if wrong else ""


async def late_replies(seed: int, count: int) -> Line:
    """Cancel so many callers, let the replies come late and in any order, and say what came of it."""
    chance = random.Random(seed)
    wrong: list[str] = []
    cancelled = answered = most = 0
    async with scripted(_Holding(chance).run) as url, Client(url, timeout=30.0, ping_interval=None) as client:
        while cancelled < count and not wrong:
            size = min(chance.randrange(1, 900), 2 * (count - cancelled))
            calls = [asyncio.create_task(client.call("Hold", {"Token": token})) for token in range(size)]
            leaving = chance.sample(range(size), min(chance.randrange(size + 1), count - cancelled))
            early = set(chance.sample(leaving, len(leaving) // 10))
            for token in early:  # before their first step: they are not sent
                calls[token].cancel()
            await asyncio.sleep(0)
            most = max(most, client.stats.in_flight)
            for token in leaving:
                calls[token].cancel()
            before = client.stats.late_replies
            assert await client.call("Release") == size - len(early)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            wrong += _wrong(outcomes, set(leaving))
            late, lost = client.stats.late_replies - before, len(leaving) - len(early)
            if (late, client.stats.in_flight, len(_table(client))) != (lost, 0, 0):
                wrong.append(f"{late} late replies for {lost} callers, {client.stats.in_flight} calls in the table")
            cancelled, answered = cancelled + len(leaving), answered + size - len(leaving)
    return Line(
        tried=f"{cancelled:,} cancelled calls with late replies, in any order, among {answered:,} that waited on, "
        f"up to {most:,} in flight",
        seen=f"{'the table empty' if not wrong else 'wrong'} after each round, every other call right, the next one too"
        if not wrong
        else _told(wrong),
        allowed="the table empty, every other call right",
        holds=not wrong and cancelled == count,
    )


def _wrong(outcomes: Sequence[object], leaving: set[int]) -> list[str]:
    return [
        f"call {token}: {outcome!r}"
        for token, outcome in enumerate(outcomes)
        if not (isinstance(outcome, asyncio.CancelledError) if token in leaving else outcome == {"Token": token})
    ]


def _table(client: Client) -> PendingCalls:
    connection = client._session._connection
    assert connection is not None
    return connection._pending


class _Holding:
    """A script that holds every reply back until it is asked to let them go."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def run(self, socket: ServerConnection) -> None:
        held: list[str] = []
        async for request in socket:
            frame = json.loads(request)
            if frame["n"] == "Hold":
                held.append(reply(request, frame["o"]))
                continue
            self._chance.shuffle(held)
            for answer in held:
                await socket.send(answer)
            await socket.send(reply(request, f"{len(held)}"))
            held.clear()


# The other end, in a process of its own.


@asynccontextmanager
async def _server(seed: int, count: int) -> AsyncIterator[str]:
    """Run the server of the hostile frames in a process, and give its address."""
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
        if b"ogout" in message.lower():  # an order to log in anew, which is obeyed
            return
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
            await self._socket.send(json.dumps({**frame, "m": self._chance.choice((0, 2, 3, 4)), "o": "wrong"}))
        if frame["n"] == "Echo":
            await self._socket.send(reply(request, frame["o"]))
        else:
            await self._socket.send(self._hostile_reply(frame["i"]), text=True)

    def _hostile_reply(self, number: int) -> bytes:
        payload = json.dumps(self._frames.payload())
        return f'{{"m":{self._chance.choice("11115")},"i":{number},"n":"F","o":{payload}}}'.encode("utf-8", "replace")
