"""How late the event loop itself is: no call can be more punctual than that."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Generator
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["FirstStep", "Lag"]

_Result = TypeVar("_Result")

_INTERVAL = 0.005  # seconds


class Lag:
    """A clock that ticks on the loop, and notes by how much each tick was late. Use it by `with`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._moments: list[float] = []
        self._late: list[float] = []  # seconds, of all ticks so far
        self.worst: float = 0.0
        """The latest tick, in seconds."""

    def __enter__(self) -> Self:
        self._due = self._loop.time() + _INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def after(self, moment: float) -> float:
        """Give the seconds since this moment, up to now, in which a tick was overdue."""
        first = bisect_right(self._moments, moment)
        before = self._late[first - 1] if first else 0.0
        so_far = self._late[-1] if self._late else 0.0
        overdue = max(self._loop.time() - max(self._due, moment), 0.0)
        if first == len(self._moments):
            return overdue
        # The first tick since then may have been overdue before: that delayed nobody whose deadline was yet to come.
        not_counted = max(self._late[first] - before - (self._moments[first] - moment), 0.0)
        return so_far - before - not_counted + overdue

    def _tick(self) -> None:
        now = self._loop.time()
        late = now - self._due
        self.worst = max(self.worst, late)
        self._moments.append(now)
        self._late.append(late + (self._late[-1] if self._late else 0.0))
        self._due = now + _INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)


class FirstStep(Awaitable[_Result]):
    """Something awaited, with the time that went by until it first let the loop go on.

    A call reads the clock once it has begun. If the collector of garbage, or another program, holds everything up in
    that very moment, its deadline comes later than its caller thinks, and no tick after the deadline knows of it.
    """

    def __init__(self, work: Awaitable[_Result]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self.took: float = 0.0
        """Seconds of the first step."""

    def __await__(self) -> Generator[Any, Any, _Result]:
        steps = self._work.__await__()
        try:
            try:
                waits_for = next(steps)
            finally:
                self.took = self._loop.time() - self._began
            while True:
                try:
                    sent = yield waits_for
                except BaseException as error:  # noqa: BLE001  (handed on, as `yield from` does)
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(sent)
        except StopIteration as end:
            result: _Result = end.value
            return result
