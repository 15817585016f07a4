"""Test a bot of your own: the fixtures come with the library, and nothing leaves this machine.

pytest test_bot.py
"""

import asyncio
from contextlib import suppress
from decimal import Decimal

import pytest

from aioalphapoint import CallRejected, Client, NotCancelled, OutcomeUnknown
from aioalphapoint.reconcile import confirm_cancelled
from aioalphapoint.testing import SimulatedExchange


async def stop_large(client: Client, account_id: int, limit: Decimal) -> list[int]:
    """The bot: stop what is above the limit, and give the numbers of the tickets that were seen cancelled."""
    stopped = []
    async for ticket in client.iter_withdraw_tickets(account_id=account_id):
        is_small = ticket.amount is not None and ticket.amount <= limit  # one that cannot be read is not small
        if ticket.status.is_final or is_small:
            continue
        with suppress(CallRejected, OutcomeUnknown):  # whatever happened to the call, the ticket tells the truth
            await client.cancel_withdraw(account_id=account_id, request_code=ticket.request_code)
        try:
            await confirm_cancelled(client, account_id=account_id, request_code=ticket.request_code, timeout=10)
        except NotCancelled:
            continue
        stopped.append(ticket.ticket_number)
    return stopped


@pytest.mark.asyncio
async def test_only_what_is_above_the_limit_is_stopped(
    simulated_exchange: SimulatedExchange, alphapoint_client: Client
) -> None:
    small = simulated_exchange.add_withdraw(account_id=7, amount="0.50")
    large = simulated_exchange.add_withdraw(account_id=7, amount="1.10")
    assert await stop_large(alphapoint_client, 7, Decimal(1)) == [large.ticket_number]
    assert simulated_exchange.ticket(large.ticket_number).status == "UserCanceled"
    assert simulated_exchange.ticket(small.ticket_number).status == "Pending"


@pytest.mark.asyncio
async def test_a_cancel_whose_answer_is_lost_is_not_sent_again(
    simulated_exchange: SimulatedExchange, alphapoint_client: Client
) -> None:
    ticket = simulated_exchange.add_withdraw(account_id=7, amount="1.10")
    with simulated_exchange.faults.cut(function="CancelWithdraw"):
        assert await stop_large(alphapoint_client, 7, Decimal(1)) == [ticket.ticket_number]
    sent = [arrival for arrival in simulated_exchange.journal if arrival.function == "CancelWithdraw"]
    assert len(sent) == 1


@pytest.mark.asyncio
async def test_a_withdrawal_that_is_paid_out_meanwhile_is_not_told_as_stopped(
    simulated_exchange: SimulatedExchange, alphapoint_client: Client
) -> None:
    ticket = simulated_exchange.add_withdraw(account_id=7, amount="1.10")
    with simulated_exchange.faults.accept_only():  # the exchange says yes, and pays all the same
        stopping = asyncio.create_task(stop_large(alphapoint_client, 7, Decimal(1)))
        await asyncio.wait({stopping}, timeout=0.2)
        simulated_exchange.set_status(ticket.ticket_number, "FullyProcessed")
        assert await stopping == []
