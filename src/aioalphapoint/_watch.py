"""Following tickets until they end: read with growing pauses, heard of at once where the exchange sends events.

Invariants:

* It only reads. Nothing here can send a cancel.
* A ticket that was seen ended stays so for whoever follows it: an older answer that comes later changes nothing.
* Reading is repeated while there is time, whatever came of the last one, unless the exchange refuses it or the
  client has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from ._events import Gap
from ._session import SessionState
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
    OutcomeUnknown,
    ServerError,
    UnexpectedReply,
    quote,
)
from .models import WithdrawTicket
from .statuses import WithdrawStatus

__all__ = ["OVER", "Sighting", "Watch"]

# Seconds between two readings of a ticket of which no event comes. Each pause is twice the one before.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0

# Seconds for one reading: an answer that was lost must not use up the time in which the ticket could be read again.
_LONGEST_READING = 5.0

OVER = frozenset({SessionState.IDLE, SessionState.CLOSED, SessionState.FAILED})
"""States in which a client serves nobody, and will not by itself."""


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
        if self.has_ended():
            return
        self.ticket, self.trouble = ticket, None
        if self.has_ended():
            self.look_again()
            if self.reading is not None:
                self.reading.cancel()

    def look_again(self) -> None:
        self.news.set()


class Watch:
    """Follows any number of tickets of one client.

    Args:
        client: Reads the tickets.
        tasks: Where it listens to events; whoever opened it cancels it when nothing is followed any more.
        readers: How many tickets are read at once.
        is_operator: Hear of every account, which only an operator can; else of each ticket's own.
    """

    def __init__(self, client: Client, tasks: TaskGroup, *, readers: int = 1, is_operator: bool = False) -> None:
        self._client = client
        self._tasks = tasks
        self._readers = anyio.CapacityLimiter(readers)
        self._is_operator = is_operator
        self._followed: dict[str, set[_Followed]] = {}
        self._heard: set[int | None] = set()  # accounts that are listened to, or that cannot be

    async def follow(
        self,
        *,
        account_id: int,
        request_code: UUID | str,
        timeout: float,
        was_failed: bool = False,
        oms_id: int | None = None,
    ) -> Sighting:
        """Follow a ticket until it has ended, or for `timeout` seconds.

        Args:
            account_id: The account of the ticket.
            request_code: Its GUID.
            timeout: Seconds.
            was_failed: It was a failed one that is to be cancelled: that it still is failed is no end.
            oms_id: The order management system; left out, the client's.
        """
        followed = _Followed(account_id, request_code, oms_id, was_failed, anyio.current_time() + timeout)
        pause = _FIRST_PAUSE
        with self._among_the_followed(followed):
            while True:
                await self._read(followed)
                remaining = followed.deadline - anyio.current_time()
                if followed.has_ended() or remaining <= 0:
                    return _sighting(followed, timeout)
                self._listen_for(followed)
                with anyio.move_on_after(min(pause, remaining)):
                    await followed.news.wait()
                followed.news = anyio.Event()
                if followed.has_ended():
                    return _sighting(followed, timeout)
                pause = min(2 * pause, _LONGEST_PAUSE)

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

    async def _read(self, followed: _Followed) -> None:
        try:
            with anyio.CancelScope(deadline=followed.deadline) as followed.reading:
                async with self._readers:
                    remaining = followed.deadline - anyio.current_time()
                    ticket = await self._client.get_withdraw_ticket(
                        account_id=followed.account_id,
                        request_code=followed.request_code,
                        oms_id=followed.oms_id,
                        timeout=max(min(remaining, _LONGEST_READING), 0.001),
                    )
                    followed.see(ticket)
        except ServerError as error:
            followed.trouble = error  # the exchange failed inside: it may be over in a moment
        except (InvalidArguments, AuthenticationFailed, CallRejected) as error:
            followed.refusal = error
        except (CallNotSent, OutcomeUnknown) as error:
            followed.trouble = error
            if self._client.state in OVER:
                followed.refusal = error
        finally:
            followed.reading = None

    # Events.

    def _listen_for(self, followed: _Followed) -> None:
        account_id = None if self._is_operator else followed.account_id
        if account_id not in self._heard:
            self._heard.add(account_id)
            self._tasks.start_soon(self._listen, account_id)

    async def _listen(self, account_id: int | None) -> None:
        client = self._client
        try:
            async with (
                client.subscribe_all_account_events()
                if account_id is None
                else client.subscribe_account_events(account_id=account_id)
            ) as events:
                async for event in events:
                    if isinstance(event, WithdrawTicketUpdateEvent):
                        self._see(event.ticket)
                    elif isinstance(event, Gap) and event.reconnected:
                        self._look_again()
            self._look_again()  # the client has ended: whoever waits learns so at once
        except (CallRejected, UnexpectedReply, AuthenticationFailed):
            return  # an exchange without these events, or a user without the right: reading has to do
        except AlphaPointError:
            self._heard.discard(account_id)  # the link, perhaps: whoever still waits tries again after a pause

    def _see(self, ticket: WithdrawTicket) -> None:
        for followed in tuple(self._followed.get(ticket.request_code.lower(), ())):
            if followed.account_id == ticket.account_id:
                followed.see(ticket)

    def _look_again(self) -> None:
        for alike in self._followed.values():
            for followed in alike:
                followed.look_again()


def _sighting(followed: _Followed, timeout: float) -> Sighting:
    ticket = followed.ticket
    if followed.refusal is not None:
        return Sighting(ticket, followed.refusal)
    if ticket is None:
        reason = f": {followed.trouble}" if followed.trouble is not None else ""
        error = NotConfirmed(
            f"the ticket of withdrawal {followed.request_code} could not be read within {timeout:g} s{reason}",
            ticket=None,
            timeout=timeout,
        )
        return Sighting(None, error)
    if ticket.status.is_cancelled:
        return Sighting(ticket, None)
    if followed.has_ended():
        return Sighting(ticket, NotCancelled.of(ticket))
    words = f"ticket {ticket.ticket_number} was not seen cancelled within {timeout:g} s, but {quote(ticket.status)}"
    return Sighting(ticket, NotConfirmed(words, ticket=ticket, timeout=timeout))
