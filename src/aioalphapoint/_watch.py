"""Following tickets until they end: read with growing pauses, heard of at once where the exchange sends events.

Invariants:

* It only reads. Nothing here can send a cancel.
* A ticket that was seen ended stays so for whoever follows it: an older answer that comes later changes nothing.
* Reading is repeated while there is time, whatever came of the last one, unless the exchange knows of no such ticket
  for this user, or the client has ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from ._events import Gap
from ._state import SessionState
from ._subscription import WithdrawTicketUpdateEvent
from .client import Client
from .errors import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    InvalidArguments,
    NotCancelled,
    NotConfirmed,
    ServerError,
    UnexpectedReply,
    quote,
)
from .models import WithdrawTicket
from .statuses import WithdrawStatus

__all__ = ["OVER", "Sighting", "Watch", "check_loop"]

# Seconds between two readings of a ticket of which no event comes. Each pause is twice the one before.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

# Seconds for one reading: an answer that was lost must not use up the time in which the ticket could be read again.
# The first one is shorter, because only after it are events listened to.
_FIRST_READING = 1.0
_LONGEST_READING = 5.0
_SHORTEST_READING = 0.05

# Seconds that a call is given to end by its own timeout, and to say why it brought nothing.
_GRACE = 0.02

# Refusals that reading again will not change: no right, no sense, no such ticket, no such function. Others may be
# over in a moment; what a venue sends when a rate limit is hit, for one, is not documented.
_FINAL_REFUSALS = frozenset({20, 100, 104, 106})

OVER = frozenset({SessionState.IDLE, SessionState.CLOSED, SessionState.FAILED})
"""States in which a client serves nobody, and will not by itself."""


async def check_loop(client: Client) -> None:
    """Raise RuntimeError where the client lives on another event loop: at once, and not out of a task group."""
    await client.wait_for_state(*SessionState)  # whichever it is: asking is what checks


class Sighting(NamedTuple):
    """What became of a ticket: cancelled where there is no error. `ticket` is the last one seen."""

    ticket: WithdrawTicket | None
    error: AlphaPointError | None


@dataclass(eq=False, slots=True)
class _Followed:
    account_id: int
    request_code: UUID | str
    oms_id: int | None
    was_failed: bool
    timeout: float
    deadline: float
    ticket: WithdrawTicket | None = None
    trouble: AlphaPointError | None = None  # why the last reading brought nothing
    refusal: AlphaPointError | None = None  # why no reading will
    news: anyio.Event = field(default_factory=anyio.Event)
    reading: anyio.CancelScope | None = None

    def has_ended(self) -> bool:
        return self.refusal is not None or (self.ticket is not None and self._is_end(self.ticket.status))

    def _is_end(self, status: WithdrawStatus) -> bool:
        return status.is_final and not (self.was_failed and status.is_failed)

    def see(self, ticket: WithdrawTicket) -> None:
        if self.has_ended() or self._is_outdated(ticket):
            return
        self.ticket, self.trouble = ticket, None
        if self.has_ended():
            self.stop_waiting()

    def _is_outdated(self, ticket: WithdrawTicket) -> bool:
        # An answer that was under way while an event came tells of a moment before it.
        before = None if self.ticket is None else self.ticket.last_update_timestamp_tick
        now = ticket.last_update_timestamp_tick
        return before is not None and now is not None and now < before

    def fail(self, error: AlphaPointError) -> None:
        self.trouble = error
        code = error.code if isinstance(error, CallRejected) else None
        never_read = self.ticket is None
        if isinstance(error, InvalidArguments | AuthenticationFailed) or (never_read and code in _FINAL_REFUSALS):
            self.refusal = error

    def look_again(self) -> None:
        self.news.set()

    def stop_waiting(self) -> None:
        self.look_again()
        if self.reading is not None:
            self.reading.cancel()


class Watch:
    """Follows any number of tickets of one client.

    Args:
        client: Reads the tickets.
        tasks: Where it listens to events; whoever opened it cancels it when nothing is followed any more.
        readers: How many tickets are read at once.
        is_operator: Hear of every account, which only an operator can; else of each ticket's own.
        patience: Seconds for which no reading at all may be answered before those who queue for one give up.
    """

    def __init__(
        self,
        client: Client,
        tasks: TaskGroup,
        *,
        readers: int = 1,
        is_operator: bool = False,
        patience: float = 30.0,
    ) -> None:
        self._client = client
        self._tasks = tasks
        self._readers = anyio.CapacityLimiter(readers)
        self._is_operator = is_operator
        self._followed: dict[str, set[_Followed]] = {}
        self._heard: set[tuple[int, int | None] | None] = set()  # accounts that are listened to, or that cannot be
        self._last_answer = 0.0  # when a reading was last answered, or the looking after began
        self._patience = patience
        self._is_guarded = False  # whether somebody looks after those who queue
        self._is_silent = False  # whether they gave up, and nothing was answered since

    async def follow(
        self,
        *,
        account_id: int,
        request_code: UUID | str,
        timeout: float,
        was_failed: bool = False,
        is_patient: bool = False,
        oms_id: int | None = None,
    ) -> Sighting:
        """Follow a ticket until it has ended, or for `timeout` seconds.

        Args:
            account_id: The account of the ticket.
            request_code: Its GUID.
            timeout: Seconds.
            was_failed: It was a failed one that is to be cancelled: that it still is failed is no end.
            is_patient: Count the seconds from the first reading on, for which it may have to queue behind others.
            oms_id: The order management system; left out, the client's.
        """
        deadline = anyio.current_time() + timeout
        if is_patient:
            deadline = anyio.current_time() + _FIRST_READING if self._is_silent else math.inf
            self._look_after_those_who_queue()
        followed = _Followed(account_id, request_code, oms_id, was_failed, timeout, deadline)
        pause, longest = _FIRST_PAUSE, _FIRST_READING
        with self._among_the_followed(followed):
            while True:
                await self._read(followed, longest)
                if not isinstance(followed.trouble, CallNotSent):
                    followed.deadline = min(followed.deadline, anyio.current_time() + timeout)
                remaining = followed.deadline - anyio.current_time()
                if followed.has_ended() or remaining <= 0:
                    return _sighting(followed)
                self._listen_for(followed)
                with anyio.move_on_after(min(pause, remaining)):
                    await followed.news.wait()
                followed.news = anyio.Event()
                remaining = followed.deadline - anyio.current_time()
                if followed.has_ended() or remaining < _SHORTEST_READING:
                    return _sighting(followed)
                pause, longest = min(2 * pause, _LONGEST_PAUSE), _LONGEST_READING

    def _look_after_those_who_queue(self) -> None:
        if not self._is_guarded and not self._is_silent:
            self._is_guarded, self._last_answer = True, anyio.current_time()
            self._tasks.start_soon(self._give_up_when_nothing_is_answered)

    async def _give_up_when_nothing_is_answered(self) -> None:
        while (remaining := self._last_answer + self._patience - anyio.current_time()) > 0:  # noqa: ASYNC110  (a clock)
            await anyio.sleep(remaining)
        self._is_guarded = False
        for followed in self._all():
            if followed.deadline == math.inf:
                self._is_silent = True
                followed.deadline = anyio.current_time()
                followed.stop_waiting()

    def _answered(self) -> None:
        self._last_answer, self._is_silent = anyio.current_time(), False

    def _all(self) -> list[_Followed]:
        return [followed for alike in self._followed.values() for followed in alike]

    @contextmanager
    def _among_the_followed(self, followed: _Followed) -> Iterator[None]:
        code = str(followed.request_code).lower()
        alike = self._followed.setdefault(code, set())
        alike.add(followed)
        try:
            yield
        finally:
            alike.discard(followed)
            if not alike:
                self._followed.pop(code, None)

    async def _read(self, followed: _Followed, longest: float) -> None:
        try:
            with anyio.CancelScope(deadline=followed.deadline + _GRACE) as followed.reading:
                async with self._readers:
                    remaining = followed.deadline - anyio.current_time()
                    ticket = await self._client.get_withdraw_ticket(
                        account_id=followed.account_id,
                        request_code=followed.request_code,
                        oms_id=followed.oms_id,
                        timeout=max(min(remaining, longest), _SHORTEST_READING),
                    )
                    self._answered()
                    followed.see(ticket)
        except AlphaPointError as error:
            if isinstance(error, CallRejected):
                self._answered()
            followed.fail(error)
            if self._client.state in OVER:
                if isinstance(error, CallNotSent):
                    followed.refusal = error
                followed.look_again()  # a reading that was under way then says less than the next one will
        finally:
            followed.reading = None

    # Events.

    def _listen_for(self, followed: _Followed) -> None:
        account = None if self._is_operator else (followed.account_id, followed.oms_id)
        if account not in self._heard:
            self._heard.add(account)
            self._tasks.start_soon(self._listen, account)

    async def _listen(self, account: tuple[int, int | None] | None) -> None:
        client = self._client
        try:
            async with (
                client.subscribe_all_account_events()
                if account is None
                else client.subscribe_account_events(account_id=account[0], oms_id=account[1])
            ) as events:
                async for event in events:
                    if isinstance(event, WithdrawTicketUpdateEvent):
                        self._see(event.ticket)
                    elif isinstance(event, Gap) and event.reconnected:
                        self._look_again()
            self._look_again()  # the client has ended: whoever waits learns so at once
        except AlphaPointError as error:
            is_for_good = isinstance(error, CallRejected | UnexpectedReply) and not isinstance(error, ServerError)
            if not is_for_good:  # the link, perhaps: whoever still waits tries again after a pause
                self._heard.discard(account)
            # Else an exchange without these events, or a user without the right: reading has to do.

    def _see(self, ticket: WithdrawTicket) -> None:
        for followed in tuple(self._followed.get(ticket.request_code.lower(), ())):
            if followed.account_id == ticket.account_id:
                followed.see(ticket)

    def _look_again(self) -> None:
        for followed in self._all():
            followed.look_again()


def _sighting(followed: _Followed) -> Sighting:
    ticket, trouble = followed.ticket, followed.trouble
    if followed.refusal is not None:
        return Sighting(ticket, followed.refusal)
    if ticket is not None and ticket.status.is_cancelled:
        return Sighting(ticket, None)
    if ticket is not None and followed.has_ended():
        return Sighting(ticket, NotCancelled.of(ticket))
    within = f"within {followed.timeout:g} s"
    if ticket is None:
        words = f"the ticket of withdrawal {followed.request_code} could not be read {within}"
    else:
        words = f"ticket {ticket.ticket_number} was not seen cancelled {within}; last seen {quote(ticket.status)}"
    if trouble is not None:
        words += f", and then not any more: {trouble}" if ticket is not None else f": {trouble}"
    error = NotConfirmed(words, ticket=ticket, timeout=followed.timeout)
    error.__cause__ = trouble
    return Sighting(ticket, error)
