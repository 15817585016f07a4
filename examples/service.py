"""Hold one client in a long-running service: connect at start, share it among tasks, close at shutdown.

    ALPHAPOINT_URL=wss://HOST/WSGateway/ ALPHAPOINT_USER_NAME=... ALPHAPOINT_PASSWORD=... python service.py

It takes withdrawals to cancel from standard input, one `ACCOUNT_ID REQUEST_CODE` a line, until the end of input.
"""

import asyncio
import os
import sys

from aioalphapoint import AlphaPointError, Client, Password


async def worker(client: Client, orders: asyncio.Queue[tuple[int, str]]) -> None:
    while True:
        account_id, request_code = await orders.get()
        try:
            # While the session is lost and dialled again, the call waits inside its own timeout.
            await client.cancel_withdraw(account_id=account_id, request_code=request_code, timeout=5)
            print(request_code, "received", flush=True)
        except AlphaPointError as error:
            print(request_code, type(error).__name__, error, flush=True)
        finally:
            orders.task_done()


async def main() -> None:
    orders: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    credentials = Password(os.environ["ALPHAPOINT_USER_NAME"], os.environ["ALPHAPOINT_PASSWORD"])
    async with Client(os.environ["ALPHAPOINT_URL"], credentials) as client:
        workers = [asyncio.create_task(worker(client, orders)) for _ in range(4)]
        while line := await asyncio.to_thread(sys.stdin.readline):
            account_id, request_code = line.split()
            orders.put_nowait((int(account_id), request_code))
        await orders.join()
        for task in workers:
            task.cancel()
        print(client.stats)


if __name__ == "__main__":
    asyncio.run(main())
