"""The proxy that stands between client and exchange: what it does to bytes, and what a client makes of it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from urllib.parse import urlsplit

import pytest

from aioalphapoint import CallTimeout, Client, ConnectionLost, SessionState
from aioalphapoint.testing import SimulatedExchange
from certificates import certified
from chaos.manners import BOTH, Direction
from chaos.proxy import Link, Proxy
from conftest import ALICE, SOON

Fault = Callable[[Proxy], AbstractContextManager[None]]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SENT = random.Random(1).randbytes(3000)


@asynccontextmanager
async def linked(
    act: Callable[[Link], None] = Link.reset, count: int | None = None
) -> AsyncIterator[tuple[Proxy, Stream, Stream]]:
    """Give a proxy, and both ends of a link through it."""
    arrived: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
    left = asyncio.Event()

    async def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result((reader, writer))
        await left.wait()
        writer.transport.abort()

    async with asyncio.timeout(10), await asyncio.start_server(arrive, "127.0.0.1", 0) as server:
        async with Proxy(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as proxy:
            fated = nullcontext() if count is None else proxy.at(count, act)
            with fated:
                near = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
                far = await arrived
            try:
                yield proxy, near, far
            finally:
                left.set()
                near[1].transport.abort()
        assert proxy.links == set()


def faster(proxy: Proxy) -> AbstractContextManager[None]:
    return proxy.trickle(bytes_per_second=100_000)


def jittery(proxy: Proxy) -> AbstractContextManager[None]:
    return proxy.delay(0.005, jitter=0.005, chance=random.Random(2))


HARMLESS: dict[str, Fault] = {
    "nothing": lambda proxy: proxy.delay(0.0),
    "one byte after the other": faster,
    "every byte its own segment": lambda proxy: proxy.split(),
    "coalesced": lambda proxy: proxy.coalesce(0.01),
    "delayed": lambda proxy: proxy.delay(0.01),
    "jitter": jittery,
}


@pytest.mark.parametrize("fault", HARMLESS.values(), ids=HARMLESS)
async def test_a_slow_way_carries_all_bytes_in_order_and_their_end(fault: Fault) -> None:
    async with linked() as (proxy, near, far):
        for reader, writer in ((near[0], far[1]), (far[0], near[1])):
            writer.write(SENT[:500])
            with fault(proxy):
                for start in range(500, 2000, 100):
                    writer.write(SENT[start : start + 100])
                    await asyncio.sleep(0)
                assert await reader.readexactly(1000) == SENT[:1000]
            writer.write(SENT[2000:])  # after the fault: it may not overtake what is still under way
            writer.write_eof()
            assert await reader.read(-1) == SENT[1000:]


async def test_a_link_that_both_sides_have_ended_stands_until_all_is_carried() -> None:
    async with linked() as (proxy, near, far):
        with proxy.delay(0.05):
            for _, writer in (near, far):
                writer.write(SENT)
                writer.write_eof()
            assert [await reader.read(-1) for reader, _ in (near, far)] == [SENT, SENT]


async def test_what_is_on_time_does_not_overtake_what_is_late_and_overdue() -> None:
    async with linked() as (proxy, near, _):
        (link,) = proxy.links
        await link._down.send(b"first ", late=0.01)
        time.sleep(0.02)  # noqa: ASYNC251  (the loop is busy with something else)
        await link._down.send(b"then")
        assert await near[0].readexactly(10) == b"first then"


async def test_bytes_go_one_by_one_where_they_are_to() -> None:
    async with linked() as (proxy, near, far):
        with proxy.split():
            far[1].write(SENT)
            pieces = [await near[0].read(100) for _ in range(100)]
        assert max(map(len, pieces)) < 20
        assert b"".join(pieces) == SENT[: sum(map(len, pieces))]


async def test_what_is_coalesced_comes_in_one_piece() -> None:
    async with linked() as (proxy, near, far):
        with proxy.coalesce(0.05):
            for byte in SENT[:100]:
                far[1].write(bytes([byte]))
                await asyncio.sleep(0)
            assert await near[0].read(1000) == SENT[:100]


async def test_a_frozen_way_carries_nothing_until_it_thaws() -> None:
    async with linked() as (proxy, near, far):
        with proxy.freeze():
            far[1].write(SENT)
            far[1].write_eof()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(near[0].read(1), 0.05)
        assert await near[0].read(-1) == SENT


@pytest.mark.parametrize("holes", [BOTH, {Direction.UP}, {Direction.DOWN}])
async def test_a_black_hole_swallows_its_ways_alone_and_ends_the_link_with_it(holes: set[Direction]) -> None:
    async with linked() as (proxy, near, far):
        with proxy.black_hole(holes):
            for direction, reader, writer in ((Direction.DOWN, near[0], far[1]), (Direction.UP, far[0], near[1])):
                writer.write(SENT)
                if direction in holes:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.05)
                else:
                    assert await reader.readexactly(len(SENT)) == SENT
        for reader in (near[0], far[0]):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)


async def test_in_a_black_hole_not_even_a_reset_or_an_end_is_heard() -> None:
    async with linked() as (proxy, near, far):
        with proxy.black_hole():
            far[1].transport.abort()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(near[0].read(1), 0.05)
        with pytest.raises(ConnectionResetError):
            await near[0].read(1)


async def test_a_reset_is_a_reset_and_an_end_is_an_end_on_both_sides() -> None:
    async with linked() as (proxy, near, far):
        proxy.reset()
        for reader in (near[0], far[0]):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
    async with linked() as (proxy, near, far):
        proxy.finish()
        assert (await near[0].read(1), await far[0].read(1)) == (b"", b"")


async def test_a_corrupted_piece_differs_by_one_bit() -> None:
    async with linked() as (proxy, near, far):
        with proxy.corrupt(random.Random(3)):
            far[1].write(SENT)
            got = await near[0].readexactly(len(SENT))
        differing = [(good ^ bad).bit_count() for good, bad in zip(SENT, got, strict=True)]
        assert sum(differing) == 1


@pytest.mark.parametrize("count", [1, 1000, 2999, 3000])
@pytest.mark.parametrize("act", [Link.reset, Link.finish, Link.swallow])
async def test_a_link_meets_its_fate_at_its_own_byte(act: Callable[[Link], None], count: int) -> None:
    async with linked(act, count) as (_, near, far):
        far[1].write(SENT)
        got = bytearray()
        try:
            async with asyncio.timeout(0.05):
                while piece := await near[0].read(1000):
                    got += piece
            end = "finish"
        except ConnectionResetError:
            end = "reset"
        except TimeoutError:
            end = "swallow"
        assert end == act.__name__
        # A reset throws away what the other side has not read yet.
        assert len(got) == count if end != "reset" else len(got) in {0, count}


# A client on such ways. What it tells under the worst of them is the campaign's to find out.


@pytest.fixture
async def proxy(exchange: SimulatedExchange) -> AsyncIterator[Proxy]:
    async with Proxy(exchange.url) as proxy:
        yield proxy


@pytest.mark.parametrize("fault", HARMLESS.values(), ids=HARMLESS)
async def test_a_slow_way_costs_a_client_nothing_but_time(
    exchange: SimulatedExchange, proxy: Proxy, fault: Fault
) -> None:
    with fault(proxy):
        async with Client(proxy.url, ALICE, reconnect=SOON, timeout=5) as client:
            tickets = [exchange.add_withdraw(account_id=7, amount="1") for _ in range(10)]
            calls = (client.get_withdraw_ticket(account_id=7, request_code=ticket.request_code) for ticket in tickets)
            numbers = [ticket.ticket_number for ticket in await asyncio.gather(*calls)]
            assert numbers == [ticket.ticket_number for ticket in tickets]
    assert client.state is SessionState.CLOSED


@pytest.mark.parametrize("fault", [Proxy.reset, Proxy.finish])
async def test_a_lost_way_ends_all_calls_at_once_and_the_next_one_is_right(
    exchange: SimulatedExchange, proxy: Proxy, fault: Callable[[Proxy], None]
) -> None:
    async with Client(proxy.url, ALICE, reconnect=SOON, timeout=5) as client:
        with exchange.faults.mute():
            calls = [asyncio.create_task(client.ping()) for _ in range(100)]
            await at_the_exchange(exchange, "Ping", 100)
            fault(proxy)
            async with asyncio.timeout(0.5):
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ConnectionLost}
        assert client.stats.in_flight == 0
        await client.ping()
        assert client.stats.reconnects == 1


@pytest.mark.parametrize("directions", [BOTH, {Direction.UP}, {Direction.DOWN}])
async def test_a_black_hole_ends_calls_by_their_deadline_and_the_next_one_is_right(
    exchange: SimulatedExchange, proxy: Proxy, directions: set[Direction]
) -> None:
    loop = asyncio.get_running_loop()
    async with Client(proxy.url, ALICE, reconnect=SOON, timeout=5) as client:
        with proxy.black_hole(directions):
            started = loop.time()
            with pytest.raises(CallTimeout):
                await client.ping(timeout=0.1)
            assert loop.time() - started < 0.15 + 0.05  # and what a busy machine takes
        await client_noticed(client)
        await client.ping()
        assert (client.stats.in_flight, client.stats.reconnects) == (0, 1)
        assert [arrival.function for arrival in exchange.journal].count("Ping") == 1 + (Direction.UP not in directions)


async def test_a_corrupted_byte_on_a_tls_way_ends_the_connection_and_reaches_nobody(
    exchange: SimulatedExchange,
) -> None:
    """Without TLS nobody could tell: one bit makes ticket 3 of ticket 2. That is why credentials need wss."""
    server, trust = certified()
    async with (
        Proxy(exchange.url, takes_off=server) as inner,
        Proxy(inner.url) as proxy,
        Client(proxy.url, ALICE, reconnect=SOON, ssl=trust) as client,
    ):
        for direction in Direction:
            with proxy.corrupt(random.Random(4), {direction}), pytest.raises(ConnectionLost):
                await client.ping()
            await client.ping()
        assert (client.stats.in_flight, client.stats.dropped_frames, client.stats.reconnects) == (0, 0, 2)


async def client_noticed(client: Client) -> None:
    async with asyncio.timeout(5):
        while client.stats.reconnects == 0:
            await asyncio.sleep(0)


async def at_the_exchange(exchange: SimulatedExchange, function: str, count: int) -> None:
    async with asyncio.timeout(5):
        while [arrival.function for arrival in exchange.journal].count(function) < count:
            await asyncio.sleep(0)
