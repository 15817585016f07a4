"""Events on their way to those who listen: bounded, the oldest dropped first.

Invariants:

* A listener that does not read costs at most its queue; what it misses is counted, and it is told.
* Events that may have been missed stand in the queue as a `Gap`, at the place where they are missing.
* Telling never waits and never raises: it happens between the bytes of a socket.
* An event leaves the queue only as the result of a `__anext__` that returns it: cancelling one loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from ._envelope import Envelope
from ._news import News
from .stats import Stats

__all__ = ["Event", "Gap", "Listener", "Listeners"]


@dataclass(frozen=True)
class Event:
    """Something that the exchange tells unasked.

    Attributes:
        name: The exchange's name of it, such as `WithdrawTicketUpdateEvent`; its letter case is not guaranteed.
        payload: The text of its payload, as it came: usually JSON.
    """

    name: str
    payload: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Events may be missing here: read again what matters.

    Attributes:
        dropped: How many events a queue that was full has dropped.
        reconnected: The connection was lost. What happened meanwhile was told to nobody, and nobody can count it.
    """

    dropped: int = 0
    reconnected: bool = False


class Listener:
    """An async iterator over the events of one client, over all its connections."""

    def __init__(
        self, size: int, stats: Stats, here: Callable[[], asyncio.AbstractEventLoop] = asyncio.get_running_loop
    ) -> None:
        self._queue: deque[Event | Gap] = deque()
        self._missing: Gap | None = None  # before the first of the queue
        self._size = size
        self._stats = stats
        self._here = here  # gives the running loop, or raises where the client is not to be used
        self._news = News()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    @property
    def is_ended(self) -> bool:
        """No event will come any more beside those that are queued."""
        return self._ended

    async def __anext__(self) -> Event | Gap:
        self._here()
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            await asyncio.wait({self._news.next()})
            self._here()  # another loop may have connected meanwhile
        missing, self._missing = self._missing, None
        return self._queue.popleft() if missing is None else missing

    def tell(self, event: Event | Gap) -> None:
        """Put an event into the queue; when it is full, in the place of the oldest."""
        if isinstance(event, Gap) and self._queue and isinstance(self._queue[-1], Gap):
            return  # two in a row say no more than one
        if len(self._queue) == self._size:
            self._drop(self._queue.popleft())
        self._queue.append(event)
        self._news.tell()

    def end(self) -> None:
        """End the iteration after what is queued."""
        self._ended = True
        self._news.tell()

    def _drop(self, oldest: Event | Gap) -> None:
        missing = self._missing or Gap()
        if isinstance(oldest, Gap):
            self._missing = Gap(missing.dropped, reconnected=True)
        else:
            self._stats.dropped_events += 1
            self._missing = Gap(missing.dropped + 1, missing.reconnected)


class Listeners:
    """Everybody who listens to one client."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._listeners: list[Listener] = []

    @contextmanager
    def listen(self, size: int, here: Callable[[], asyncio.AbstractEventLoop]) -> Iterator[Listener]:
        """Listen from now on, with a queue of `size` events; where, `here` decides."""
        listener = Listener(size, self._stats, here)
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

    def lose(self) -> None:
        """Tell everybody that the connection was lost: what happens until there is another one is told to nobody."""
        for listener in self._listeners:
            listener.tell(Gap(reconnected=True))

    def end(self) -> None:
        """End every listener's iteration: no event will come any more."""
        for listener in self._listeners:
            listener.end()
        self._listeners.clear()
