"""An operator's nightly clean-up: cancel every failed withdraw ticket, so that it can be stopped and go on.

ALPHAPOINT_URL=wss://HOST/WSGateway/ ALPHAPOINT_USER_NAME=... ALPHAPOINT_PASSWORD=... \
        python clear_failed_tickets.py JOURNAL
"""

import asyncio
import os
import sys
from collections import Counter

from aioalphapoint import AlphaPointError, Client, Password
from aioalphapoint.bulk import Journal, Outcome, cancel_failed_tickets


def tell(outcome: Outcome) -> None:
    if outcome.state != "confirmed":
        print(f"{outcome.ticket.ticket_number}: {outcome.state}. {outcome.error}", flush=True)


async def main(journal: Journal) -> None:
    credentials = Password(os.environ["ALPHAPOINT_USER_NAME"], os.environ["ALPHAPOINT_PASSWORD"])
    async with Client(os.environ["ALPHAPOINT_URL"], credentials) as client:
        # Page by page out of the listing, straight into the run: the first cancel does not wait for the last page.
        failed = (ticket async for ticket in client.iter_all_withdraw_tickets() if ticket.status.is_failed)
        outcomes = await cancel_failed_tickets(client, failed, journal=journal, on_outcome=tell)
    counts = Counter(outcome.state for outcome in outcomes)
    print(", ".join(f"{count} {state}" for state, count in counts.items()) or "Nothing had failed.")


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004  (the program's name and one argument)
        sys.exit("usage: clear_failed_tickets.py JOURNAL")
    try:
        asyncio.run(main(Journal(sys.argv[1])))
    except AlphaPointError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped. Run it again with the same journal to go on.")
