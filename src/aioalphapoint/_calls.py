"""The way of one call: bounded, given its deadline, let through by the limiter, sent at most once, and read.

It is one coroutine, and it waits for the reply itself. Python's garbage collection looks again and again at whatever
waits, and a coroutine is one thing more to look at, for each of ten thousand calls (docs/speed.md).

Invariants:

* The deadline is set before the first await, and whatever is waited for counts against it.
* A call goes out on another connection only where the last one ended before it was written.
* However a call ends, it is in flight no longer, and its number is in no table.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from ._arguments import seconds
from ._connection import ConnectionEnded
from ._envelope import Envelope, MessageType
from ._limiter import enter_limiter, leave_limiter
from ._secrets import is_private
from ._session import Session
from .errors import CallRejected, Overloaded
from .stats import Stats

__all__ = ["Calls"]

_Answer = TypeVar("_Answer")


class Calls:
    """Carries calls out over a session.

    Args:
        session: Gives the connections.
        stats: What is counted.
        timeout: Seconds that a call may take which brings no limit of its own.
        most: Calls under way at once.
        limiter: Entered before each call is sent, and left after it.
    """

    def __init__(
        self,
        session: Session,
        stats: Stats,
        *,
        timeout: float,
        most: int,
        limiter: AbstractAsyncContextManager[object] | None,
    ) -> None:
        self._session = session
        self._stats = stats
        self._timeout = timeout
        self._most = most
        self._limiter = limiter

    def limit(self, timeout: float | None) -> float:
        """Give the seconds that a call may take, and check its own; InvalidArguments where they make no sense."""
        return self._timeout if timeout is None else seconds("timeout", timeout)

    async def carry_out(
        self,
        function: str,
        payload: Callable[[], str],
        read: Callable[[str, Envelope], _Answer],
        timeout: float | None,
        *,
        asks_login: bool,
    ) -> _Answer:
        """Send one call, at most once, and read its answer. Cancelling it ends this call alone.

        Args:
            function: The exchange's name of the function.
            payload: Checks the arguments and writes them, once it is known who is logged in.
            read: Reads the answer, or raises what it means.
            timeout: Seconds, waiting for a session included; None for the limit of all.
            asks_login: The payload takes numbers from the login, so one that is under way is waited for.

        Raises:
            CallNotSent: There was no session in time, or there will be none; or the call was one too many.
            OutcomeUnknown: It was sent, and no reply came.
            AuthenticationFailed: The session was given up because its login was refused.
        """
        session, limiter = self._session, self._limiter
        limit = self.limit(timeout)
        deadline = session.home.here().time() + limit
        self._begin(function)
        try:
            if asks_login and session.awaits_identity:
                await session.connection(function, deadline=deadline, timeout=limit)
            text = payload()
            del payload  # and all that it holds: ten thousand calls may wait
            connection, reply = session.current, None
            while reply is None:
                # One that has ended says so when it is called; a limiter would have been entered in vain.
                if connection is None or (limiter is not None and not connection.is_open):
                    connection = await session.connection(function, deadline=deadline, timeout=limit)
                entered, call, used = None, None, connection
                if limiter is not None:
                    entered = await enter_limiter(limiter, function, deadline=deadline, timeout=limit)
                try:
                    if used.is_paused:
                        await used.wait_for_room(deadline)
                    call = used.start(function, text, deadline=deadline, timeout=limit)
                    reply = await call.future
                    if reply.type is MessageType.REPLY:
                        used.has_served = True
                except ConnectionEnded:
                    connection = None  # not a byte was written: another one may take it
                finally:
                    if call is not None:
                        used.finish(call)
                    del call  # as in `Connection.call`
                    if entered is not None:
                        await leave_limiter(entered, deadline=deadline)
        finally:
            self._stats.in_flight -= 1
        return self._answer(function, reply, read)

    def _begin(self, function: str) -> None:
        if self._stats.in_flight >= self._most:
            raise Overloaded(
                f"{function} was not sent: {self._most} calls are under way (max_in_flight)", function=function
            )
        self._stats.in_flight += 1

    def _answer(self, function: str, reply: Envelope, read: Callable[[str, Envelope], _Answer]) -> _Answer:
        try:
            return read(function, reply)
        except CallRejected as refusal:
            if not is_private(function):
                raise
            # A gateway may echo the login that a program makes by `call`.
            raise refusal.without(self._session.login.secrets.out_of, function=function) from None
