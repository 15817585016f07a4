"""Which tickets a command is about: read from the exchange, over a link that may fail in the middle."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import anyio

from aioalphapoint import (
    CallNotSent,
    CallTimeout,
    Client,
    ConnectionLost,
    InvalidArguments,
    SessionState,
    WithdrawTicket,
)

from .screen import Screen

__all__ = ["listed"]

# Reading again is safe, and on a bad day it is the link that fails; but a command has to end at some time.
_PATIENCE = 60.0  # seconds without any ticket
_PAUSE = 0.5  # seconds

_OVER = frozenset({SessionState.CLOSED, SessionState.FAILED})


async def listed(client: Client, account_id: int | None, screen: Screen) -> AsyncGenerator[WithdrawTicket, None]:
    """Give each ticket of an account once, or of all accounts; when the link fails, go on when it is back.

    Args:
        client: Reads the listing.
        account_id: The account; None: all of them, which only an operator may read.
        screen: Is told of failures on the way.

    Raises:
        AlphaPointError: It cannot be read, or could not for a minute.
    """
    seen: set[int] = set()
    until = anyio.current_time() + _PATIENCE
    while True:
        try:
            async for ticket in _pages(client, account_id):
                if ticket.ticket_number not in seen:
                    seen.add(ticket.ticket_number)
                    until = anyio.current_time() + _PATIENCE
                    yield ticket
        except (CallNotSent, CallTimeout, ConnectionLost) as error:
            is_for_good = isinstance(error, InvalidArguments) or client.state in _OVER
            if is_for_good or anyio.current_time() > until:
                raise
            screen.note(f"Listing again: {error}")
            await anyio.sleep(_PAUSE)
        else:
            return


def _pages(client: Client, account_id: int | None) -> AsyncIterator[WithdrawTicket]:
    if account_id is None:
        return client.iter_all_withdraw_tickets()
    return client.iter_withdraw_tickets(account_id=account_id)
