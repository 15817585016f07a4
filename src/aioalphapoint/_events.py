"""Events on their way to those who listen: bounded, the oldest dropped first.

Invariants:

* A listener that does not read costs at most its queue; what it misses is counted.
* Telling never waits and never raises: it happens between the bytes of a socket.
* An event leaves the queue only as the result of a `__anext__` that returns it: cancelling one loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from ._envelope import Envelope
from .stats import Stats

__all__ = ["Event", "Listener", "Listeners"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the exchange tells unasked.

    Attributes:
        name: The exchange's name of it, such as `WithdrawTicketUpdateEvent`; its letter case is not guaranteed.
        payload: The text of its payload, as it came: usually JSON.
    """

    name: str
    payload: str


class Listener:
    """An async iterator over the events of one client, over all its connections."""

    def __init__(self, size: int, stats: Stats) -> None:
        self._queue: deque[Event] = deque()
        self._size = size
        self._stats = stats
        self._news: asyncio.Future[None] | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            if self._news is None:
                self._news = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._news})
        return self._queue.popleft()

    def tell(self, event: Event) -> None:
        """Put an event into the queue; when it is full, in the place of the oldest."""
        if len(self._queue) == self._size:
            self._queue.popleft()
            self._stats.dropped_events += 1
        self._queue.append(event)
        self._wake()

    def end(self) -> None:
        """End the iteration after what is queued."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set_result(None)


class Listeners:
    """Everybody who listens to one client."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._listeners: list[Listener] = []

    @contextmanager
    def listen(self, size: int) -> Iterator[Listener]:
        """Listen from now on, with a queue of `size` events."""
        listener = Listener(size, self._stats)
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            listener.end()
            if listener in self._listeners:
                self._listeners.remove(listener)

    def tell(self, envelope: Envelope) -> None:
        """Tell everybody of an event."""
        if self._listeners:
            event = Event(envelope.function, envelope.payload)
            for listener in self._listeners:
                listener.tell(event)

    def end(self) -> None:
        """End every listener's iteration: no event will come any more."""
        for listener in self._listeners:
            listener.end()
        self._listeners.clear()
