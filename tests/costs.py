"""A program that tells what a call costs its caller, by counting: bytecode instructions, or bytes while it waits.

The instructions of the event loop are left out: how often it turns is chance. Their server runs in a thread of its own,
which is not traced.
"""

import asyncio
import collections
import sys
import threading
import tracemalloc
from functools import partial
from types import FrameType
from typing import Any

from websockets.asyncio.server import ServerConnection

from aioalphapoint import Client
from scripted import answer_all, scripted
from wire import CODE

CALLS = 500  # of all callers; the fewer there are, the oftener each calls


class Server(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.url = ""
        self.is_up = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.over = asyncio.Event()

    def run(self) -> None:
        self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        async with scripted(answer_all) as self.url:
            self.is_up.set()
            await self.over.wait()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.join()
        self.loop.close()


class Counter:
    def __init__(self) -> None:
        self.by_code: collections.Counter[str] = collections.Counter()

    def trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            self.by_code[f"{frame.f_globals.get('__name__', '')}.{frame.f_code.co_qualname}"] += 1
        return self.trace

    def of_a_call(self, calls: int) -> dict[str, float]:
        own = ("__main__.", "asyncio.", "selectors.")
        return {name: count / calls for name, count in self.by_code.most_common() if not name.startswith(own)}


async def call(client: Client, times: int) -> None:
    for _ in range(times):
        await client.cancel_withdraw(account_id=7, user_id=1, request_code=CODE)


async def count(url: str, in_flight: int) -> dict[str, float]:
    counter = Counter()
    async with Client(url, ping_interval=None) as client:
        await call(client, 50)  # models are built, caches are full
        callers = [asyncio.create_task(call(client, CALLS // in_flight)) for _ in range(in_flight)]
        sys.settrace(counter.trace)
        for caller in callers:
            await caller
        sys.settrace(None)
    return counter.of_a_call(CALLS)


async def held(calls: int) -> int:
    """Tell the bytes that a call takes which waits, beyond those of a task that waits for a future."""
    loop = asyncio.get_running_loop()

    async def wait() -> None:
        await loop.create_future()

    # In this thread: what a server holds in another one would be counted, too. Here it has next to no turn.
    async with scripted(mute) as url, Client(url, max_in_flight=2 * calls) as client:
        cancel = partial(client.cancel_withdraw, account_id=7, user_id=1, request_code=CODE)
        await asyncio.wait({asyncio.create_task(cancel())}, timeout=0.05)  # models are built
        sizes: list[float] = []
        for work in (cancel, wait):
            tracemalloc.start()
            tasks: list[asyncio.Task[Any]] = [asyncio.create_task(work()) for _ in range(calls)]
            for _ in range(3):
                await asyncio.sleep(0)
            sizes.append(tracemalloc.get_traced_memory()[0] / calls)
            tracemalloc.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert client.stats.sent == calls + 1
    return round(sizes[0] - sizes[1])


async def mute(socket: ServerConnection) -> None:
    async for _ in socket:
        pass


def main() -> None:
    what, number = sys.argv[1], int(sys.argv[2])
    if what == "held":
        print(asyncio.run(held(number)))
        return
    server = Server()
    server.start()
    server.is_up.wait()
    counts = asyncio.run(count(server.url, number))
    server.stop()
    print(round(sum(counts.values())))
    for name, instructions in counts.items():
        print(f"{instructions:8.1f} {name}")


if __name__ == "__main__":
    main()
