"""aioalphapoint: `cancel_withdraw` as a program calls it, arguments and answer validated, with its deadline."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from uuid import UUID

from aiolimiter import AsyncLimiter

from aioalphapoint import Client, Password, WithdrawTicket
from aioalphapoint.bulk import Outcome, OutcomeState, cancel_withdraws
from speed.program import CODE, Answer, Commands, Settings, measured, serve

from .calls import keep_in_flight
from .memory import held_by

__all__: list[str] = []

_MOST = 200_000  # calls in flight: the default is 1,000
_ROOM = 2**26  # bytes of a message: 10,000 tickets are near the default of 16 MiB
_DEADLINE = 120.0  # seconds: with 100,000 in flight a call may wait longer than the default of 10 s


class _Contestant:
    def __init__(self, settings: Settings) -> None:
        self._tls = ssl.create_default_context(cafile=settings.authority) if settings.url.startswith("wss:") else None
        self._url = settings.url
        self.client = self._new_client()
        self._cancel = partial(self.client.cancel_withdraw, account_id=7, request_code=CODE)

    def _new_client(self, limiter: AsyncLimiter | None = None) -> Client:
        who = Password("alice", "a password of alice")
        return Client(
            self._url,
            who,
            timeout=_DEADLINE,
            max_in_flight=_MOST,
            max_message_size=_ROOM,
            limiter=limiter,
            ssl=self._tls,
        )

    async def about(self) -> Answer:
        names = ("aioalphapoint", "pydantic", "websockets")
        return {"versions": {name: version(name) for name in names}}

    async def calls(self, calls: int, at_once: int) -> Answer:
        return await measured(keep_in_flight(self._cancel, calls, at_once))

    async def uncollected(self, calls: int, at_once: int) -> Answer:
        """Make calls while Python does not look for garbage."""
        gc.collect()
        gc.disable()
        try:
            return await self.calls(calls, at_once)
        finally:
            gc.enable()

    async def gather(self, calls: int, at_once: int) -> Answer:
        """Make the calls in batches, a task a call, as `asyncio.gather` does."""

        async def work() -> None:
            for _ in range(calls // at_once):
                await asyncio.gather(*[self._cancel() for _ in range(at_once)])

        return await measured(work())

    async def times(self, calls: int) -> Answer:
        """Tell what each of some calls took, one after another."""
        seconds: list[float] = []
        await keep_in_flight(partial(_timed, self._cancel, seconds), calls, 1)
        return {"seconds": seconds}

    async def hold(self, calls: int, traced: bool) -> Answer:  # noqa: FBT001  (named in a line of JSON)
        """Tell the bytes that calls take which are not answered, the tasks that wait for them included."""
        before = self.client.stats.sent

        async def sent() -> None:
            while self.client.stats.sent < before + calls:  # noqa: ASYNC110  (nothing tells of what was sent)
                await asyncio.sleep(0.05)

        return await held_by(self._cancel, calls, sent, traced=traced)

    async def storm(self, bursts: int, size: int, every: float, at_once: int) -> Answer:
        """Keep calls in flight while events come in bursts that nobody is interested in."""
        seconds: list[float] = []
        events = self.client.stats.events
        order = {"Bursts": bursts, "Size": size, "Every": every}

        async def work(storm: asyncio.Task[object]) -> None:
            while not storm.done():
                await _timed(self._cancel, seconds)

        async def weather() -> None:
            storm: asyncio.Task[object] = asyncio.create_task(self.client.call("Storm", order))
            await asyncio.gather(storm, *[work(storm) for _ in range(at_once)])

        answer = await measured(weather())
        return answer | {"events": self.client.stats.events - events, "seconds": seconds}

    async def listing(self, tickets: int, times: int) -> Answer:
        """Read a list of tickets, so many times."""
        return await measured(keep_in_flight(partial(self._list, tickets), times, 1))

    async def held_up(self, tickets: int) -> Answer:
        """Tell the longest turn of the event loop while a list of tickets is asked for and read."""
        loop = asyncio.get_running_loop()
        longest, last, is_over = 0.0, time.perf_counter(), False

        def turn() -> None:
            nonlocal longest, last
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
            if not is_over:
                loop.call_soon(turn)

        loop.call_soon(turn)
        await self._list(tickets)
        await asyncio.sleep(0)  # the turn in which the list was given
        is_over = True
        return {"longest": longest}

    async def _list(self, tickets: int) -> list[WithdrawTicket]:
        listed = await self.client.get_withdraw_tickets(account_id=7, limit=tickets)
        assert len(listed) == tickets
        return listed

    async def first(self) -> Answer:
        """Make one call, which waits for a session if there is none, and tell when it was answered."""
        await self._cancel()
        return {"when": time.monotonic()}

    async def bulk(self, tickets: int, rate: float, confirm: bool) -> Answer:  # noqa: FBT001  (as above)
        """Cancel many tickets over a session of its own; `rate` is in calls a second, 0 without a limiter."""
        listed = [
            WithdrawTicket(ticket_number=number, account_id=7, request_code=str(UUID(int=number)))
            for number in range(1, tickets + 1)
        ]
        async with self._new_client(AsyncLimiter(rate / 10, 0.1) if rate else None) as client:
            outcomes: list[Outcome] = []
            before = client.stats.sent  # a limiter lets the login pass
            answer = await measured(cancel_withdraws(client, listed, confirm=confirm, on_outcome=outcomes.append))
            wanted = OutcomeState.CONFIRMED if confirm else OutcomeState.ACCEPTED
            assert [it.state for it in outcomes] == [wanted] * tickets
            return answer | {"calls": client.stats.sent - before}


async def _timed(call: Callable[[], Awaitable[object]], seconds: list[float]) -> None:
    started = time.perf_counter()
    await call()
    seconds.append(time.perf_counter() - started)


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    # What is broken on purpose is logged at WARNING, which is nobody's concern here.
    logging.basicConfig(handlers=[logging.NullHandler()])
    contestant = _Contestant(settings)
    names = ("about", "calls", "uncollected", "gather", "times", "hold", "storm", "listing", "held_up", "first", "bulk")
    async with contestant.client:
        yield {name: getattr(contestant, name) for name in names}


if __name__ == "__main__":
    serve(_program)
