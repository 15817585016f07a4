"""Cancel one pending withdrawal.

ALPHAPOINT_URL=wss://HOST/WSGateway/ ALPHAPOINT_USER_NAME=... ALPHAPOINT_PASSWORD=... \
        python cancel_withdrawal.py ACCOUNT_ID REQUEST_CODE
"""

import asyncio
import os
import sys

from aioalphapoint import CallRejected, Client, OutcomeUnknown, Password


async def main(account_id: int, request_code: str) -> None:
    credentials = Password(os.environ["ALPHAPOINT_USER_NAME"], os.environ["ALPHAPOINT_PASSWORD"])
    async with Client(os.environ["ALPHAPOINT_URL"], credentials) as client:
        try:
            await client.cancel_withdraw(account_id=account_id, request_code=request_code)
        except CallRejected as refusal:
            sys.exit(f"The exchange said no. {refusal}")
        except OutcomeUnknown as doubt:
            sys.exit(f"Sent, and not known to be done: look at the ticket before trying again. {doubt}")
        # "Received" is not "cancelled": the ticket tells what became of it.
        ticket = await client.call(
            "GetWithdrawTicket", {"OMSId": 1, "AccountId": account_id, "RequestCode": request_code}
        )
        print("Received. The ticket is now", ticket["Status"] if isinstance(ticket, dict) else ticket)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
