"""Handing in tickets: a row and a job for each one that is new, both or neither."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence

from procrastinate import App
from procrastinate.exceptions import AlreadyEnqueued

from aioalphapoint import Client, WithdrawTicket
from aioalphapoint.cli.exits import Misuse

from .app import defer
from .ledger import Key, Ledger, Listed

__all__ = ["LARGEST_OMS", "checked", "failed_tickets", "submit"]

LARGEST_OMS = 2**31 - 1  # what the columns hold
_LARGEST = 2**63 - 1
_GUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_AT_ONCE = 1000  # tickets a transaction
_TRIES = 10  # of a transaction: a job may be queued again by its worker in the middle of one


def checked(tickets: Iterable[WithdrawTicket], name: str, *, oms_id: int) -> Sequence[Listed]:
    """Check the tickets of a list: each has to be one that can be read back.

    Args:
        tickets: Each with its number, account and request code.
        name: What to call the list in an error.
        oms_id: The order management system of those that name none.

    Raises:
        Misuse: One cannot be sent, or read; the sentence names it and says what is allowed.
    """
    each: dict[Key, Listed] = {}
    for ticket in tickets:
        listed = Listed(
            ticket.oms_id or oms_id, ticket.ticket_number, ticket.account_id or 0, ticket.request_code or ""
        )
        _check(listed, name)
        first = each.setdefault(listed.key, listed)
        if (first.account_id, first.request_code.lower()) != (listed.account_id, listed.request_code.lower()):
            raise Misuse(f"{name} must name ticket {listed.ticket_number} with one account_id and one request_code")
    return list(each.values())


def _check(listed: Listed, name: str) -> None:
    which = f"ticket {listed.ticket_number} of {name} must have"
    if not 1 <= listed.oms_id <= LARGEST_OMS:
        raise Misuse(f"{which} an oms_id from 1 to {LARGEST_OMS}, not {listed.oms_id}")
    if not 0 <= listed.ticket_number <= _LARGEST:
        raise Misuse(f"{which} a number from 0 to {_LARGEST}")
    if not 1 <= listed.account_id <= _LARGEST:
        raise Misuse(f"{which} an account_id from 1 to {_LARGEST}, not {listed.account_id or 'none'}")
    if not _GUID.fullmatch(listed.request_code):
        raise Misuse(f"{which} a request_code, a GUID of 36 characters, not {listed.request_code[:40] or 'none'!r}")


async def submit(app: App, ledger: Ledger, tickets: Iterable[Listed], *, again: bool) -> int:
    """Hand in tickets; one that was handed in before adds nothing, however far it has come.

    Args:
        app: Queues the jobs.
        ledger: Keeps the rows.
        tickets: As `checked` gives them.
        again: Work anew on those that wait for a person, or have lost their job.

    Returns:
        How many there are to work on more than before.

    Raises:
        Misuse: A ticket was submitted with another account or request code. Nothing is added then.
    """
    ordered = sorted(tickets)  # two who hand in the same would wait for each other, in another order
    batches = [ordered[first : first + _AT_ONCE] for first in range(0, len(ordered), _AT_ONCE)]
    async with ledger.transaction() as db:
        for batch in batches:
            other = await ledger.otherwise(db, batch, again=again)
            if other is not None:
                raise Misuse(
                    f"ticket {other.key} was submitted with account_id {other.account_id} and request_code "
                    f"{other.request_code}: it must have them again"
                )
    added = 0
    for batch in batches:
        added += await _submitted(app, ledger, batch, again=again)
    if added:
        async with ledger.transaction() as db:
            # Without it PostgreSQL knows nothing of the new rows yet, and looks for minutes for the first of 100,000.
            await db.execute("ANALYZE procrastinate_jobs, fleet_tickets")
    return added


async def _submitted(app: App, ledger: Ledger, batch: Sequence[Listed], *, again: bool) -> int:
    tried = 0
    while True:
        try:
            async with ledger.transaction() as db:
                keys = await ledger.enter(db, batch, again=again)
                await defer(app, db, keys)
        except AlreadyEnqueued:
            tried += 1
            if tried == _TRIES:
                raise
        else:
            return len(keys)


async def failed_tickets(client: Client) -> AsyncIterator[WithdrawTicket]:
    """Give the tickets that have failed, out of an operator's listing."""
    listing: AsyncIterable[WithdrawTicket] = client.iter_all_withdraw_tickets()
    async for ticket in listing:
        if ticket.status.is_failed:
            yield ticket
