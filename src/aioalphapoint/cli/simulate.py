"""`aioalphapoint simulate`: the simulated exchange, left running."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack

import pyotp
from rich.console import Console

from aioalphapoint.testing import SimulatedExchange

__all__ = ["run_exchange"]

_PASSWORD = "simulated"  # noqa: S105  (of made-up users, printed below)
_CODE_LASTS = 30  # seconds (RFC 6238's default)


async def run_exchange(
    console: Console, port: int, *, pending: int, failed: int, delay: float, two_factor: bool
) -> None:
    """Run the exchange with a few users and tickets, until cancelled.

    Args:
        console: Where to tell how to reach it.
        port: The port to listen on; 0 takes a free one.
        pending: How many pending withdrawals account 7 has.
        failed: How many failed tickets account 9 has.
        delay: Seconds by which each answer is late.
        two_factor: Whether alice is asked for a code, which is then printed as it changes.
    """
    exchange = SimulatedExchange(port=port)
    totp_secret = pyotp.random_base32() if two_factor else None
    exchange.add_user("alice", _PASSWORD, account_id=7, totp_secret=totp_secret)
    exchange.add_user("operator", _PASSWORD, permissions=["Operator"])
    withdrawals = [exchange.add_withdraw(account_id=7, amount="1.10", status="Pending") for _ in range(pending)]
    tickets = [
        exchange.add_withdraw(account_id=9, amount="25", asset_name="USDT", status="Failed") for _ in range(failed)
    ]
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(exchange)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise SystemExit(f"Cannot listen on 127.0.0.1:{port}: {reason}") from None
        if delay:
            stack.enter_context(exchange.faults.delay(delay))
        lines = [
            f"The simulated exchange listens at {exchange.url}",
            f"  export ALPHAPOINT_URL={exchange.url}",
            f"  export ALPHAPOINT_USER_NAME=alice ALPHAPOINT_PASSWORD={_PASSWORD}",
            f"Logins: alice / {_PASSWORD} (account 7), operator / {_PASSWORD}",
            *(f"Pending withdrawal of account 7: {ticket.request_code}" for ticket in withdrawals[:1]),
            *(f"Failed ticket of account 9: {ticket.ticket_number}" for ticket in tickets[:1]),
            "First message to send:",
            '  {"m":0,"i":2,"n":"AuthenticateUser","o":"{\\"UserName\\":\\"alice\\",\\"Password\\":\\"simulated\\"}"}',
            "Ctrl-C stops it.",
        ]
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
        while totp_secret is not None:
            console.print(f"alice's code is now {pyotp.TOTP(totp_secret).now()}", highlight=False)
            await asyncio.sleep(_CODE_LASTS - time.time() % _CODE_LASTS)
        await asyncio.Event().wait()
