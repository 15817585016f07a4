"""Many cancels over one session: each ticket sent once at most, and the truth about each told at the end."""

from __future__ import annotations

from ._bulk import Bulk, OnOutcome, Tickets
from ._journal import Journal
from ._outcomes import Outcome, OutcomeState, Ticket
from ._steps import Entry, Key, Step
from .client import Client

__all__ = [
    "Entry",
    "Journal",
    "Key",
    "Outcome",
    "OutcomeState",
    "Step",
    "Ticket",
    "cancel_failed_tickets",
    "cancel_withdraws",
]


async def cancel_withdraws(
    client: Client,
    tickets: Tickets,
    *,
    concurrency: int = 8,
    confirm: bool = True,
    journal: Journal | None = None,
    on_outcome: OnOutcome | None = None,
    timeout: float | None = None,
    confirm_timeout: float = 30.0,
) -> list[Outcome]:
    """Cancel pending withdrawals (`CancelWithdraw`), many at once over the one session.

    First all are sent, then their tickets are read until they have ended. In a run a ticket is sent once at most; a
    cancel of which nothing left this machine is tried up to three times. An unknown outcome is settled by reading
    the ticket, never by a second cancel.

        listing = client.iter_withdraw_tickets(account_id=7)
        pending = (ticket async for ticket in listing if not ticket.status.is_final)
        outcomes = await cancel_withdraws(client, pending)

    With a journal, a ticket's step is on disk before its frame is sent. A run that is given the journal of an
    earlier one sends nothing for what is done. What was sent and never answered, or refused, it reads; it is sent
    again only if the ticket then still is open. No refusal is for ever: what cannot be cancelled while it is looked
    into (101) can be when it is pending. Of runs side by side on one journal only one sends a ticket, and its refusal
    is the others' outcome too; a run that begins after its end reads the ticket.

    Cancelling it ends it as soon as what is known is on disk: `on_outcome` is told of every ticket taken so far.

    Args:
        client: A connected client.
        tickets: What to cancel, such as `WithdrawTicket` values, in an iterable or an async iterable. One that is
            given twice is sent once.
        concurrency: Cancels under way at once; afterwards, readings.
        confirm: Read the tickets back, until they have ended. Tickets of an unknown outcome are always read.
        journal: Where to write down what is done.
        on_outcome: A plain function, called once for each ticket as soon as its `Outcome` is final. What it raises
            goes to the log `aioalphapoint`, and the run goes on.
        timeout: Seconds that each cancel may take; left out, the client's `timeout`.
        confirm_timeout: Seconds for which each accepted or unknown ticket is followed, from its first reading on;
            and for which the exchange may answer no reading at all before the run gives up reading.

    Returns:
        One outcome for each ticket, in the order given. Errors of calls are in there, none is raised.

    Raises:
        InvalidArguments: An argument makes no sense, or a value of a plain iterable is no ticket. Nothing was sent.
        JournalError: The journal cannot be opened or read. Nothing was sent. One that cannot be written later is the
            error of each outcome from there on; nothing is sent until it can.
        Exception: What an async iterable itself raised, or `InvalidArguments` for a value of it that is no ticket,
            once every ticket that it gave before has its outcome, of which `on_outcome` was told.
    """

    async def cancel(ticket: Ticket) -> object:
        return await client.cancel_withdraw(
            account_id=ticket.account_id, request_code=ticket.request_code, oms_id=ticket.oms_id, timeout=timeout
        )

    return await Bulk(
        client=client,
        function="CancelWithdraw",
        cancel=cancel,
        concurrency=concurrency,
        confirm=confirm,
        on_outcome=on_outcome,
        timeout=timeout,
        confirm_timeout=confirm_timeout,
    ).run(tickets, journal)


async def cancel_failed_tickets(
    client: Client,
    tickets: Tickets,
    *,
    concurrency: int = 8,
    confirm: bool = True,
    journal: Journal | None = None,
    on_outcome: OnOutcome | None = None,
    timeout: float | None = None,
    confirm_timeout: float = 30.0,
) -> list[Outcome]:
    """Cancel failed withdraw tickets (`CancelFailedWithdrawTicket`), many at once over an operator's session.

    All else is as with `cancel_withdraws`, "failed" in the place of "open".

        failed = (ticket async for ticket in client.iter_all_withdraw_tickets() if ticket.status.is_failed)
        outcomes = await cancel_failed_tickets(client, failed, journal=Journal("tonight.journal"))
    """

    async def cancel(ticket: Ticket) -> object:
        return await client.cancel_failed_withdraw_ticket(
            ticket_id=ticket.ticket_number, oms_id=ticket.oms_id, timeout=timeout
        )

    return await Bulk(
        client=client,
        function="CancelFailedWithdrawTicket",
        cancel=cancel,
        concurrency=concurrency,
        confirm=confirm,
        on_outcome=on_outcome,
        timeout=timeout,
        confirm_timeout=confirm_timeout,
    ).run(tickets, journal)
