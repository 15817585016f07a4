"""Hold one client in a long-running service: connect at start, share it among tasks, close at shutdown.

    ALPHAPOINT_URL=wss://HOST/WSGateway/ ALPHAPOINT_USER_NAME=... ALPHAPOINT_PASSWORD=... python service.py

It takes withdrawals to cancel from standard input, one `ACCOUNT_ID REQUEST_CODE` a line, until the end of input
or Ctrl-C.
"""

import asyncio
import contextlib
import os
import sys

from aioalphapoint import AlphaPointError, Client, Password


async def cancel(client: Client, order: str) -> None:
    try:
        account_id, request_code = order.split()
        # While the session is lost and dialled again, the call waits inside its own timeout.
        await client.cancel_withdraw(account_id=int(account_id), request_code=request_code, timeout=5)
        print(order, "received", flush=True)
    except (AlphaPointError, ValueError) as error:
        print(order, type(error).__name__, error, flush=True)


async def watch(client: Client) -> None:
    async for state in client.states():
        print("session", state, file=sys.stderr, flush=True)


async def main() -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    credentials = Password(os.environ["ALPHAPOINT_USER_NAME"], os.environ["ALPHAPOINT_PASSWORD"])
    with contextlib.closing(pipe):
        async with Client(os.environ["ALPHAPOINT_URL"], credentials) as client, asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(watch(client))
            async for line in orders:
                tasks.create_task(cancel(client, line.decode().strip()))
            watcher.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("Stopped.")
