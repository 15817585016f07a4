"""An event loop with a clock of its own, for programs whose sockets all end in the same process.

* The clock all but stands still while anything can run or arrive. Then it jumps to the next timer, so that a minute
  of timeouts takes no time, and a deadline is met to the microsecond or is not met.
* It trusts the kernel to have what was sent on the loopback device ready for its receiver at a second look. Where it
  has not, the clock jumps early, which looks like a slow network.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping

__all__ = ["ClockedLoop"]

# Seconds that a turn of the loop takes: whoever waits for the last picosecond before a deadline must come to its end.
_TURN = 1e-9

# Looks at the sockets without a jump, after which whatever is running counts as going round in circles.
_MOST_LOOKS = 20_000


class _Clock(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0  # seconds
        self.waiters: list[asyncio.Future[None]] = []  # for the next moment in which nothing can run or arrive
        self._looks = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += _TURN
        self._looks += 1
        assert self._looks < _MOST_LOOKS, "something goes round in circles while the clock stands still"
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        ready = super().select(0)
        if ready:
            return ready
        self._looks = 0
        if self.waiters:
            for waiter in self.waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self.waiters.clear()
            return ready
        assert timeout is not None, "everybody waits, and nothing can come any more"
        self.now += timeout
        return ready


class ClockedLoop(asyncio.SelectorEventLoop):
    """The loop; give it to `asyncio.Runner` as its `loop_factory`.

    Attributes:
        complaints: What would have been logged as an error of the loop: exceptions that nobody looked at.
    """

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        self.complaints: list[Mapping[str, object]] = []
        self.set_exception_handler(lambda _loop, context: self.complaints.append(context))

    def time(self) -> float:
        return self._clock.now

    async def settled(self) -> None:
        """Wait until nothing can run or arrive any more at the present time."""
        waiter = self.create_future()
        self._clock.waiters.append(waiter)
        await waiter
