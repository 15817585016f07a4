"""The deadlines of many calls, kept by one timer of the loop. It knows numbers alone.

A timer of its own costs a call more than its place in a table: asyncio compares timers in Python, and keeps those
that were cancelled until half of all are.

Invariants:

* No deadline passes unseen: the timer is never set for later than the earliest one.
* Nobody has to take a deadline back. One whose number is not live any more is passed over, and when another is added
  there are never many more of them than of the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from heapq import heapify, heappop, heappush

__all__ = ["Deadlines"]

_SPARE = 64  # deadlines that were passed over before it pays to look for them


class Deadlines:
    """Calls `expire` with each number that is still live at its deadline."""

    def __init__(self, live: Collection[int], expire: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._live = live
        self._expire = expire
        self._heap: list[tuple[float, int]] = []
        self._timer: asyncio.Handle | None = None
        self._due = math.inf  # when it rings; uvloop's timers do not tell

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, deadline: float, number: int) -> None:
        """Watch a number that is live: until the loop's time, in seconds, that is its deadline."""
        if len(self._heap) > 2 * len(self._live) + _SPARE:
            live = self._live
            self._heap = [entry for entry in self._heap if entry[1] in live]
            heapify(self._heap)
        heappush(self._heap, (deadline, number))
        if deadline < self._due:
            self._set_timer()

    def end(self) -> None:
        """Watch nothing any more."""
        self._heap.clear()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = self._heap[0][0] if self._heap else math.inf
        self._timer = self._loop.call_at(self._due, self._ring) if self._heap else None

    def _ring(self) -> None:
        now = self._loop.time()
        try:
            while self._heap and (self._heap[0][0] <= now or self._heap[0][1] not in self._live):
                _, number = heappop(self._heap)
                if number in self._live:
                    self._expire(number)
        finally:  # whatever is raised in here, such as a KeyboardInterrupt, the others have their deadlines too
            self._set_timer()
