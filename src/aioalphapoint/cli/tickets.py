"""`aioalphapoint tickets`: withdraw tickets as a table, or one JSON object a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from aioalphapoint import Client, WithdrawStatus, WithdrawTicket

from .exits import Exit, Misuse
from .listing import listed
from .report import amounts_in_words, ticket_row, ticket_table
from .session import Session

__all__ = ["checked_statuses", "show_tickets"]

# Words that stand for several statuses.
_GROUPS: Mapping[str, Callable[[WithdrawStatus], bool]] = {
    "open": lambda status: not status.is_final,  # a status that nobody knows yet may be one
    "ended": lambda status: status.is_final,
    "failed": lambda status: status.is_failed,
    "cancelled": lambda status: status.is_cancelled,
}


def checked_statuses(wanted: Sequence[str]) -> Sequence[str]:
    """Check the statuses to filter by.

    Raises:
        Misuse: One is none. Typed wrong it would show an empty list, and that would be believed.
    """
    for status in wanted:
        if status.casefold() not in _GROUPS and WithdrawStatus(status) not in list(WithdrawStatus):
            raise Misuse(f"{status!r} is no status; there are {', '.join([*_GROUPS, *WithdrawStatus])}")
    return wanted


async def show_tickets(session: Session, account_id: int | None, statuses: Sequence[str], *, everyone: bool) -> Exit:
    """List tickets.

    Args:
        session: How to reach the exchange.
        account_id: Of this account; None: of the login's own.
        statuses: Only tickets of these statuses or groups of statuses; none: all.
        everyone: Of all accounts, which only an operator may read.
    """
    screen = session.screen
    async with session.connected() as client:
        account = None if everyone else account_id if account_id is not None else _own_account(client)
        found: list[WithdrawTicket] = []
        with screen.waiting("Listing ..."):
            async for ticket in listed(client, account, screen):
                if _is_wanted(ticket, statuses):
                    screen.record(ticket_row(ticket))
                    found.append(ticket)
    if found:
        screen.show(ticket_table(found))
    amounts = amounts_in_words(found)
    screen.say(f"{len(found):,} {'ticket' if len(found) == 1 else 'tickets'}{f', {amounts}' if amounts else ''}")
    return Exit.DONE


def _own_account(client: Client) -> int:
    identity = client.identity
    if identity is None or not identity.account_id:  # 0 is no account
        raise Misuse("this login has no account of its own: name one by --account, or say --all-accounts")
    return identity.account_id


def _is_wanted(ticket: WithdrawTicket, statuses: Sequence[str]) -> bool:
    if not statuses:
        return True
    return any(
        _GROUPS[wanted.casefold()](ticket.status)
        if wanted.casefold() in _GROUPS
        else ticket.status is WithdrawStatus(wanted)
        for wanted in statuses
    )
