"""Hostile frames at a live client, and replies that come when nobody waits for them any more.

The server of the hostile frames is a process of its own (flood.py), so what memory grows by is the client's. It is
measured as the resident set of the process in which the client runs (`/proc/self/statm`), from the end of a warm-up to
the highest sample after it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from websockets.asyncio.server import ServerConnection

from aioalphapoint import AlphaPointError, Backoff, CallRejected, Client, UnexpectedReply
from aioalphapoint._pending import PendingCalls
from scripted import reply, scripted
from wire import CODE

from .flood import flood
from .table import Line

__all__ = ["Seen", "frames_seen", "hostile_frames", "late_replies"]

_TIMEOUT = 5.0  # seconds that each good call is given
_PATIENCE = 20.0  # seconds without any progress that count as a hang

_GOOD, _VICTIMS = 50, 4  # calls in flight at any time: those answered well, and those answered by hostile payloads

_WARM_UP = 20_000  # frames
_MEMORY = 50.0  # MiB that it may grow by
_SAMPLED = 0.2  # seconds between two samples


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
        f"the slowest in {seen.slowest:.2f} s. {_told(seen.wrong)}".rstrip(". "),
        allowed=f"0, 0, under {_MEMORY:.0f} MiB; every good call answered, within {_TIMEOUT:.0f} s",
        holds=not seen.wrong and not seen.hangs and seen.grown < _MEMORY and seen.slowest < _TIMEOUT,
    )


async def frames_seen(seed: int, count: int) -> Seen:
    """Do what `hostile_frames` does, and give what was seen."""
    seen = Seen()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.wrong.append(f"the loop: {context}"))
    async with (
        flood(seed, count) as url,
        Client(url, timeout=_TIMEOUT, ping_interval=None, reconnect=Backoff(first=0.01, cap=0.1)) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        with client.events(size=100):  # nobody reads these
            await _Callers(client, events, seen, count).run()
        stats = client.stats
        left = len(_table(client))
        if stats.reconnects or stats.in_flight or left:
            seen.wrong.append(f"{stats.reconnects} reconnects, {stats.in_flight} callers, {left} calls in the table")
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
    return f"{len(wrong)} wrong: {wrong[0][:200]}" if wrong else ""


async def late_replies(seed: int, count: int) -> Line:
    """Cancel so many callers, let the replies come late and in any order, and say what came of it."""
    chance, seen = random.Random(seed), _Rounds()
    async with scripted(_Holding(chance).run) as url, Client(url, timeout=30.0, ping_interval=None) as client:
        while seen.cancelled < count and not seen.wrong:
            await _round(client, chance, count - seen.cancelled, seen)
    good = "the table empty after each round, each reply counted as late, every other call right, the next one too"
    return Line(
        tried=f"{seen.cancelled:,} cancelled calls with late replies, in any order, among {seen.answered:,} that "
        f"waited on, up to {seen.most:,} in flight",
        seen=_told(seen.wrong) or good,
        allowed="the table empty, every other call right",
        holds=not seen.wrong and seen.cancelled == count,
    )


@dataclass
class _Rounds:
    cancelled: int = 0
    answered: int = 0
    most: int = 0
    wrong: list[str] = field(default_factory=list)


async def _round(client: Client, chance: random.Random, most: int, seen: _Rounds) -> None:
    """Make calls, cancel some of them, at most so many, and let the replies to all of them come."""
    late_before = client.stats.late_replies
    size = chance.randrange(1, 900)
    calls = [asyncio.create_task(client.call("Hold", {"Token": token})) for token in range(size)]
    leaving = chance.sample(range(size), min(chance.randrange(size + 1), most))
    unsent = leaving[: len(leaving) // 10]
    for token in unsent:  # before their first step
        calls[token].cancel()
    await asyncio.sleep(0)  # they are on their way
    await asyncio.sleep(0)  # and their frames are written, together
    seen.most = max(seen.most, client.stats.in_flight)
    for token in leaving:
        calls[token].cancel()
    held = await client.call("Release")  # answered after all the others
    seen.wrong += _wrong(await asyncio.gather(*calls, return_exceptions=True), set(leaving))
    late, lost = client.stats.late_replies - late_before, len(leaving) - len(unsent)
    if (held, late, client.stats.in_flight, len(_table(client))) != (size - len(unsent), lost, 0, 0):
        seen.wrong.append(f"{held} calls of {size} were sent, {late} of {lost} replies were late, {client!r}")
    seen.cancelled += len(leaving)
    seen.answered += size - len(leaving)


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
