"""Finding out that a session is dead though nobody says so, and watching it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeAlias

import aiolimiter
import anyio
import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    CallNotSent,
    CallTimeout,
    Client,
    ConnectionLost,
    NotConnected,
    SessionState,
    _session,
)
from aioalphapoint._connection import Connection
from aioalphapoint._pending import PendingCall
from aioalphapoint.testing import SimulatedExchange
from conftest import SOON, at_once
from scripted import answer_all, reply, scripted


async def test_an_idle_session_is_asked_whether_it_is_there_and_a_busy_one_is_not() -> None:
    arrived: list[str] = []
    pings = asyncio.Event()

    async def listen(socket: ServerConnection) -> None:
        async for request in socket:
            arrived.append(str(request))
            await socket.send(reply(request, '{"msg":"PONG"}'))
            if sum('"Ping"' in frame for frame in arrived) == 3:
                pings.set()

    async with scripted(listen) as url, Client(url, ping_interval=0.1) as client:
        for _ in range(20):
            await client.call("Busy")
            await asyncio.sleep(0.01)
        assert not any('"Ping"' in frame for frame in arrived)
        await pings.wait()
        assert arrived[-1] == '{"m":0,"i":46,"n":"Ping","o":"{}"}'
        assert client.state is SessionState.READY
    async with scripted(listen) as url, Client(url, ping_interval=None):
        arrived.clear()
        await asyncio.sleep(0.3)
        assert arrived == []


async def test_silence_is_counted_from_the_last_message_and_not_from_the_last_look() -> None:
    heard: list[float] = []
    asked = asyncio.Event()

    async def listen(socket: ServerConnection) -> None:
        async for request in socket:
            heard.append(asyncio.get_running_loop().time())
            await socket.send(reply(request))
            if "Ping" in str(request):
                asked.set()

    async with scripted(listen) as url, Client(url, ping_interval=0.4) as client:
        await asyncio.sleep(0.1)  # the first look is over, the second one comes 0.3 s later
        await client.call("F")
        await asked.wait()
    assert 0.39 <= heard[1] - heard[0] < 0.9


async def test_events_count_as_being_heard() -> None:
    told = asyncio.Event()

    async def tell(socket: ServerConnection) -> None:
        for _ in range(60):
            await socket.send('{"m":3,"i":2,"n":"SomethingEvent","o":"{}"}')
            await asyncio.sleep(0.01)
        told.set()
        await socket.wait_closed()

    async with scripted(tell) as url, Client(url, ping_interval=0.5) as client:
        await told.wait()
        assert client.stats.sent == 0


async def half_open(socket: ServerConnection) -> None:
    """Answer WebSocket pings, as websockets does by itself, and no call."""
    async for _request in socket:
        pass


async def black_hole(socket: ServerConnection) -> None:
    socket.transport.pause_reading()
    await asyncio.Event().wait()


Script: TypeAlias = Callable[[ServerConnection], Awaitable[None]]
DEAD_LINKS: list[Script] = [half_open, black_hole]


@pytest.mark.parametrize("script", DEAD_LINKS)
def test_on_a_half_open_link_pending_calls_fail_within_six_and_a_half_seconds(
    script: Script, losses: dict[Script, Future[None]]
) -> None:
    losses[script].result()


@pytest.fixture(scope="module")
def losses() -> dict[Script, Future[None]]:
    return at_once(lose, DEAD_LINKS)


async def lose(script: Script) -> None:
    scripts = iter([script, answer_all])

    async def once(socket: ServerConnection) -> None:
        await next(scripts)(socket)

    async with scripted(once) as url, Client(url, ping_interval=1, timeout=60, reconnect=SOON) as client:
        started = asyncio.get_running_loop().time()
        calls = [asyncio.create_task(client.call("F")) for _ in range(100)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert asyncio.get_running_loop().time() - started < 6.5
        assert {type(outcome) for outcome in outcomes} == {ConnectionLost}
        assert "gave no answer to a ping in 5 s" in str(outcomes[0])
        await client.call("Next")
        assert (client.stats.reconnects, client.stats.in_flight) == (1, 0)


@pytest.mark.parametrize(
    ("blob", "silence"),
    [(0, "gave no answer to a ping in"), (2**23, "takes no bytes for")],
    ids=["mute", "full"],
)
async def test_a_dead_link_is_left_without_waiting_for_a_goodbye_and_its_silence_is_named(
    monkeypatch: pytest.MonkeyPatch, blob: int, silence: str
) -> None:
    monkeypatch.setattr(_session, "_PONG_TIMEOUT", 0.1)
    scripts = iter([black_hole, answer_all])

    async def once(socket: ServerConnection) -> None:
        await next(scripts)(socket)

    async with scripted(once) as url, Client(url, ping_interval=0.1, timeout=5, reconnect=SOON) as client:
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionLost, match=rf"\(the exchange {silence} 0\.1 s\)"):
            await client.call("Held", {"blob": "x" * blob})
        await client.call("Next")
        assert asyncio.get_running_loop().time() - started < 0.9  # the polite goodbye alone takes a second


async def test_an_exchange_that_still_speaks_is_not_dead_though_the_ping_must_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_session, "_PONG_TIMEOUT", 0.1)

    async def slow(socket: ServerConnection) -> None:
        request = await socket.recv()
        await asyncio.sleep(0.12)
        for _ in range(10):  # in order: the ping is answered after the first call
            await socket.send('{"m":3,"i":2,"n":"SomethingEvent","o":"{}"}')
            await asyncio.sleep(0.05)
        await socket.send(reply(request))
        await answer_all(socket)

    async with scripted(slow) as url, Client(url, ping_interval=0.1, timeout=10) as client:
        await client.call("Slow")
        assert client.stats.reconnects == 0


async def test_a_ping_that_was_not_sent_because_this_loop_was_held_up_says_nothing_of_the_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_session, "_PONG_TIMEOUT", 0.05)
    pings = 0

    async def answer_pings(socket: ServerConnection) -> None:
        nonlocal pings
        async for request in socket:
            if json.loads(request)["n"] == "Ping":
                pings += 1
                await socket.send(reply(request))

    post = Connection._post
    held_up = asyncio.Event()

    def hold_up_once(connection: Connection, call: PendingCall, frame: bytes) -> None:
        post(connection, call, frame)
        if call.function == "Ping" and not held_up.is_set():
            held_up.set()
            time.sleep(0.06)  # in the turn in which the ping is posted, another one's work takes too long

    monkeypatch.setattr(Connection, "_post", hold_up_once)
    async with scripted(answer_pings) as url, Client(url, ping_interval=0.05) as client:
        with pytest.raises(CallTimeout):
            await client.call("Slow", timeout=0.5)
        assert held_up.is_set()
        assert pings > 0
        assert client.stats.reconnects == 0


async def test_a_refused_ping_is_an_answer() -> None:
    enough = asyncio.Event()

    async def refuse(socket: ServerConnection) -> None:
        async for request in socket:
            number = json.loads(request)["i"]
            await socket.send(f'{{"m":5,"i":{number},"n":"Ping","o":"Endpoint Not Found"}}')
            if number == 8:
                enough.set()

    async with scripted(refuse) as url, Client(url, ping_interval=0.05) as client:
        await enough.wait()
        assert (client.state, client.stats.reconnects) == (SessionState.READY, 0)


async def test_the_round_trip_of_a_ping_is_given_in_seconds(exchange: SimulatedExchange) -> None:
    async with Client(exchange.url) as client:
        assert 0 < await client.ping() < 5
        assert exchange.journal[-1].frame == '{"m":0,"i":2,"n":"Ping","o":"{}"}'
        with exchange.faults.mute(), pytest.raises(CallTimeout):
            await client.ping(timeout=0.05)


async def test_states_can_be_watched_from_the_first_to_the_last() -> None:
    async def cut_once(socket: ServerConnection) -> None:
        async for request in socket:
            if "Cut" in str(request):
                socket.transport.abort()
            await socket.send(reply(request))

    seen: list[SessionState] = []

    async def watch(client: Client) -> None:
        async for state in client.states():
            seen.append(state)  # noqa: PERF401  (they come one by one)

    async with scripted(cut_once) as url:
        client = Client(url, reconnect=SOON, timeout=5)
        watcher = asyncio.create_task(watch(client))
        await anyio.wait_all_tasks_blocked()
        async with client:
            assert await client.wait_for_state(SessionState.READY) is SessionState.READY
            with pytest.raises(ConnectionLost):
                await client.call("Cut")
            await client.wait_for_state(SessionState.RECONNECTING, SessionState.CLOSED, timeout=5)
            await client.wait_for_state(SessionState.READY, timeout=5)
            with pytest.raises(TimeoutError):
                await client.wait_for_state(SessionState.FAILED, timeout=0.05)
        await watcher
    assert seen == ["idle", "connecting", "ready", "reconnecting", "ready", "closed"]


async def test_a_limiter_holds_calls_back_and_neither_logins_nor_pings(exchange: SimulatedExchange) -> None:
    limiter = aiolimiter.AsyncLimiter(5, 0.5)
    async with Client(exchange.url, limiter=limiter, ping_interval=0.05) as client:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.gather(*(client.call("Limited") for _ in range(10)), return_exceptions=True)
        assert loop.time() - started >= 0.4  # five at once, then ten a second
        functions = [arrival.function for arrival in exchange.journal]
        assert functions.count("Limited") == 10


async def test_a_call_that_the_limiter_does_not_let_through_in_time_was_not_sent(exchange: SimulatedExchange) -> None:
    gate = asyncio.Semaphore(1)
    async with Client(exchange.url, limiter=gate) as client:
        await gate.acquire()
        began = asyncio.get_running_loop().time()
        with pytest.raises(CallNotSent, match=r"^F was not sent: the limiter did not let it through within 0\.05 s$"):
            await client.call("F", timeout=0.05)
        assert asyncio.get_running_loop().time() - began < 1
        cancelled = asyncio.create_task(client.call("G"))
        await anyio.wait_all_tasks_blocked()
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert cancelled.cancelled()
        assert (client.stats.sent, client.stats.in_flight) == (0, 0)
        gate.release()
        assert await client.call("Ping") == {"msg": "PONG"}
        assert not gate.locked()


class Broken:
    """A limiter that fails, or hangs, where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    async def __aenter__(self) -> None:
        if self.where == "enter":
            raise LookupError("store down")
        if self.where == "timeout":
            raise TimeoutError

    async def __aexit__(self, *_: object) -> None:
        if self.where == "exit":
            raise LookupError("store down")
        if self.where == "hang":
            await asyncio.sleep(60)


async def test_a_limiter_that_fails_changes_nothing_of_what_is_known(exchange: SimulatedExchange) -> None:
    for where, sentence in (("enter", "failed: LookupError"), ("timeout", "failed: TimeoutError")):
        async with Client(exchange.url, limiter=Broken(where)) as client:
            with pytest.raises(CallNotSent, match=f"^Ping was not sent: the limiter {sentence}$"):
                await client.call("Ping")
            assert (client.stats.sent, client.stats.in_flight) == (0, 0)
    for where in ("exit", "hang"):
        async with Client(exchange.url, limiter=Broken(where), timeout=0.2) as client:
            assert await asyncio.wait_for(client.call("Ping"), 2) == {"msg": "PONG"}
            with exchange.faults.mute(), pytest.raises(CallTimeout):
                await asyncio.wait_for(client.call("Ping"), 2)
            assert client.stats.in_flight == 0


class Swallower:
    """A limiter that swallows what it can: it must not make a call go out twice."""

    def __init__(self) -> None:
        self.entered = 0

    async def __aenter__(self) -> None:
        self.entered += 1

    async def __aexit__(self, *_: object) -> bool:
        return True


async def test_a_limiter_can_neither_swallow_an_error_nor_repeat_a_call(exchange: SimulatedExchange) -> None:
    swallower = Swallower()
    async with Client(exchange.url, limiter=swallower, timeout=0.2) as client:
        with exchange.faults.mute(), pytest.raises(CallTimeout):
            await client.call("Ping")
        assert swallower.entered == 1
        assert len(exchange.journal) == 1


async def test_a_call_that_waited_for_the_limiter_while_the_session_went_waits_for_the_next_one() -> None:
    gate = asyncio.Semaphore(1)

    async def cut_once(socket: ServerConnection) -> None:
        async for request in socket:
            if "Cut" in str(request):
                socket.transport.abort()
            await socket.send(reply(request))

    async with scripted(cut_once) as url, Client(url, limiter=gate, reconnect=SOON, timeout=5) as client:
        cut = asyncio.create_task(client.call("Cut"))
        await anyio.wait_all_tasks_blocked()
        waiting = [asyncio.create_task(client.call("F")) for _ in range(3)]
        with pytest.raises(ConnectionLost):
            await cut
        await asyncio.gather(*waiting)
        assert client.stats.sent == 4
    with pytest.raises(NotConnected):
        await client.call("F")
    assert not gate.locked()
