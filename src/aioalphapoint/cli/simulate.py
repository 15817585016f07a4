"""`aioalphapoint simulate`: the simulated exchange, left running."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

from rich.console import Console

from aioalphapoint.testing import SimulatedExchange

__all__ = ["run_exchange"]

_PASSWORD = "simulated"  # noqa: S105  (of made-up users, printed below)


async def run_exchange(console: Console, port: int) -> None:
    """Run the exchange with a few users and tickets, until cancelled."""
    exchange = SimulatedExchange(port=port)
    exchange.add_user("alice", _PASSWORD, account_id=7)
    exchange.add_user("operator", _PASSWORD, permissions=["Operator"])
    pending = exchange.add_withdraw(account_id=7, amount="1.10", status="Pending")
    failed = exchange.add_withdraw(account_id=7, amount="25", asset_name="USDT", status="Failed")
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(exchange)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise SystemExit(f"Cannot listen on 127.0.0.1:{port}: {reason}") from None
        lines = [
            f"The simulated exchange listens at {exchange.url}",
            f"Logins: alice / {_PASSWORD} (account 7), operator / {_PASSWORD}",
            f"Pending withdrawal of account 7: {pending.request_code}",
            f"Failed ticket: {failed.ticket_number}",
            "First message to send:",
            '  {"m":0,"i":2,"n":"AuthenticateUser","o":"{\\"UserName\\":\\"alice\\",\\"Password\\":\\"simulated\\"}"}',
            "Ctrl-C stops it.",
        ]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        await asyncio.Event().wait()
