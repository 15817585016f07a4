"""Subscriptions: typed events, made again after a reconnect, and a gap that is told of."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    AuthenticationFailed,
    CallRejected,
    Client,
    Event,
    Gap,
    InvalidArguments,
    NotAuthorized,
    NotConnected,
    UnexpectedReply,
    WithdrawTicketUpdateEvent,
)
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, SOON
from scripted import reply, scripted
from wire import TICKET_ROW


async def next_event(events: AsyncIterator[Event | Gap]) -> Event | Gap:
    return await asyncio.wait_for(anext(events), 5)


def subscriptions(exchange: SimulatedExchange) -> int:
    return sum(str(arrival.function).startswith("Subscribe") for arrival in exchange.journal)


async def test_the_change_of_a_ticket_comes_typed(exchange: SimulatedExchange, client: Client) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1.10")
    async with client.subscribe_account_events(account_id=7) as events:
        await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)
        event = await next_event(events)
        assert isinstance(event, WithdrawTicketUpdateEvent)
        assert event.name == "WithdrawTicketUpdateEvent"
        assert (event.ticket.ticket_number, event.ticket.status) == (ticket.ticket_number, "UserCanceled")
        assert event.ticket == await client.get_withdraw_ticket(account_id=7, request_code=ticket.request_code)


async def test_an_operator_hears_of_every_account(exchange: SimulatedExchange, operator: Client) -> None:
    tickets = [exchange.add_withdraw(account_id=account_id, amount="1") for account_id in (7, 8)]
    async with operator.subscribe_all_account_events() as events:
        for ticket in tickets:
            exchange.set_status(ticket.ticket_number, "Failed")
        for ticket in tickets:
            event = await next_event(events)
            assert isinstance(event, WithdrawTicketUpdateEvent)
            assert event.ticket.account_id == ticket.account_id


async def test_events_of_other_accounts_on_the_same_connection_are_kept_out() -> None:
    async def script(socket: ServerConnection) -> None:
        frame = await socket.recv()
        for name, payload in [
            ("WithdrawTicketUpdateEvent", TICKET_ROW.replace('"AccountId":7', '"AccountId":8')),
            ("AccountPositionEvent", '{"accountid":8,"Hold":1}'),
            ("AccountPositionEvent", '{"AccountId":7,"Hold":1.10}'),
            ("Unknown", "plain text"),
            ("Unknown", "[8]"),
            ("WithdrawTicketUpdateEvent", "{}"),
            ("withdrawticketupdateevent", TICKET_ROW),
        ]:
            text = payload.replace("\\", "\\\\").replace('"', '\\"')
            await socket.send(f'{{"m":3,"i":2,"n":"{name}","o":"{text}"}}')
        await socket.send(reply(frame, '{"Subscribe":true}'))
        await socket.wait_closed()

    async with (
        scripted(script) as url,
        Client(url) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        heard = [await next_event(events) for _ in range(5)]
    assert heard[:4] == [
        Event("AccountPositionEvent", '{"AccountId":7,"Hold":1.10}'),
        Event("Unknown", "plain text"),
        Event("Unknown", "[8]"),
        Event("WithdrawTicketUpdateEvent", "{}"),
    ]
    assert isinstance(heard[4], WithdrawTicketUpdateEvent)
    assert heard[4].ticket.account_id == 7


async def test_subscribing_twice_is_success_and_both_hear(exchange: SimulatedExchange, client: Client) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    async with (
        client.subscribe_account_events(account_id=7) as first,
        client.subscribe_account_events(account_id=7) as second,
    ):
        exchange.set_status(ticket.ticket_number, "Failed")
        assert await next_event(first) == await next_event(second)
    assert [arrival.executed for arrival in exchange.journal][-2:] == [True, False]
    assert client._session.listeners._listeners == []


@pytest.mark.parametrize("code", [None, 1011])
async def test_after_a_reconnect_the_subscription_is_made_again_and_the_gap_told(
    exchange: SimulatedExchange, code: int | None
) -> None:
    before, lost, after = (exchange.add_withdraw(account_id=7, amount="1").ticket_number for _ in range(3))
    async with Client(exchange.url, ALICE, reconnect=SOON) as client:
        async with client.subscribe_account_events(account_id=7) as events:
            exchange.set_status(before, "Failed")
            await client.ping()  # the event has come
            await exchange.cut_now(code)
            exchange.set_status(lost, "Failed")
            event = await next_event(events)
            assert isinstance(event, WithdrawTicketUpdateEvent)
            assert event.ticket.ticket_number == before
            assert await next_event(events) == Gap(reconnected=True)
            exchange.set_status(after, "Failed")  # at once: from the gap on nothing is missed
            event = await next_event(events)
            assert isinstance(event, WithdrawTicketUpdateEvent)
            assert event.ticket.ticket_number == after
        assert subscriptions(exchange) == 2


async def test_a_link_that_flaps_while_the_subscription_is_made_again_ends_in_one_that_hears(
    exchange: SimulatedExchange,
) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    async with (
        Client(exchange.url, ALICE, reconnect=SOON, timeout=5) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        with exchange.faults.cut(function="SubscribeAccountEvents"):
            await exchange.cut_now()
            gap = asyncio.ensure_future(anext(events))
            while subscriptions(exchange) < 3:
                await asyncio.wait({gap}, timeout=0.01)
            assert not gap.done()
        assert await asyncio.wait_for(gap, 5) == Gap(reconnected=True)
        exchange.set_status(ticket.ticket_number, "Failed")
        heard = [await next_event(events)]
        while isinstance(heard[-1], Gap):
            heard.append(await next_event(events))
        assert isinstance(heard[-1], WithdrawTicketUpdateEvent)


async def test_a_step_that_is_cancelled_in_the_gap_loses_neither_the_gap_nor_the_subscription(
    exchange: SimulatedExchange,
) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    async with Client(exchange.url, ALICE, reconnect=SOON) as client:
        async with client.subscribe_account_events(account_id=7) as events:
            with exchange.faults.mute("SubscribeAccountEvents"):
                await exchange.cut_now()
                step = asyncio.ensure_future(anext(events))
                while subscriptions(exchange) < 2:
                    await asyncio.wait({step}, timeout=0.01)
                step.cancel()
                await asyncio.wait({step})
            assert await next_event(events) == Gap(reconnected=True)
            exchange.set_status(ticket.ticket_number, "Failed")
            assert isinstance(await next_event(events), WithdrawTicketUpdateEvent)
        assert client.stats.in_flight == 0


async def test_a_reader_that_is_slow_is_told_what_it_missed(exchange: SimulatedExchange, client: Client) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    async with client.subscribe_account_events(account_id=7, size=2) as events:
        for status in ("Accepted", "Delayed", "Submitted", "Confirmed", "FullyProcessed"):
            exchange.set_status(ticket.ticket_number, status)
        await client.ping()
        assert await next_event(events) == Gap(dropped=3)
        for status in ("Confirmed", "FullyProcessed"):
            event = await next_event(events)
            assert isinstance(event, WithdrawTicketUpdateEvent)
            assert event.ticket.status == status


async def test_the_iteration_ends_with_the_client(exchange: SimulatedExchange, client: Client) -> None:
    async with client.subscribe_account_events(account_id=7) as events:
        waiting = asyncio.ensure_future(anext(events, "the end"))
        await asyncio.sleep(0)
        await client.close()
        assert await asyncio.wait_for(waiting, 5) == "the end"
    with pytest.raises(NotConnected):
        async with client.subscribe_account_events(account_id=7):
            pytest.fail("there is no session")
    assert client._session.listeners._listeners == []


async def test_the_iteration_ends_when_the_client_is_closed_in_the_gap(exchange: SimulatedExchange) -> None:
    async with (
        Client(exchange.url, ALICE, reconnect=SOON) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        with exchange.faults.refuse_dial():
            await exchange.cut_now()
            waiting = asyncio.ensure_future(anext(events, "the end"))
            await client.wait_for_state(type(client.state).RECONNECTING)
            await client.close()
            assert await asyncio.wait_for(waiting, 5) == "the end"


async def test_a_login_refused_in_the_gap_ends_the_iteration(exchange: SimulatedExchange) -> None:
    async with Client(exchange.url, ALICE, reconnect=SOON) as client:
        async with client.subscribe_account_events(account_id=7) as events:
            with exchange.faults.refuse_login():
                await exchange.cut_now()
                assert [event async for event in events] == [Gap(reconnected=True)]
        with pytest.raises(AuthenticationFailed):
            await client.ping()


async def test_refusals_are_raised_now_and_after_a_reconnect(exchange: SimulatedExchange) -> None:
    async with Client(exchange.url, ALICE, reconnect=SOON) as client:
        with pytest.raises(NotAuthorized):
            async with client.subscribe_account_events(account_id=8):
                pytest.fail("not alice's")
        with pytest.raises(NotAuthorized):
            async with client.subscribe_all_account_events():
                pytest.fail("alice is no operator")
        with pytest.raises(InvalidArguments, match="account_id must be an int"):
            async with client.subscribe_account_events(account_id="7"):  # type: ignore[arg-type]  # wrong on purpose
                pytest.fail("no account")
        with pytest.raises(InvalidArguments, match="size must be a positive int"):
            async with client.subscribe_account_events(account_id=7, size=0):
                pytest.fail("no queue")
        async with client.subscribe_account_events(account_id=7) as events:
            with exchange.faults.reject(20, function="SubscribeAccountEvents"):
                await exchange.cut_now()
                with pytest.raises(NotAuthorized):
                    await next_event(events)
            assert await next_event(events) == Gap(reconnected=True)  # asked again, it tries again
        assert client._session.listeners._listeners == []


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ('{"Subscribed":false}', CallRejected),
        ('{"subscribe":false}', CallRejected),
        ('{"Subscribed":"yes"}', UnexpectedReply),
        ("{}", UnexpectedReply),
        ("", UnexpectedReply),
        ("[]", UnexpectedReply),
    ],
)
async def test_an_answer_that_does_not_say_yes_is_none(payload: str, error: type[Exception]) -> None:
    async def script(socket: ServerConnection) -> None:
        async for frame in socket:
            await socket.send(reply(frame, payload))

    async with scripted(script) as url, Client(url) as client:
        with pytest.raises(error):
            async with client.subscribe_all_account_events():
                pytest.fail("not subscribed")


@pytest.mark.parametrize("payload", ['{"Subscribed":true}', '{"Subscribe":true}', '{ "subscribed" : true }'])
async def test_each_way_of_saying_yes_is_one(payload: str) -> None:
    async def script(socket: ServerConnection) -> None:
        async for frame in socket:
            await socket.send(reply(frame, payload))

    async with scripted(script) as url, Client(url) as client, client.subscribe_all_account_events():
        pass


class Failing:
    """A limiter that fails when it is told to, and counts."""

    def __init__(self) -> None:
        self.fails, self.entered = False, 0

    async def __aenter__(self) -> None:
        self.entered += 1
        if self.fails:
            raise RuntimeError

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_subscription_that_fails_at_once_is_tried_again_after_a_pause(exchange: SimulatedExchange) -> None:
    limiter = Failing()
    async with (
        Client(exchange.url, ALICE, reconnect=SOON, limiter=limiter) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        limiter.fails = True
        await exchange.cut_now()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.wait({waiting}, timeout=0.7)
        assert 2 <= limiter.entered <= 3
        limiter.fails = False
        assert await asyncio.wait_for(waiting, 2) == Gap(reconnected=True)


async def test_what_is_queued_is_given_after_the_client_has_ended(exchange: SimulatedExchange) -> None:
    """The last word on a ticket, heard on a connection that this reader has not come to yet."""
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    async with (
        Client(exchange.url, ALICE, reconnect=SOON) as client,
        client.subscribe_account_events(account_id=7) as slow,
        client.subscribe_account_events(account_id=7) as quick,
    ):
        await exchange.cut_now()
        assert await next_event(quick) == Gap(reconnected=True)
        exchange.set_status(ticket.ticket_number, "FullyProcessed")
        assert isinstance(await next_event(quick), WithdrawTicketUpdateEvent)
        await client.close()
        gap, event = [item async for item in slow]
        assert gap == Gap(reconnected=True)
        assert isinstance(event, WithdrawTicketUpdateEvent)


async def test_a_reader_that_slept_through_many_reconnects_is_told_once_and_subscribes_once(
    exchange: SimulatedExchange,
) -> None:
    async with (
        Client(exchange.url, ALICE, reconnect=SOON) as client,
        client.subscribe_account_events(account_id=7, size=2) as events,
    ):
        for turn in range(5):
            await exchange.cut_now()
            while client.stats.reconnects <= turn:
                await asyncio.sleep(0.001)
        assert await next_event(events) == Gap(reconnected=True)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.wait({waiting}, timeout=0.05)
        assert not waiting.done()
        waiting.cancel()
    assert subscriptions(exchange) == 2


async def test_two_readers_of_one_subscription_share_what_comes(exchange: SimulatedExchange) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    async with (
        Client(exchange.url, ALICE, reconnect=SOON) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        with exchange.faults.delay(0.05, "SubscribeAccountEvents"):
            await exchange.cut_now()
            readers = [asyncio.ensure_future(anext(events)) for _ in range(2)]
            await asyncio.wait(readers, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            await client.ping()
        exchange.set_status(ticket.ticket_number, "Submitted")
        heard = await asyncio.wait_for(asyncio.gather(*readers), 5)
    assert {type(item) for item in heard} == {Gap, WithdrawTicketUpdateEvent}
