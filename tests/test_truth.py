"""What callers are told, held against what the exchange has in its journal.

The long version runs by `make chaos`; the suite runs a short one.
"""

import asyncio
import os
import random
import time
from collections import Counter

import pytest

from aioalphapoint import (
    Backoff,
    CallNotSent,
    CallRejected,
    CallTimeout,
    Client,
    ConnectionLost,
    NotConnected,
    OperationFailed,
    OutcomeUnknown,
)
from aioalphapoint.testing import SimulatedExchange
from conftest import OPERATOR

SECONDS = float(os.environ.get("ALPHAPOINT_CAMPAIGN_SECONDS", "2.5"))
PACE = 1 if SECONDS < 30 else 4  # the short version flaps four times as often, for as many outages
SOON = Backoff(first=0.005, cap=0.2)


async def cancel(client: Client, ticket_id: int, timeout: float) -> str:
    """Cancel a ticket once, and say in one word what was told."""
    try:
        await client.cancel_failed_withdraw_ticket(ticket_id=ticket_id, timeout=timeout)
    except CallNotSent:
        return "not sent"
    except OutcomeUnknown:
        return "unknown"
    except CallRejected:
        return "refused"
    return "accepted"


async def test_under_flapping_what_was_told_agrees_with_the_journal() -> None:
    """Server down for 0 to 2 s every 1 to 3 s, under load: one socket, one login a socket, nothing sent twice."""
    chance = random.Random(3)
    told: dict[int, str] = {}
    exchange = SimulatedExchange()
    exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
    await exchange.__aenter__()
    client = Client(exchange.url, OPERATOR, reconnect=SOON, timeout=5)
    await client.connect()
    end = asyncio.get_running_loop().time() + SECONDS
    most_sockets = 0

    async def caller() -> None:
        nonlocal most_sockets
        while asyncio.get_running_loop().time() < end:
            ticket = exchange.add_withdraw(account_id=7, amount="1", status="Failed")
            timeout = chance.choice([0.01, 0.1, 1.0])
            started = asyncio.get_running_loop().time()
            told[ticket.ticket_number] = await cancel(client, ticket.ticket_number, timeout)
            assert asyncio.get_running_loop().time() - started < timeout + 1  # the loop may lag, not hang
            most_sockets = max(most_sockets, len(exchange._guests))
            await asyncio.sleep(chance.uniform(0, 0.02))

    async def flap() -> None:
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(PACE * chance.uniform(0.25, 0.75))
            await exchange.__aexit__(None, None, None)
            await asyncio.sleep(PACE * chance.uniform(0, 0.5))
            await exchange.__aenter__()

    await asyncio.gather(flap(), *(caller() for _ in range(50)))
    await client.close()
    await exchange.__aexit__(None, None, None)

    arrivals = Counter(
        int((arrival.payload or "").split('"ticketId":')[1].rstrip("}"))
        for arrival in exchange.journal
        if arrival.function == "CancelFailedWithdrawTicket"
    )
    assert max(arrivals.values()) == 1
    for number, word in told.items():
        cancelled = exchange.ticket(number).status.is_cancelled
        match word:
            case "accepted":
                assert cancelled
            case "not sent":
                assert (cancelled, arrivals[number]) == (False, 0)
            case "refused":
                pytest.fail("nothing here is to be refused")
    counts = Counter(told.values())
    assert counts["accepted"] > 100
    assert client.stats.reconnects > 0
    logins = Counter(arrival.connection for arrival in exchange.journal if arrival.function == "AuthenticateUser")
    assert set(logins.values()) == {1}
    first_words = {arrival.connection: arrival.function for arrival in reversed(exchange.journal)}
    assert set(first_words.values()) == {"AuthenticateUser"}
    assert most_sockets == 1
    assert client.stats.in_flight == 0


@pytest.mark.parametrize("turns", range(20))
async def test_a_cancelled_caller_was_sent_or_was_not_and_nobody_else_notices(turns: int) -> None:
    """Cancelled at every turn of the loop that a call takes; the journal says which of the two it was."""
    async with SimulatedExchange() as exchange:
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        async with Client(exchange.url, OPERATOR, timeout=10) as client:
            for _ in range(10):
                mine = exchange.add_withdraw(account_id=7, amount="1", status="Failed")
                other = exchange.add_withdraw(account_id=7, amount="1", status="Failed")
                tasks = [
                    asyncio.create_task(client.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number))
                    for ticket in (mine, other)
                ]
                for _ in range(turns):
                    await asyncio.sleep(0)
                tasks[0].cancel()
                assert (await tasks[1]).is_accepted
                await asyncio.wait(tasks)
                assert tasks[0].cancelled() or tasks[0].result().is_accepted
                sent = [a for a in exchange.journal if a.payload == f'{{"omsId":1,"ticketId":{mine.ticket_number}}}']
                assert len(sent) == exchange.ticket(mine.ticket_number).status.is_cancelled
            assert client.stats.in_flight == 0
            assert client.stats.sent == len(exchange.journal)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, None])
async def test_a_cut_before_or_after_the_deed_is_told_as_unknown_and_is_never_repeated(
    code: int | None, before: bool
) -> None:
    async with SimulatedExchange() as exchange:
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        async with Client(exchange.url, OPERATOR, timeout=10, reconnect=SOON) as client:
            for _ in range(20):
                ticket = exchange.add_withdraw(account_id=7, amount="1", status="Failed")
                with (
                    exchange.faults.cut(code, before=before, function="CancelFailedWithdrawTicket"),
                    pytest.raises(ConnectionLost),
                ):
                    await client.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)
                assert exchange.ticket(ticket.ticket_number).status.is_cancelled is not before
                await client.ping()
            names = Counter(arrival.function for arrival in exchange.journal)
            assert names["CancelFailedWithdrawTicket"] == 20
            assert (client.stats.reconnects, client.stats.in_flight) == (20, 0)


async def test_during_an_outage_a_thousand_waiting_calls_cost_no_cpu() -> None:
    async with SimulatedExchange() as exchange:
        client = Client(exchange.url, reconnect=Backoff(first=0.2, cap=0.2), timeout=1)
        await client.connect()
        await exchange.cut_now()
        with exchange.faults.refuse_dial():
            calls = [asyncio.create_task(client.call("Ping")) for _ in range(1000)]
            await asyncio.sleep(0.2)
            before = time.process_time()
            await asyncio.sleep(0.6)
            busy = time.process_time() - before
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {NotConnected}
        assert busy < 0.3  # of 0.6 s; a waiting loop without a pause takes all of it
        assert await client.call("Ping") == {"msg": "PONG"}
        await client.close()


async def test_faults_end_as_what_they_are(exchange: SimulatedExchange, operator: Client) -> None:
    """Each fault of the exchange, with the class that a caller meets, and a good call after it."""

    async def attempt(timeout: float = 5.0) -> str:
        ticket = exchange.add_withdraw(account_id=7, amount="1", status="Failed")
        try:
            await operator.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number, timeout=timeout)
        except (CallTimeout, ConnectionLost, OperationFailed, OutcomeUnknown) as error:
            return type(error).__name__
        return "accepted"

    with exchange.faults.mute():
        assert await attempt(0.1) == "CallTimeout"
    with exchange.faults.delay(0.05):
        assert await attempt() == "accepted"
    with exchange.faults.reject(101):
        assert await attempt() == "OperationFailed"
    with exchange.faults.garble():
        assert await attempt() == "UnexpectedReply"
    with exchange.faults.duplicate():
        assert await attempt() == "accepted"
    with exchange.faults.reorder(10, random.Random(1)):
        assert await asyncio.gather(*(attempt() for _ in range(10))) == ["accepted"] * 10
    assert await attempt() == "accepted"
    assert operator.stats.late_replies >= 1
    assert operator.stats.in_flight == 0
