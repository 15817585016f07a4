"""Meet each kind of error once, on a simulated exchange, and do what it asks for.

python errors.py
"""

import asyncio
from uuid import uuid4

from aioalphapoint import (
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    Client,
    ConnectFailed,
    InvalidArguments,
    OperationFailed,
    OutcomeUnknown,
    Password,
)
from aioalphapoint.testing import SimulatedExchange


async def cancel(client: Client, account_id: int, request_code: str, *, timeout: float = 5.0) -> str:
    """Cancel, and say what a program would do next."""
    try:
        await client.cancel_withdraw(account_id=account_id, request_code=request_code, timeout=timeout)
    except InvalidArguments as error:
        return f"mend the program: {error}"
    except CallNotSent as error:
        return f"safe to call again: {error}"
    except OutcomeUnknown as error:
        return f"read the ticket before acting again: {error}"
    except OperationFailed as error:
        return f"the exchange could not: {error.detail}"
    except CallRejected as error:
        return f"the exchange said no: {error.code} {error.message}"
    return "received: read the ticket to see it cancelled"


async def main() -> None:
    async with SimulatedExchange() as exchange:
        exchange.add_user("alice", "simulated", account_id=7)
        ticket = exchange.add_withdraw(account_id=7, amount="1.10")
        async with Client(exchange.url, Password("alice", "simulated")) as client:
            print(await cancel(client, 7, "not a GUID"))
            print(await cancel(client, 7, str(uuid4())))
            print(await cancel(client, 8, str(uuid4())))
            with exchange.faults.mute():  # carried out, and the answer is lost
                print(await cancel(client, 7, ticket.request_code, timeout=0.2))
            print(await cancel(client, 7, ticket.request_code))
        print(await cancel(client, 7, ticket.request_code))
        try:
            await Client(exchange.url, Password("alice", "a wrong password")).connect()
        except AuthenticationFailed as error:
            print(f"never try again with these: {error}")
    try:
        await client.connect()
    except ConnectFailed:
        print("the exchange cannot be reached: safe to try again")


if __name__ == "__main__":
    asyncio.run(main())
