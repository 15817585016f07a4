"""`aioalphapoint demo`: both calls and one refusal, with what crossed the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from rich.console import Console
from rich.text import Text

from aioalphapoint import Client, Password
from aioalphapoint.errors import CallRejected
from aioalphapoint.models import StandardResponse
from aioalphapoint.testing import SimulatedExchange

__all__ = ["show_demo"]

_ALICE, _OPERATOR = Password("alice", "simulated"), Password("operator", "simulated")
_UNKNOWN = UUID("490b4fa3-53fc-44f4-bd29-7e16be86fba3")


async def show_demo(console: Console) -> None:
    """Run the story of the demo, and print it as it happens."""
    async with SimulatedExchange() as exchange:
        exchange.add_user(_ALICE.user_name, _ALICE.password, account_id=7)
        exchange.add_user(_OPERATOR.user_name, _OPERATOR.password, permissions=["Operator"])
        pending = exchange.add_withdraw(account_id=7, amount="1.10", status="Pending")
        failed = exchange.add_withdraw(account_id=9, amount="0.0010000000000000000000000000", status="Failed")
        show = _Show(console, exchange)
        console.print(f"A simulated exchange listens at {exchange.url}", highlight=False)

        show.title("1. A user stops a pending withdrawal: CancelWithdraw")
        show.ticket(pending.ticket_number, "before")
        async with show.session(_ALICE) as client:
            response = await client.cancel_withdraw(account_id=7, request_code=pending.request_code)
            show.wire()
            show.response(response)
            show.ticket(pending.ticket_number, "after")

            show.title("2. A withdrawal that does not exist: the refusal that a program would catch")
            try:
                await client.cancel_withdraw(account_id=7, request_code=_UNKNOWN)
            except CallRejected as refusal:
                show.wire()
                show.error(refusal)

        show.title("3. An operator clears a failed ticket: CancelFailedWithdrawTicket")
        show.ticket(failed.ticket_number, "before")
        async with show.session(_OPERATOR) as client:
            response = await client.cancel_failed_withdraw_ticket(ticket_id=failed.ticket_number)
            show.wire()
            show.response(response)
        show.ticket(failed.ticket_number, "after")


class _Show:
    """Prints what happened on the exchange since the last look."""

    def __init__(self, console: Console, exchange: SimulatedExchange) -> None:
        self._console = console
        self._exchange = exchange
        self._seen = 0

    @asynccontextmanager
    async def session(self, credentials: Password) -> AsyncIterator[Client]:
        async with Client(self._exchange.url, credentials) as client:
            self._line("", f"{client!r}", "dim")
            self.wire()
            yield client

    def title(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def wire(self) -> None:
        for arrival in list(self._exchange.journal)[self._seen :]:
            self._line("sent", arrival.frame, "cyan")
            self._line("received", arrival.answer or "(nothing)", "green")
            self._seen += 1

    def response(self, response: StandardResponse) -> None:
        self._line("returned", repr(response), "")

    def error(self, error: CallRejected) -> None:
        self._line("raised", f"{type(error).__name__}: {error}", "red")

    def ticket(self, number: int, when: str) -> None:
        ticket = self._exchange.ticket(number)
        self._line(when, f"ticket {number}: {ticket.amount} {ticket.asset_name}, {ticket.status}", "bold")

    def _line(self, label: str, text: str, style: str) -> None:
        # soft_wrap: a frame is one line, so that it can be copied whole
        self._console.print(Text(f"  {label:9}", style="dim").append(text, style=style), soft_wrap=True)
