"""Events on their way to those who listen: bounded, the oldest dropped first.

Invariants:

* A listener that does not read costs at most its queue; what it misses is counted.
* Telling never waits and never raises: it happens between the bytes of a socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ._envelope import Envelope, MessageType
from .stats import Stats

__all__ = ["Event", "Listeners"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the exchange tells unasked.

    Attributes:
        name: The exchange's name of it, such as `WithdrawTicketUpdateEvent`; its letter case is not guaranteed.
        payload: The text of its payload, as it came: usually JSON.
    """

    name: str
    payload: str


class Listeners:
    """Everybody who listens to the events of one client, over all its connections."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._queues: dict[MemoryObjectSendStream[Event], MemoryObjectReceiveStream[Event]] = {}

    @contextmanager
    def listen(self, size: int) -> Iterator[MemoryObjectReceiveStream[Event]]:
        """Listen from now on, with a queue of `size` events."""
        send, receive = anyio.create_memory_object_stream[Event](size)
        self._queues[send] = receive
        try:
            with send, receive:
                yield receive
        finally:
            self._queues.pop(send, None)

    def tell(self, envelope: Envelope) -> None:
        """Put an event into every queue."""
        assert envelope.type is MessageType.EVENT  # noqa: S101
        event = Event(envelope.function, envelope.payload)
        for send, receive in self._queues.items():
            try:
                send.send_nowait(event)
            except anyio.WouldBlock:
                receive.receive_nowait()
                self._stats.dropped_events += 1
                send.send_nowait(event)

    def end(self) -> None:
        """End every listener's iteration: no event will come any more."""
        for send in self._queues:
            send.close()
        self._queues.clear()
