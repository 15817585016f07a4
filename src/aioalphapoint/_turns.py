"""Long work on the event loop, and turns for everybody else in the middle of it.

Invariants:

* The loop is held for `_HELD`, and for the value during which that ends, and no longer.
* What takes less gives no turn away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import TypeVar

__all__ = ["unhurried"]

_T = TypeVar("_T")

# Seconds. A turn of the loop costs some 50 microseconds, and a call that waits for one may be urgent.
_HELD = 0.005


async def unhurried(values: Iterable[_T]) -> AsyncGenerator[_T, None]:
    """Give values one by one as they come to be, and the event loop a turn whenever it was held for too long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for value in values:
        yield value
        if loop.time() - began >= _HELD:
            await asyncio.sleep(0)
            began = loop.time()
