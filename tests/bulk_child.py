"""A bulk run as a program of its own, to be killed: bulk_child.py URL JOURNAL TICKETS [BYTES].

TICKETS is a JSON file of [number, account, request code]. BYTES limits the size of each file that it may write, as a
full disk does. It prints the outcomes by state, and the errors of what was not sent.
"""

import asyncio
import json
import resource
import sys
from collections import Counter
from pathlib import Path

from aioalphapoint import Client, Password, WithdrawTicket
from aioalphapoint.bulk import Journal, cancel_failed_tickets


async def main(url: str, journal: str, tickets: str) -> None:
    listed = [
        WithdrawTicket(ticket_number=number, account_id=account_id, request_code=code)
        for number, account_id, code in json.loads(Path(tickets).read_text())
    ]
    async with Client(url, Password("operator", "a password of the operator")) as client:
        print("ready", flush=True)
        outcomes = await cancel_failed_tickets(client, listed, journal=Journal(journal), confirm_timeout=5)
    errors = {str(outcome.error).split(" the journal")[0] for outcome in outcomes if outcome.state == "not sent"}
    print(json.dumps([Counter(outcome.state for outcome in outcomes), sorted(errors)]))


if __name__ == "__main__":
    if len(sys.argv) > 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
    asyncio.run(main(*sys.argv[1:4]))
