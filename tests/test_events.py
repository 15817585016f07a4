"""Listening: everything in order, bounded, and never in the way of a call."""

import asyncio

import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import Client, Event, Gap, InvalidArguments
from aioalphapoint._events import Listener
from aioalphapoint.stats import Stats
from aioalphapoint.testing import SimulatedExchange
from conftest import SOON
from scripted import reply, scripted


async def test_a_listener_gets_every_event_in_order_until_the_client_is_closed(
    exchange: SimulatedExchange, client: Client
) -> None:
    first = exchange.add_withdraw(account_id=7, amount="1")
    second = exchange.add_withdraw(account_id=7, amount="2")
    await client.call("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 7})
    with client.events() as events, client.events() as others:
        for ticket in (first, second):
            await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)
        await client.close()
        for listener in (events, others):
            heard = [event async for event in listener if isinstance(event, Event)]
            assert [event.name for event in heard] == ["WithdrawTicketUpdateEvent"] * 2
            for ticket, event in zip((first, second), heard, strict=True):
                assert f'"TicketNumber":{ticket.ticket_number}' in event.payload
    assert client.stats.events == 2


async def flood(socket: ServerConnection) -> None:
    """Twenty thousand events nobody asked for, then the answer."""
    request = await socket.recv()
    for number in range(20_000):
        await socket.send(f'{{"m":3,"i":{2 * number + 2},"n":"Flood","o":"{number}"}}')
    await socket.send(reply(request))


async def test_a_listener_that_does_not_read_loses_the_oldest_is_told_so_and_holds_up_nobody() -> None:
    async with scripted(flood) as url, Client(url, timeout=50) as client:
        with client.events(size=10) as events, client.events(size=1):
            await client.call("F")
            assert (client.stats.events, client.stats.dropped_events) == (20_000, 19_990 + 19_999)
            assert await anext(events) == Gap(dropped=19_990)
            kept = [await anext(events) for _ in range(10)]
            assert kept == [Event("Flood", str(number)) for number in range(19_990, 20_000)]


async def test_without_a_listener_events_cost_no_memory(exchange: SimulatedExchange) -> None:
    async with Client(exchange.url) as client:
        with client.events() as events:
            pass
        with pytest.raises(InvalidArguments, match="size must be a positive int, not 0"), client.events(size=0):
            pass
        assert client._session.listeners._listeners == []
        assert [event async for event in events] == []
    with client.events() as events:
        assert [event async for event in events] == []  # none will come to a closed client


async def test_a_listener_that_is_cancelled_loses_nothing() -> None:
    async def tell(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send('{"m":3,"i":2,"n":"E","o":""}')
            await socket.send(reply(request))

    async with scripted(tell) as url, Client(url, timeout=5) as client:
        for _ in range(100):
            with client.events() as events:
                waiting = asyncio.ensure_future(anext(events))
                await client.call("F")
                waiting.cancel()  # in the moment in which the event came, or just after
                outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
                if isinstance(outcome, asyncio.CancelledError):
                    outcome = await anext(events)
                assert outcome == Event("E", "")


async def test_a_listener_that_gave_up_waiting_is_in_nobodys_way(exchange: SimulatedExchange, client: Client) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    await client.call("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 7})
    with client.events() as events:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(events)
        await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)
        event = await anext(events)
        assert isinstance(event, Event)
        assert event.name == "WithdrawTicketUpdateEvent"
    assert client.stats.reconnects == 0


async def test_listening_survives_a_reconnect_and_tells_that_something_may_be_missing() -> None:
    async def tell_and_cut(socket: ServerConnection) -> None:
        await socket.send('{"m":3,"i":2,"n":"Hello","o":""}')
        await socket.recv()

    async with scripted(tell_and_cut) as url:
        client = Client(url, timeout=5, reconnect=SOON)
        with client.events() as events:
            async with client:
                assert await anext(events) == Event("Hello", "")
                await asyncio.gather(client.call("F"), return_exceptions=True)
                assert await anext(events) == Gap(reconnected=True)
                assert await anext(events) == Event("Hello", "")


async def test_a_gap_that_is_dropped_itself_is_told_of_all_the_same() -> None:
    listener = Listener(2, Stats())
    for item in (Event("1", ""), Gap(reconnected=True), Event("2", ""), Event("3", ""), Event("4", "")):
        listener.tell(item)
    listener.end()
    assert [item async for item in listener] == [Gap(dropped=2, reconnected=True), Event("3", ""), Event("4", "")]
