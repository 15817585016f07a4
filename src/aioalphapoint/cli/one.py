"""`cancel-withdraw` and `cancel-failed-ticket`: one cancel, and what its ticket then tells."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from aioalphapoint import (
    AlphaPointError,
    Client,
    NotCancelled,
    NotConfirmed,
    NotConnected,
    WithdrawTicket,
)
from aioalphapoint.bulk import Outcome, OutcomeState, cancel_failed_tickets, cancel_withdraws
from aioalphapoint.reconcile import confirm_cancelled

from .exits import Exit, check_seconds, exit_of_all
from .listing import listed
from .report import outcome_in_words, outcome_row
from .screen import Screen
from .session import NOWHERE, Session

__all__ = ["Aftermath", "cancel_failed_ticket", "cancel_withdraw"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """What is done beside the one call.

    Attributes:
        dry_run: Check the arguments, and send nothing at all.
        confirm: Read the ticket afterwards, until it has ended.
        confirm_timeout: Seconds for that.
    """

    dry_run: bool
    confirm: bool
    confirm_timeout: float


async def cancel_withdraw(session: Session, account_id: int, request_code: str, after: Aftermath) -> Exit:
    """Cancel one pending withdrawal."""
    screen, function = session.screen, "CancelWithdraw"
    check_seconds("--confirm-timeout", after.confirm_timeout)
    with contextlib.suppress(NotConnected):  # an unconnected client checks what it is given, and sends nothing
        await Client(NOWHERE).cancel_withdraw(account_id=account_id, request_code=request_code, user_id=0)
    # Its number stands in the ticket alone, and the call does not need it.
    named = WithdrawTicket(ticket_number=0, account_id=account_id, request_code=request_code)
    if after.dry_run:
        return _show_only(screen, named, function, f"withdrawal {request_code} of account {account_id}")
    async with session.connected() as client:
        with screen.waiting("Cancelling ..."):
            (outcome,) = await cancel_withdraws(
                client,
                [named],
                confirm=after.confirm,
                confirm_timeout=after.confirm_timeout,
                on_outcome=lambda outcome: _tell(screen, outcome, function),
            )
    return exit_of_all([outcome])


async def cancel_failed_ticket(session: Session, ticket_number: int, account_id: int | None, after: Aftermath) -> Exit:
    """Cancel one failed ticket.

    Args:
        session: How to reach the exchange.
        ticket_number: The ticket.
        account_id: Where to look for it afterwards; None: in the listing of all accounts.
        after: What is done beside the call.
    """
    screen, function = session.screen, "CancelFailedWithdrawTicket"
    check_seconds("--confirm-timeout", after.confirm_timeout)
    with contextlib.suppress(NotConnected):
        await Client(NOWHERE).cancel_failed_withdraw_ticket(ticket_id=ticket_number)
    named = WithdrawTicket(ticket_number=ticket_number, account_id=account_id or 0)
    if after.dry_run:
        return _show_only(screen, named, function, f"failed ticket {ticket_number}")
    outcome = Outcome(named, OutcomeState.NOT_SENT)

    def keep(told: Outcome) -> None:
        nonlocal outcome
        outcome = told

    async with session.connected() as client:
        try:
            with screen.waiting("Cancelling ..."):
                await cancel_failed_tickets(client, [named], confirm=False, on_outcome=keep)
                if after.confirm and outcome.state in (OutcomeState.ACCEPTED, OutcomeState.UNKNOWN):
                    # After the cancel: only a listing finds a ticket by its number, and that may be long.
                    outcome = await _confirmed(client, outcome, account_id, after.confirm_timeout, screen)
        finally:
            _tell(screen, outcome, function)
    return exit_of_all([outcome])


async def _confirmed(
    client: Client, outcome: Outcome, account_id: int | None, timeout: float, screen: Screen
) -> Outcome:
    number = outcome.ticket.ticket_number
    try:
        ticket = await _found(client, number, account_id, screen)
        seen = await confirm_cancelled(
            client,
            account_id=ticket.account_id,
            request_code=ticket.request_code,
            oms_id=ticket.oms_id,
            timeout=timeout,
            was_failed=True,
        )
    except (NotCancelled, NotConfirmed) as error:
        return replace(outcome, error=error, seen=error.ticket)
    except AlphaPointError as error:
        return replace(outcome, error=outcome.error or error)
    return replace(outcome, state=OutcomeState.CONFIRMED, error=None, seen=seen)


async def _found(client: Client, number: int, account_id: int | None, screen: Screen) -> WithdrawTicket:
    async with contextlib.aclosing(listed(client, account_id, screen)) as tickets:
        async for ticket in tickets:
            if ticket.ticket_number == number:
                return ticket
    raise NotConfirmed(f"ticket {number} is in no listing")


def _show_only(screen: Screen, named: WithdrawTicket, function: str, what: str) -> Exit:
    screen.record({**outcome_row(Outcome(named, OutcomeState.NOT_SENT), function), "outcome": "dry run"})
    screen.say(f"{function} would be sent for {what}. Nothing was sent.")
    return Exit.DONE


def _tell(screen: Screen, outcome: Outcome, function: str) -> None:
    screen.record(outcome_row(outcome, function))
    screen.say(outcome_in_words(outcome))
