"""Handing in tickets: a row and a job for each one that is new, both or neither."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from itertools import islice

from procrastinate import App
from procrastinate.exceptions import AlreadyEnqueued

from aioalphapoint import Client, WithdrawTicket

from .app import defer
from .ledger import Key, Ledger
from .worker import Unfit

__all__ = ["failed_tickets", "submit"]

_AT_ONCE = 1000  # tickets a transaction


async def submit(app: App, ledger: Ledger, tickets: Iterable[WithdrawTicket], *, oms_id: int, again: bool) -> int:
    """Hand in tickets; one that was handed in before adds nothing, however far it has come.

    Args:
        app: Queues the jobs.
        ledger: Keeps the rows.
        tickets: Each with its number, account and request code.
        oms_id: The order management system of those that name none.
        again: Work anew on those that wait for a person, or have lost their job.

    Returns:
        How many there are to work on more than before.
    """
    each = {Key(ticket.oms_id or oms_id, ticket.ticket_number): ticket for ticket in tickets}
    rows = ((key, ticket.account_id, ticket.request_code) for key, ticket in each.items())
    added = 0
    while batch := list(islice(rows, _AT_ONCE)):
        try:
            async with ledger.transaction() as db:
                keys = await ledger.enter(db, batch, again=again)
                if keys:
                    await defer(app, db, keys)
        except AlreadyEnqueued as error:
            raise Unfit(f"{error}; its row is gone, and its job is not") from error
        added += len(keys)
    if added:
        async with ledger.transaction() as db:
            # Without it PostgreSQL knows nothing of the new rows yet, and looks for minutes for the first of 100,000.
            await db.execute("ANALYZE procrastinate_jobs, fleet_tickets")
    return added


async def failed_tickets(client: Client) -> AsyncIterator[WithdrawTicket]:
    """Give the tickets that have failed, out of an operator's listing."""
    listing: AsyncIterable[WithdrawTicket] = client.iter_all_withdraw_tickets()
    async for ticket in listing:
        if ticket.status.is_failed:
            yield ticket
