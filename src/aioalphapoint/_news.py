"""What is waited for, happens, and is waited for again.

Invariants:

* It wakes whoever waits, on whatever event loop that is, and from whatever thread it happens: a client that is not
  connected yet may be watched on one loop and connected on another.
* A loop never waits for another one's future.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

__all__ = ["News"]


class News:
    """One kind of thing that happens again and again."""

    def __init__(self) -> None:
        self._awaited: dict[asyncio.AbstractEventLoop, asyncio.Future[None]] = {}

    def next(self) -> asyncio.Future[None]:
        """Give a future that the next `tell` completes. Wait for it by `asyncio.wait`: all of this loop share it."""
        loop = asyncio.get_running_loop()
        if loop not in self._awaited:
            self._awaited[loop] = loop.create_future()
        return self._awaited[loop]

    def tell(self) -> None:
        """Wake whoever waits."""
        if not self._awaited:
            return
        awaited, self._awaited = self._awaited, {}
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:  # told by whoever found that the loop was closed
            here = None
        for loop, future in awaited.items():
            if loop is here:
                future.set_result(None)
            else:
                with suppress(RuntimeError):  # nobody waits any more in a loop that was closed
                    loop.call_soon_threadsafe(future.set_result, None)
