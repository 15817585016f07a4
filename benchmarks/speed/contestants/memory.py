"""What waiting takes: tasks that wait, and the memory that grew by them."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

from speed.program import Answer

__all__ = ["held_by"]


def _resident() -> int:
    """Tell the bytes of this process that are in memory; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


async def held_by(
    wait: Callable[[], Coroutine[None, None, object]],
    tasks: int,
    is_settled: Callable[[], Awaitable[None]],
    *,
    traced: bool,
) -> Answer:
    """Let so many tasks wait, tell by how many bytes memory grew, and cancel them.

    Args:
        wait: What each task waits for.
        tasks: How many.
        is_settled: Comes back as soon as all of them wait.
        traced: Count what Python asked for, to the byte, rather than what the system gave.
    """
    waiting: list[asyncio.Task[object]] = []
    gc.collect()
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if traced else _resident()
    waiting.extend(asyncio.create_task(wait()) for _ in range(tasks))
    await is_settled()
    gc.collect()
    grown = (tracemalloc.get_traced_memory()[0] if traced else _resident()) - before
    tracemalloc.stop()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return {"bytes": grown}
