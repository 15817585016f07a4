r"""An account is being emptied: stop every withdrawal that can still be stopped, and say what could not be.

    ALPHAPOINT_URL=wss://HOST/WSGateway/ ALPHAPOINT_USER_NAME=... ALPHAPOINT_PASSWORD=... \
        python stolen_account.py ACCOUNT_ID JOURNAL

JOURNAL is a file; run it again with the same one, after a crash too, and it goes on where it stopped.
"""

import asyncio
import os
import sys

from aioalphapoint import AlphaPointError, CallNotSent, CallTimeout, Client, ConnectionLost, NotConnected, Password
from aioalphapoint.bulk import Journal, Outcome, cancel_withdraws

PATIENCE = 30.0  # seconds for a page of the listing, and to see a ticket cancelled
OUTAGE = (CallNotSent, CallTimeout, ConnectionLost, NotConnected)


def line(outcome: Outcome) -> str:
    ticket = outcome.seen or outcome.ticket
    amount, asset = getattr(ticket, "amount", "?"), getattr(ticket, "asset_name", "")
    return f"{ticket.ticket_number}: {amount} {asset} {outcome.state}. {outcome.error or ''}"


async def stop_all(client: Client, account_id: int, journal: Journal, outcomes: dict[int, Outcome]) -> None:
    while True:
        # A thief may still be asking for more: list again until nothing is open that was not tried.
        try:
            listed = [ticket async for ticket in client.iter_withdraw_tickets(account_id=account_id, timeout=PATIENCE)]
        except OUTAGE as error:  # to read again is safe
            if client.state == "failed" or type(error) not in OUTAGE:
                raise
            print(error, flush=True)
            await asyncio.sleep(0.5)
            continue
        # Everything that has not ended, whatever its status is called: the exchange decides what it can stop.
        # What an outage kept back or left unknown is taken up again: by its journal, that reads before it sends.
        tried = {number for number, outcome in outcomes.items() if type(outcome.error) not in OUTAGE}
        pending = [ticket for ticket in listed if not ticket.status.is_final and ticket.ticket_number not in tried]
        print(f"{len(pending)} open", flush=True)
        if not pending:
            return
        # First every cancel goes out over the one session, fifty at a time; then the tickets are read back.
        for outcome in await cancel_withdraws(
            client, pending, concurrency=50, journal=journal, confirm_timeout=PATIENCE
        ):
            outcomes[outcome.ticket.ticket_number] = outcome


async def main(account_id: int, journal: Journal) -> int:
    credentials = Password(os.environ["ALPHAPOINT_USER_NAME"], os.environ["ALPHAPOINT_PASSWORD"])
    outcomes: dict[int, Outcome] = {}
    try:
        async with Client(os.environ["ALPHAPOINT_URL"], credentials) as client:
            await stop_all(client, account_id, journal, outcomes)
    finally:  # what is known is told, however it ends
        lost = [outcome for outcome in outcomes.values() if outcome.state != "confirmed"]
        print(f"{len(outcomes) - len(lost)} stopped")
        for outcome in lost:
            print("NOT STOPPED", line(outcome))
    return 1 if lost else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:  # noqa: PLR2004  (the program's name and two arguments)
        sys.exit("usage: stolen_account.py ACCOUNT_ID JOURNAL")
    try:
        sys.exit(asyncio.run(main(int(sys.argv[1]), Journal(sys.argv[2]))))
    except AlphaPointError as error:
        sys.exit(f"{type(error).__name__}: {error}")
