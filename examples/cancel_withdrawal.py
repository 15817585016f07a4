"""Cancel one pending withdrawal, and wait until its ticket says so.

ALPHAPOINT_URL=wss://HOST/WSGateway/ ALPHAPOINT_USER_NAME=... ALPHAPOINT_PASSWORD=... \
        python cancel_withdrawal.py ACCOUNT_ID REQUEST_CODE
"""

import asyncio
import os
import sys

from aioalphapoint import AlphaPointError, CallNotSent, CallRejected, Client, NotCancelled, OutcomeUnknown, Password
from aioalphapoint.reconcile import confirm_cancelled


async def main(account_id: int, request_code: str) -> None:
    credentials = Password(os.environ["ALPHAPOINT_USER_NAME"], os.environ["ALPHAPOINT_PASSWORD"])
    async with Client(os.environ["ALPHAPOINT_URL"], credentials) as client:
        try:
            await client.cancel_withdraw(account_id=account_id, request_code=request_code)
            print("Received, which is not yet cancelled.")
        except CallRejected as refusal:
            print("The exchange said no.", refusal)
        except OutcomeUnknown as doubt:
            print("Sent, and not known to be done.", doubt)
        # Whatever the answer was, the ticket tells what became of the withdrawal.
        try:
            ticket = await confirm_cancelled(client, account_id=account_id, request_code=request_code, timeout=30)
        except NotCancelled as error:
            sys.exit(f"Too late: {error}")
        print(f"Ticket {ticket.ticket_number} of {ticket.amount} {ticket.asset_name} is now {ticket.status}.")


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004  (the program's name and two arguments)
        sys.exit("usage: cancel_withdrawal.py ACCOUNT_ID REQUEST_CODE")
    try:
        asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
    except CallNotSent as error:
        sys.exit(f"Nothing was sent: running this again is safe. {error}")
    except AlphaPointError as error:
        sys.exit(f"{type(error).__name__}: {error}")
