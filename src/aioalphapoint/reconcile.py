"""What became of a cancel: read from the ticket, never guessed.

A good reply to a cancel says that the request was received; after an `OutcomeUnknown` not even that is known.
Either way the ticket tells.
"""

from __future__ import annotations

from uuid import UUID

import anyio

from ._arguments import seconds
from ._watch import Sighting, Watch, check_loop
from .client import Client
from .models import WithdrawTicket

__all__ = ["confirm_cancelled"]


async def confirm_cancelled(
    client: Client,
    *,
    account_id: int,
    request_code: UUID | str,
    timeout: float = 30.0,
    was_failed: bool = False,
    oms_id: int | None = None,
) -> WithdrawTicket:
    """Wait until a ticket is cancelled, and give it.

    It reads the ticket, at once and then with growing pauses, and hears of changes sooner where the exchange sends
    events. It works through reconnects. It never sends a cancel, so it may be called as often as one likes, and
    cancelling it is safe.

        try:
            await client.cancel_withdraw(account_id=7, request_code=code)
        except OutcomeUnknown:
            pass  # it left this machine; the ticket tells the rest
        ticket = await confirm_cancelled(client, account_id=7, request_code=code)

    Args:
        client: A client of a user who may read the account's tickets.
        account_id: The account that the withdrawal leaves.
        request_code: The withdrawal's GUID.
        timeout: Seconds to wait for it.
        was_failed: What is to be cancelled is a failed ticket (`cancel_failed_withdraw_ticket`): that it still is
            failed is then no end. The client must be an operator's.
        oms_id: The order management system; left out, the client's.

    Returns:
        The ticket, cancelled.

    Raises:
        NotCancelled: It ended otherwise: paid out, rejected, failed. The error carries the ticket.
        NotConfirmed: It was not seen to end in time. The error carries the ticket as it was last seen; where it
            could not be read since then, its sentence and its `__cause__` say why.
        CallRejected: The exchange does not let this user read the ticket, or has none.
        NotConnected: The client is closed, or was given up.
        AuthenticationFailed: It was given up because a login was refused.
        InvalidArguments: An argument makes no sense.
    """
    limit = seconds("timeout", timeout)
    await check_loop(client)
    sighting = Sighting(None, None)
    async with anyio.create_task_group() as tasks:
        sighting = await Watch(client, tasks, is_operator=was_failed).follow(
            account_id=account_id, request_code=request_code, timeout=limit, was_failed=was_failed, oms_id=oms_id
        )
        tasks.cancel_scope.cancel()
    if sighting.error is not None:
        raise sighting.error
    assert sighting.ticket is not None  # noqa: S101  (no error means that it was seen)
    return sighting.ticket
