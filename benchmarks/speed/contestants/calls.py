"""How calls are kept in flight: tasks that live long and call again as soon as they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["keep_in_flight"]


async def keep_in_flight(call: Callable[[], Awaitable[object]], calls: int, at_once: int) -> None:
    """Make so many calls, so many of them at once; one at a time by the caller's own task."""

    async def work() -> None:
        for _ in range(calls // at_once):
            await call()

    if at_once == 1:
        await work()
        return
    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    for worker in workers:
        await worker
