"""The futures table: which call waits for which number, on one connection.

A connection has one table and takes it along when it dies; the next connection's table starts at number 2
again, so an old reply can meet nobody.

Invariants, all kept here and nowhere else:

* A number is in the table from before its frame is written until its caller leaves, and `len()` counts the
  callers that wait.
* Only message types 1 (reply) and 5 (error) complete a call. Events carry the exchange's own counter, which
  collides with pending numbers.
* Nothing answers a call that was not written.
* A future is completed once: by its reply, by its deadline, or by the end of the connection, whichever comes
  first. Whatever comes later is counted and dropped.
* After `fail_all` nothing can be registered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ._deadlines import Deadlines
from ._envelope import Envelope, MessageType
from .errors import AlphaPointError, CallNotSent, CallTimeout
from .stats import Stats

__all__ = ["PendingCall", "PendingCalls"]

# The vendor's best practice: even numbers, from 2, step 2, unique within a session.
_FIRST_NUMBER = 2
_STEP = 2


@dataclass(slots=True, eq=False)
class PendingCall:
    """One caller's place in the table."""

    function: str
    sequence: int
    future: asyncio.Future[Envelope]
    registered: float  # the loop's time, in seconds
    deadline: float  # likewise
    timeout: float  # the seconds that the caller was promised
    frame: bytes = field(default=b"", repr=False)  # until it is written; a login's holds the password
    is_written: bool = False


class PendingCalls:
    """The table of one connection, and its count of numbers."""

    def __init__(self, stats: Stats) -> None:
        self._loop = asyncio.get_running_loop()
        self._stats = stats
        self._calls: dict[int, PendingCall] = {}
        self._deadlines = Deadlines(self._calls.keys(), self._expire)
        self._next_number = _FIRST_NUMBER
        self._failed = False

    def __len__(self) -> int:
        return len(self._calls)

    def register(self, function: str, *, deadline: float, timeout: float) -> PendingCall:
        """Give a call its number, before its first byte is written.

        Args:
            function: The exchange's name of the function, for the error's sentence.
            deadline: The loop's time, in seconds, at which the call fails as `CallTimeout`.
            timeout: The seconds that the caller was promised, for the error.
        """
        assert not self._failed, "the connection of this table has ended"  # noqa: S101
        sequence = self._next_number
        self._next_number += _STEP
        call = PendingCall(function, sequence, self._loop.create_future(), self._loop.time(), deadline, timeout)
        self._calls[sequence] = call
        self._deadlines.add(deadline, sequence)
        return call

    def forget(self, call: PendingCall) -> None:
        """Take a call out of the table. Its caller does this in `finally`, however the call ended."""
        self._calls.pop(call.sequence, None)

    def resolve(self, envelope: Envelope) -> None:
        """Bring a reply to its caller, or count it as late or dropped."""
        if envelope.type not in (MessageType.REPLY, MessageType.ERROR):
            self._stats.dropped_frames += 1
            return
        call = self._calls.get(envelope.sequence)
        if call is not None and call.is_written and not call.future.done():
            self._stats.replies += 1
            self._stats.last_round_trip = self._loop.time() - call.registered
            call.future.set_result(envelope)
        elif self._was_issued(envelope.sequence):
            self._stats.late_replies += 1
        else:
            self._stats.dropped_frames += 1

    def expire(self, call: PendingCall) -> None:
        """End a call whose deadline has come."""
        within = f"within {call.timeout:g} s"
        error: AlphaPointError
        if call.is_written:
            error = CallTimeout(
                f"{call.function} got no reply {within}: whether it was carried out is unknown",
                timeout=call.timeout,
                function=call.function,
                sequence=call.sequence,
            )
        else:
            error = CallNotSent(
                f"{call.function} was not sent: it could not be written {within}", function=call.function
            )
        self.fail(call, error)

    def fail(self, call: PendingCall, error: Exception) -> None:
        """End a call with an exception, unless it has ended."""
        if not call.future.done():
            call.future.set_exception(error)
            # Retrieved at once: should the caller be cancelled before it looks, asyncio must not log
            # "exception was never retrieved" about a call that nobody waits for.
            call.future.exception()

    def fail_all(self, error: Callable[[str, int], AlphaPointError]) -> None:
        """End every call at once, each with an exception instance of its own.

        Args:
            error: Makes the exception from a call's function and number.
        """
        self._failed = True
        self._deadlines.end()
        for call in self._calls.values():
            self.fail(call, error(call.function, call.sequence))

    def _was_issued(self, number: int) -> bool:
        return _FIRST_NUMBER <= number < self._next_number and number % _STEP == 0

    def _expire(self, sequence: int) -> None:
        self.expire(self._calls[sequence])
