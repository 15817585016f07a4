"""An operator cancels failed withdraw tickets, several at once over the one session.

ALPHAPOINT_URL=wss://HOST/WSGateway/ ALPHAPOINT_USER_NAME=... ALPHAPOINT_PASSWORD=... \
        python clear_failed_ticket.py TICKET_NUMBER [TICKET_NUMBER ...]
"""

import asyncio
import os
import sys

from aioalphapoint import AlphaPointError, Client, Password


async def clear(client: Client, ticket_id: int) -> str:
    try:
        await client.cancel_failed_withdraw_ticket(ticket_id=ticket_id)
    except AlphaPointError as error:
        return f"{ticket_id}: {type(error).__name__}: {error}"
    return f"{ticket_id}: received"


async def main(ticket_ids: list[int]) -> None:
    credentials = Password(os.environ["ALPHAPOINT_USER_NAME"], os.environ["ALPHAPOINT_PASSWORD"])
    async with Client(os.environ["ALPHAPOINT_URL"], credentials) as client:
        # One socket carries them all; each reply finds its own caller, in whatever order they come.
        for line in await asyncio.gather(*(clear(client, ticket_id) for ticket_id in ticket_ids)):
            print(line)


if __name__ == "__main__":
    asyncio.run(main([int(argument) for argument in sys.argv[1:]]))
