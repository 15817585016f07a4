"""The client of the soak as a program of its own, so that the memory it tells of is the client's alone.

`python -m chaos.soak_client URL SEED SECONDS TICKET JOURNAL` makes RATE calls a second of every kind, and prints a
line of JSON a second, a `Sample`, and at the end one more, the `Account`. It keeps none of them: what it gathered
itself would look like a leak of the client. It ends by itself when nobody reads what it prints.

Parent and child agree on tickets without a word: from TICKET on, the number of a ticket tells everything about it.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import logging
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pyotp

from aioalphapoint import (
    AlphaPointError,
    AuthenticationFailed,
    Backoff,
    CallNotSent,
    CallRejected,
    Client,
    OutcomeUnknown,
    Password,
    SessionState,
    WithdrawTicket,
)
from aioalphapoint.bulk import Journal, Outcome, cancel_failed_tickets, cancel_withdraws
from aioalphapoint.reconcile import confirm_cancelled

__all__ = [
    "LISTED",
    "LISTED_CODE",
    "MOVING",
    "OPERATOR",
    "RATE",
    "TICKETS",
    "TOTP_SECRET",
    "WARM",
    "Account",
    "Sample",
    "code_of",
    "is_failed",
]

# With a second factor, because only such a login is renewed by a session token, which can expire.
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
OPERATOR = Password("operator", "a password of the operator", two_factor=lambda: pyotp.TOTP(TOTP_SECRET).now())

RATE = 50  # calls a second
TICKETS = 30  # tickets that the parent adds a second: more than the child cancels
LISTED = 7  # an account whose few tickets nobody changes: its listings do not grow
LISTED_CODE = UUID(int=LISTED)
WARM = 15  # seconds until every module is loaded, and every cache filled
MOVING = 8  # the account of the tickets to cancel

# Made once: a path that is made interns its parts and takes them back when it goes, and so wears out the interpreter's
# table of names, which was made anew after half an hour, twice as large.
_MEMORY = Path("/proc/self/statm")
_DESCRIPTORS = Path("/proc/self/fd")

_TIMEOUT = 2.5  # seconds
_TOO_LONG = 30.0  # seconds after which any call, a bulk run too, counts as hung


class Sample(NamedTuple):
    """What the child saw of itself at one moment.

    Attributes:
        second: Seconds since the start.
        memory: Bytes of memory that are resident.
        descriptors: Open file descriptors.
        tasks: Tasks of the event loop.
        in_flight: `client.stats.in_flight`.
        is_quiet: Whether the session was ready, and no call under way.
    """

    second: float
    memory: int
    descriptors: int
    tasks: int
    in_flight: int
    is_quiet: bool


@dataclass
class Account:
    """What came of it all.

    Attributes:
        calls: How many calls, by kind.
        ends: How they ended, by name.
        hung: How many did not end within half a minute, whatever their timeout.
        reconnects: How often the session was set up again.
        given_up: How often it ended for good, and was connected anew.
        heard: Events that the long-lived subscription brought.
        blocks: Pieces of memory that objects held, at quiet moments after WARM seconds and at the end.
    """

    calls: Counter[str]
    ends: Counter[str]
    hung: int = 0
    reconnects: int = 0
    given_up: int = 0
    heard: int = 0
    blocks: list[int] = field(default_factory=list)


def is_failed(number: int) -> bool:
    """Tell whether the ticket of this number is to be added as a failed one; else it is pending."""
    return number % 2 == 0


def code_of(number: int) -> UUID:
    """Give the request code of the ticket of this number."""
    return UUID(int=number)


def _ticket(number: int) -> WithdrawTicket:
    return WithdrawTicket(ticket_number=number, account_id=MOVING, request_code=str(code_of(number)))


class Callers:
    """Everybody who calls."""

    def __init__(self, client: Client, journal: Journal, chance: random.Random, first_ticket: int) -> None:
        self.account = Account(Counter(), Counter())
        self.under_way: set[asyncio.Task[None]] = set()
        self._client = client
        self._journal = journal
        self._chance = chance
        self._numbers = itertools.count(first_ticket)
        self._kinds: dict[Callable[[], Awaitable[object]], int] = {
            self._cancel: 18,
            self._read: 8,
            self._page: 4,
            self._withdraws: 2,
            self._every_page: 1,
            self._ping: 5,
            self._unknown_function: 2,
            self._impatient: 4,
            self._abandoned: 4,
            self._confirmed: 1,
            self._subscribed_for_a_moment: 1,
        }

    def start(self) -> None:
        """Let somebody call."""
        kind = self._chance.choices(list(self._kinds), list(self._kinds.values()))[0]
        self._start(kind)

    def start_rarely(self) -> None:
        """Let somebody do what takes longer."""
        self._start(self._chance.choice((self._bulk, self._every_account)))

    def _start(self, kind: Callable[[], Awaitable[object]]) -> None:
        self.account.calls[kind.__name__.strip("_").replace("_", " ")] += 1
        task = asyncio.create_task(self._run(kind))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def finish(self) -> None:
        """Wait until all have ended, and count those that do not."""
        if self.under_way:
            _, hung = await asyncio.wait(self.under_way, timeout=_TOO_LONG)
            self.account.hung += len(hung)

    async def _run(self, kind: Callable[[], Awaitable[object]]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        self.account.ends[await self._end_of(kind())] += 1
        self.account.hung += loop.time() - started > _TOO_LONG

    async def _end_of(self, call: Awaitable[object]) -> str:
        try:
            await call
        except CallNotSent:
            return "not sent"
        except OutcomeUnknown:
            return "unknown"
        except CallRejected:
            return "refused"
        except AuthenticationFailed:
            return "given up"
        except AlphaPointError:
            return "not confirmed"
        return "answered"

    # Kinds of calls.

    async def _cancel(self, timeout: float = _TIMEOUT) -> int:
        number = next(self._numbers)
        if is_failed(number):
            await self._client.cancel_failed_withdraw_ticket(ticket_id=number, timeout=timeout)
        else:
            await self._client.cancel_withdraw(account_id=MOVING, request_code=code_of(number), timeout=timeout)
        return number

    async def _confirmed(self) -> None:
        number = await self._cancel()
        await confirm_cancelled(
            self._client,
            account_id=MOVING,
            request_code=code_of(number),
            timeout=_TIMEOUT,
            was_failed=is_failed(number),
        )

    async def _impatient(self) -> None:
        await self._cancel(self._chance.choice((0.001, 0.002, 0.01, 0.1)))

    async def _abandoned(self) -> None:
        call = asyncio.create_task(self._cancel())
        await asyncio.sleep(self._chance.uniform(0.0, 0.005))
        call.cancel()
        await asyncio.wait({call})
        if not call.cancelled():
            call.result()

    async def _read(self) -> None:
        await self._client.get_withdraw_ticket(account_id=LISTED, request_code=LISTED_CODE)

    async def _page(self) -> None:
        await self._client.get_withdraw_tickets(account_id=LISTED, start_index=5, limit=10)

    async def _withdraws(self) -> None:
        await self._client.get_withdraws(account_id=LISTED)

    async def _every_page(self) -> None:
        async with aclosing(self._client.iter_withdraw_tickets(account_id=LISTED, page_size=10)) as tickets:
            async for _ in tickets:
                pass

    async def _every_account(self) -> None:
        await self._client.get_all_withdraw_tickets(limit=20)

    async def _ping(self) -> None:
        await self._client.ping()

    async def _unknown_function(self) -> None:
        await self._client.call("GetNothing", {"AccountId": LISTED})

    async def _subscribed_for_a_moment(self) -> None:
        async with self._client.subscribe_account_events(account_id=MOVING) as events:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await anext(aiter(events))

    async def _bulk(self) -> None:
        numbers = [next(self._numbers) for _ in range(12)]
        cancel, wanted = self._chance.choice(((cancel_failed_tickets, True), (cancel_withdraws, False)))
        outcomes: list[Outcome] = await cancel(
            self._client,
            [_ticket(number) for number in numbers if is_failed(number) is wanted],
            journal=self._journal,
            timeout=2.0,
            confirm_timeout=3.0,
        )
        self.account.ends.update(f"in bulk: {outcome.state}" for outcome in outcomes)

    # What goes on all the time.

    async def listen(self) -> None:
        """Hold a subscription for as long as the session lives, and make another one after that."""
        while True:
            with suppress(AlphaPointError):
                async with self._client.subscribe_all_account_events() as events:
                    await self._count(events)
            await asyncio.sleep(0.5)

    async def _count(self, events: AsyncIterable[object]) -> None:
        async for _ in events:
            self.account.heard += 1

    async def stay_connected(self) -> None:
        """Connect anew whenever the session was given up, as after a login that was refused."""
        while True:
            await self._client.wait_for_state(SessionState.FAILED)
            self.account.given_up += 1
            await asyncio.sleep(0.5)
            with suppress(AlphaPointError):
                await self._client.connect()


def _sample(second: float, client: Client, callers: Callers) -> Sample:
    pages = int(_MEMORY.read_text().split()[1])
    is_idle = client.stats.in_flight == 0 and not callers.under_way
    return Sample(
        second=round(second, 3),
        memory=pages * os.sysconf("SC_PAGESIZE"),
        descriptors=sum(1 for _ in _DESCRIPTORS.iterdir()) - 1,  # one is of the listing itself
        tasks=len(asyncio.all_tasks()),
        in_flight=client.stats.in_flight,
        is_quiet=is_idle and client.state is SessionState.READY,
    )


def _blocks() -> int:
    gc.collect()  # what only hangs together with itself would go sooner or later
    return sys.getallocatedblocks()


async def _settled(take: Callable[[], Sample]) -> Sample:
    """Give a sample of a quiet moment, or of what there is when none comes."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _TOO_LONG
    while not (sample := take()).is_quiet and loop.time() < end:
        await asyncio.sleep(0.05)  # an outage may have to pass
    return sample


async def _run(url: str, seed: int, seconds: float, first_ticket: int, journal: str) -> None:
    loop = asyncio.get_running_loop()
    backoff = Backoff(first=0.1, cap=1.0)
    client = Client(url, OPERATOR, timeout=_TIMEOUT, connect_timeout=_TIMEOUT, ping_interval=2.0, reconnect=backoff)
    async with client:
        callers = Callers(client, Journal(journal), random.Random(seed), first_ticket)
        account = callers.account
        background = [asyncio.create_task(callers.listen()), asyncio.create_task(callers.stay_connected())]
        began = loop.time()

        def take() -> Sample:
            return _sample(loop.time() - began, client, callers)

        print(json.dumps(await _settled(take)), flush=True)  # from here on things go wrong
        for turn in range(int(seconds * RATE)):
            await asyncio.sleep(began + turn / RATE - loop.time())
            if turn % RATE == RATE - 1:
                print(json.dumps(take()), flush=True)
            if turn == WARM * RATE:
                await _settled(take)  # the calls that are due meanwhile are made up for
                account.blocks.append(_blocks())
            if turn % (10 * RATE) == RATE // 2:
                callers.start_rarely()
            else:
                callers.start()
        await callers.finish()
        print(json.dumps(await _settled(take)), flush=True)
        account.blocks.append(_blocks())
        account.reconnects = client.stats.reconnects
        for task in background:
            task.cancel()
        await asyncio.wait(background)
    print(json.dumps(vars(account)), flush=True)


if __name__ == "__main__":
    # What is broken on purpose is logged a thousand times over. What asyncio complains of is not.
    logging.getLogger("aioalphapoint").addHandler(logging.NullHandler())
    logging.getLogger("aioalphapoint").propagate = False
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
