"""The storm: calls of every kind, up to a thousand in flight, while everything goes wrong that can.

A seed decides which calls are made, which faults happen in which state of the session, and for how long. Two runs of
one seed try the same things; since the network and the clock are real, they need not meet in the same microsecond.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pyotp

from aioalphapoint import (
    AlphaPointError,
    ApiKey,
    Backoff,
    Client,
    Password,
    SessionState,
    WithdrawTicketUpdateEvent,
)
from certificates import certified

from .calls import KINDS, Kind
from .lag import FirstStep, Lag
from .ledger import Told, Verdict, judge
from .proxy import Proxy
from .weather import FAULTS, Weather
from .witness import Witness

__all__ = ["Tally", "storm"]

_PASSWORD = Password("operator", "a password of the operator")
_API_KEY = ApiKey("key of the operator", "secret of the operator", user_id=1)
_TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
_TWO_FACTORS = replace(_PASSWORD, two_factor=lambda: pyotp.TOTP(_TOTP_SECRET).now())
_CREDENTIALS = (_PASSWORD, _API_KEY, _TWO_FACTORS)

# Seconds that calls are given; the shortest are over before most faults are.
_TIMEOUTS = (0.02, 0.1, 0.5, 1.0, 3.0)

# How many calls an act begins with, and its weight; the largest is more than the client takes.
_LOADS = {10: 20, 30: 14, 100: 5, 300: 1, 1050: 0.4}

# Seconds that a fault lasts. Black holes and frozen ways that last longer than a ping waits are what the last is for.
_LASTS = {0.05: 30, 0.2: 12, 1.0: 3, 6.0: 0.3}

# How often the storm holds its breath after an act, and lets calls meet a session that nothing happens to.
_PAUSES = 0.5

_CANCELLED = 0.05  # of the calls' tasks, each at a moment of its own

# What a call may take beyond its deadline and what the loop lagged, in seconds; likewise a close in all.
_LATE = 0.05
_CLOSED_WITHIN = 2.0

# Seconds after the longest timeout when a call that has not ended counts as hung.
_PATIENCE = 10.0

# What a client asks without being asked to: a ping, and the subscription again after a reconnect.
_ASKED_BY_ITSELF = frozenset({"Ping", "SubscribeAllAccountEvents"})

_EXPECTED = frozenset({"Error on transport creation for incoming connection", "SSL handshake failed"})

# Seconds after which a connect or a close that does not end ends the storm, by TimeoutError.
_STUCK = 30.0

_Drawn = TypeVar("_Drawn")


@dataclass
class Tally:
    """What a storm came to.

    Attributes:
        calls: How many calls were made.
        disconnects: How many logged-in sessions ended otherwise than by their client.
        hung: Calls that had not ended ten seconds after the last deadline, when nothing was wrong any more.
        late: Calls that ended more than 50 ms after their deadline, and closes that took longer than 2 s, both beyond
            what the loop lagged; a sentence each.
        worst_late: The latest call, in seconds beyond what the loop lagged.
        worst_lag: The latest tick of the loop, in seconds.
        events: Events of cancelled tickets that a subscription heard.
        most_in_flight: The most calls that waited for a reply at once.
        verdict: What the exchange's journal says to what callers were told.
        faults: How often each fault happened, by the state of the session and its name.
        left: What was left behind when all was closed, in words.
    """

    calls: int = 0
    disconnects: int = 0
    hung: int = 0
    late: list[str] = field(default_factory=list)
    worst_late: float = 0.0
    worst_lag: float = 0.0
    events: int = 0
    most_in_flight: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    faults: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """One sentence for each thing that is wrong."""
        hung = [f"{self.hung} calls hung"] if self.hung else []
        return self.verdict.problems + hung + self.late + self.left


async def storm(seed: int, calls: int, disconnects: int = 0) -> Tally:
    """Run one storm of at least so many calls and disconnects, on an exchange of its own, and judge it."""
    before = _held()
    tally = Tally()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: _hear(context, tally))
    async with _weather(seed) as (weather, client):
        with Lag() as lag:
            storm = _Storm(client, weather, lag, tally)
            await storm.run(calls, disconnects)
        tally.worst_lag = lag.worst
        if client.stats.in_flight:
            tally.left.append(f"{client.stats.in_flight} calls in the table")
        tally.disconnects = storm.disconnects
    tally.verdict = judge(storm.told, weather.exchange.journal)
    tally.left += await _still_held(before)
    return tally


@asynccontextmanager
async def _weather(seed: int) -> AsyncIterator[tuple[Weather, Client]]:
    is_tls, credentials = seed % 2 == 0, _CREDENTIALS[seed // 2 % len(_CREDENTIALS)]
    has_token = credentials is _TWO_FACTORS
    server, trust = certified()
    exchange = Witness()
    exchange.add_user(
        _PASSWORD.user_name,
        _PASSWORD.password,
        user_id=1,
        permissions=["Operator", "Trading", "Withdraw"],
        api_key=_API_KEY.api_key,
        api_secret=_API_KEY.secret,
        totp_secret=_TOTP_SECRET if has_token else None,
    )
    async with (
        exchange,
        Proxy(exchange.url, takes_off=server if is_tls else None) as inner,
        Proxy(inner.url) as proxy,
    ):
        client = Client(
            proxy.url,
            credentials,
            timeout=_TIMEOUTS[-1],
            connect_timeout=1.0,
            ping_interval=0.2,
            reconnect=Backoff(first=0.01, cap=0.1),
            ssl=trust if is_tls else None,
        )
        yield Weather(exchange, proxy, random.Random(seed), is_tls, has_token), client


class _Storm:
    """One client in one weather. Each act of it brings the session to a state, and lets a fault begin there."""

    def __init__(self, client: Client, weather: Weather, lag: Lag, tally: Tally) -> None:
        self.told: list[Told] = []
        self._closed_sessions = 0
        self._client = client
        self._weather = weather
        self._chance = weather.chance
        self._lag = lag
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._running: set[asyncio.Task[None]] = set()
        self._cancelled: set[asyncio.Task[None] | None] = set()  # by this storm

    @property
    def disconnects(self) -> int:
        """How many sessions have ended, so far, that the exchange had let in and the client has not closed."""
        return self._weather.exchange.logins - self._closed_sessions

    async def run(self, calls: int, disconnects: int) -> None:
        """Let act follow act until there were so many calls and disconnects; then wait for all to end, and close."""
        acts = list(FAULTS)
        listener = asyncio.create_task(self._listen())
        while self._tally.calls < calls or self.disconnects < disconnects:
            self._chance.shuffle(acts)
            for state in acts:
                await self._stand_up()
                await self._act(state)
                if self._chance.random() < _PAUSES:
                    await self._quiet()
                    self._call_many()
        await self._stand_up()
        await self._wait_for_all()
        await self._close()  # not before that: it would end those that hang
        await self._look_for_sockets()
        listener.cancel()
        await asyncio.wait({listener})

    async def _listen(self) -> None:
        """Hear of every ticket that is cancelled, for as long as there is somebody to subscribe to."""
        while True:
            await self._client.wait_for_state(SessionState.READY)
            with suppress(AlphaPointError):
                async with self._client.subscribe_all_account_events() as events:
                    async for event in events:
                        self._tally.events += isinstance(event, WithdrawTicketUpdateEvent)

    async def _wait_for_all(self) -> None:
        if not self._running:
            return
        _, hung = await asyncio.wait(self._running, timeout=_TIMEOUTS[-1] + _PATIENCE)
        self._tally.hung = len(hung)
        for task in hung:
            self._cancel(task)
        if hung:
            await asyncio.wait(hung, timeout=_PATIENCE)

    async def _look_for_sockets(self) -> None:
        """Look while the proxy still stands: its own end would end them."""
        links = self._weather.proxy.links
        for _ in range(100):
            if all(link.is_left for link in links):
                return
            await asyncio.sleep(0.01)
        self._tally.left.append(f"{sum(not link.is_left for link in links)} sockets of the client")

    async def _stand_up(self) -> None:
        """Connect where there is no session and none will come by itself."""
        while self._client.state in {SessionState.IDLE, SessionState.FAILED, SessionState.CLOSED}:
            with suppress(AlphaPointError):  # the last fault may still be felt
                async with asyncio.timeout(_STUCK):
                    await self._client.connect()

    async def _act(self, state: str) -> None:
        faults = self._weather.faults(state)
        name = self._chance.choice(list(faults))
        self._tally.faults[f"{state}: {name}"] += 1
        lasts = self._drawn(_LASTS)
        match state:
            case "idle":
                await self._quiet()
                async with faults[name](self._weather):
                    await asyncio.sleep(lasts)
                    self._call_many()
                    await asyncio.sleep(lasts)
            case "loaded":
                with self._weather.exchange.faults.delay(self._chance.uniform(0, 0.1)):
                    self._call_many()
                    await self._some_turns()
                    async with faults[name](self._weather):
                        self._call_many()
                        await asyncio.sleep(lasts)
            case "closing":
                self._call_many()
                await self._some_turns()
                closing = asyncio.create_task(self._close())
                await self._some_turns()
                async with faults[name](self._weather):
                    await asyncio.sleep(lasts)
                    await closing
            case _:
                async with faults[name](self._weather):
                    self._weather.proxy.reset()
                    self._call_many()
                    await asyncio.sleep(lasts)

    async def _close(self) -> None:
        was_ready = self._client.state is SessionState.READY
        started = self._loop.time()
        async with asyncio.timeout(_STUCK):
            await self._client.close()
        self._closed_sessions += was_ready
        if any(task.get_name() == "aioalphapoint session" for task in asyncio.all_tasks()):
            self._tally.left.append("the session's task, after a close")
        await asyncio.sleep(0)  # callers hear of it
        await asyncio.sleep(0)
        if self._client.stats.in_flight:
            self._tally.left.append(f"{self._client.stats.in_flight} calls after a close")
        late = self._loop.time() - started - _CLOSED_WITHIN - self._lag.after(started)
        if late > 0:
            self._tally.late.append(f"a close was late by {late:.3f} s")

    async def _quiet(self) -> None:
        with suppress(TimeoutError):  # it may be down, and that is as good a moment
            await self._client.wait_for_state(SessionState.READY, timeout=1.0)
        if self._running:
            await asyncio.wait(self._running, timeout=1.0)
        connection = self._client._session._connection
        if not self._running and connection is not None:
            left = {call.function for call in connection._pending._calls.values()} - _ASKED_BY_ITSELF
            self._tally.left += [f"{function} in the table, and nobody waits for it" for function in left]

    async def _some_turns(self) -> None:
        for _ in range(self._chance.randrange(30)):
            await asyncio.sleep(0)

    def _call_many(self) -> None:
        for _ in range(self._drawn(_LOADS)):
            kind = self._chance.choice(KINDS)
            number = self._weather.exchange.add_ticket(kind.status)
            task = asyncio.create_task(self._call(kind, number, self._chance.choice(_TIMEOUTS)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            if self._chance.random() < _CANCELLED:
                self._loop.call_later(self._chance.choice((0, 0.01, 0.1)), self._cancel, task)
            self._tally.calls += 1

    async def _call(self, kind: Kind, number: int, timeout: float) -> None:
        deadline = self._loop.time() + timeout
        call = FirstStep(kind.send(self._client, number, timeout))
        outcome: object
        try:
            outcome = await call
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is what the caller was told)
            outcome = error
        self._tally.most_in_flight = max(self._tally.most_in_flight, self._client.stats.in_flight)
        ended = self._loop.time()
        late = ended - deadline
        if late > 0:
            late -= self._lag.after(deadline) + call.took
            self._tally.worst_late = max(self._tally.worst_late, late)
            if late > _LATE:
                lagged = self._lag.after(deadline)
                self._tally.late.append(
                    f"{kind.name} within {timeout} s was late by {late:.3f} s (and {lagged:.3f} s of lag): {outcome!r}"
                )
        was_cancelled = asyncio.current_task() in self._cancelled
        self.told.append(Told(kind, number, outcome, ended - deadline, was_cancelled=was_cancelled))

    def _cancel(self, task: asyncio.Task[None]) -> None:
        if task.cancel():
            self._cancelled.add(task)

    def _drawn(self, weights: Mapping[_Drawn, float]) -> _Drawn:
        return self._chance.choices(list(weights), list(weights.values()))[0]


def _hear(context: Mapping[str, object], tally: Tally) -> None:
    """Take note of what the loop says nobody has caught."""
    # The proxy's end of a TLS handshake that failed: the campaign breaks those on purpose.
    if context["message"] not in _EXPECTED:
        tally.left.append(f"the loop says: {context['message']} ({context.get('exception')!r})")


_Held = tuple[int, set[asyncio.Task[object]]]


def _held() -> _Held:
    """Give how many descriptors are open, and the tasks that run."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), asyncio.all_tasks()  # noqa: PTH208


async def _still_held(before: _Held) -> list[str]:
    """Say what there is more than before; the loop gets a second to let go of sockets."""
    held = _held()
    for _ in range(100):
        if held[0] <= before[0] and held[1] <= before[1]:
            return []
        await asyncio.sleep(0.01)
        held = _held()
    names = [task.get_name() for task in held[1] - before[1]]
    return [f"{held[0] - before[0]} descriptors more than at the start, and the tasks {names}"]
