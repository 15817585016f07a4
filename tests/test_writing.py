"""Calls of one turn of the loop leave together at its end: what leaves, when, and what is told of what does not."""

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from aioalphapoint import CallNotSent, Client, ConnectionLost
from aioalphapoint._connection import Connection
from aioalphapoint.testing import SimulatedExchange
from conftest import SOON


def connection_of(client: Client) -> Connection:
    connection = client._session._connection
    assert connection is not None
    return connection


@pytest.fixture
def writes(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each write to the transport of the present connection."""
    sizes: list[int] = []
    transport = connection_of(client)._socket.transport
    write: Callable[[bytes], None] = transport.write

    def noted(data: bytes) -> None:
        sizes.append(len(data))
        write(data)

    monkeypatch.setattr(transport, "write", noted)
    return sizes


def calls(client: Client, count: int, text: str = "") -> list[asyncio.Task[object]]:
    payloads = ({"Token": number, "Text": text} for number in range(count))
    return [asyncio.create_task(client.call("Ping", payload)) for payload in payloads]


async def after_their_first_steps(_calls: list[asyncio.Task[object]]) -> None:
    """Go on in the same turn of the loop in which the calls were posted, before its end."""
    await asyncio.sleep(0)


def arrived(exchange: SimulatedExchange, function: str = "Ping") -> list[str | None]:
    return [arrival.payload for arrival in exchange.journal if arrival.function == function]


async def test_fifty_calls_of_one_turn_are_one_write_and_in_their_order(
    exchange: SimulatedExchange, client: Client, writes: list[int]
) -> None:
    await asyncio.gather(*calls(client, 50))
    assert len(writes) == 2  # the first one knew of no other
    assert arrived(exchange) == [f'{{"Token":{number},"Text":""}}' for number in range(50)]


async def test_a_call_that_is_alone_is_written_in_its_own_step(client: Client, writes: list[int]) -> None:
    (call,) = calls(client, 1)
    await asyncio.sleep(0)
    assert len(writes) == client.stats.sent - 1 == 1  # the other one was the login
    await call


async def test_many_calls_of_one_turn_do_not_all_wait_for_the_last(client: Client, writes: list[int]) -> None:
    pending = calls(client, 100, "x" * 1000)
    await after_their_first_steps(pending)
    assert 5 <= len(writes) <= 10
    assert max(writes) < 20_000
    await asyncio.gather(*pending)


def cut(connection: Connection) -> None:
    connection.cut("a test cuts it")


def lose(connection: Connection) -> None:
    connection._socket.transport.abort()  # as asyncio does when a write of its own fails: we are told later


@pytest.mark.parametrize("end", [cut, lose])
async def test_calls_whose_connection_ends_in_their_own_turn_go_out_once_on_the_next_one(
    exchange: SimulatedExchange, client: Client, end: Callable[[Connection], None]
) -> None:
    first = asyncio.create_task(client.ping())  # so that none of the others is alone
    pending = calls(client, 20)
    await after_their_first_steps(pending)
    end(connection_of(client))
    with pytest.raises(ConnectionLost):
        await first
    await asyncio.gather(*pending)
    assert arrived(exchange)[-20:] == [f'{{"Token":{number},"Text":""}}' for number in range(20)]
    assert len(arrived(exchange)) <= 21
    assert client.stats.in_flight == 0
    assert len(connection_of(client)._pending) == 0


async def test_a_caller_that_leaves_in_its_own_turn_sends_nothing_and_is_no_harm_to_the_others(
    exchange: SimulatedExchange, client: Client
) -> None:
    pending = calls(client, 20)
    await after_their_first_steps(pending)
    for call in pending[1::2]:
        call.cancel()
    outcomes = await asyncio.gather(*pending, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [False, True] * 10
    assert arrived(exchange) == [f'{{"Token":{number},"Text":""}}' for number in range(0, 20, 2)]
    assert len(connection_of(client)._pending) == 0
    await client.call("Ping")
    assert client.stats.late_replies == 0


async def test_a_write_that_fails_in_the_middle_leaves_the_outcome_of_all_its_calls_unknown(
    exchange: SimulatedExchange, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: bytes) -> None:
        raise MemoryError

    pending = calls(client, 20)
    await after_their_first_steps(pending)
    monkeypatch.setattr(connection_of(client)._socket.transport, "write", fail)
    first, *others = await asyncio.gather(*pending, return_exceptions=True)
    assert {type(outcome) for outcome in others} == {ConnectionLost}
    assert isinstance(first, ConnectionLost | dict)  # it was written by itself
    await asyncio.gather(*calls(client, 3))
    assert len(connection_of(client)._pending) == 0


async def test_a_call_whose_time_is_over_by_the_end_of_its_turn_is_not_sent_and_says_so(
    exchange: SimulatedExchange, client: Client
) -> None:
    first = asyncio.create_task(client.ping())
    late = asyncio.create_task(client.call("Ping", {"Token": "late"}, timeout=0.02))
    good = asyncio.create_task(client.call("Ping", {"Token": "good"}))
    await asyncio.sleep(0)
    time.sleep(0.03)  # noqa: ASYNC251  (the program holds up the loop)
    with pytest.raises(CallNotSent, match=r"^Ping was not sent: it could not be written within 0\.02 s$"):
        await late
    await asyncio.gather(first, good)
    assert [payload for payload in arrived(exchange) if payload and "Token" in payload] == ['{"Token":"good"}']
    assert len(connection_of(client)._pending) == 0


async def test_no_answer_is_taken_for_that_of_a_call_which_was_not_written(
    exchange: SimulatedExchange, client: Client
) -> None:
    first = asyncio.create_task(client.ping())
    held = asyncio.create_task(client.call("Ping", {"Token": "held"}))
    await asyncio.sleep(0)
    connection = connection_of(client)
    number = max(connection._pending._calls)
    connection.receive(b'{"m":1,"i":%d,"n":"Ping","o":"{}"}' % number)
    assert await held == {"msg": "PONG"}  # its own
    assert '{"Token":"held"}' in arrived(exchange)
    await first


async def test_calls_that_were_not_written_and_whose_callers_leave_then_are_no_news_to_the_loop(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    first = asyncio.create_task(client.ping())
    pending = calls(client, 20)
    await after_their_first_steps(pending)
    connection_of(client).cut("a test cuts it")
    for call in (first, *pending):
        call.cancel()
    await asyncio.gather(first, *pending, return_exceptions=True)
    del first, pending, call
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_calls_without_a_payload_are_not_all_held_until_the_last_either(
    client: Client, writes: list[int]
) -> None:
    pending = [asyncio.create_task(client.call("Ping")) for _ in range(900)]
    await asyncio.gather(*pending)
    assert max(writes) < 20_000


async def test_a_limiter_is_entered_once_for_a_call_that_finds_its_connection_ended(
    exchange: SimulatedExchange,
) -> None:
    entered = 0

    class Limiter(AbstractAsyncContextManager[None]):
        async def __aenter__(self) -> None:
            nonlocal entered
            entered += 1

        async def __aexit__(self, *_: object) -> None:
            pass

    async with Client(exchange.url, reconnect=SOON, limiter=Limiter()) as client:
        connection_of(client).cut("a test cuts it")
        await client.call("Ping")
    assert entered == 1
