"""A subscription: what one asked to hear, over as many connections as it takes.

Invariants:

* After a reconnect the subscription is made again before the `Gap` is given: whoever reads the state then misses
  nothing that happens later.
* It has no task. It is made again when its reader comes to the gap; a reader that is late learns of a longer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from ._envelope import read_json
from ._events import Event, Gap, Listener
from .errors import AlphaPointError, CallRejected, UnexpectedReply
from .models import WithdrawTicket

__all__ = ["Subscription", "WithdrawTicketUpdateEvent"]

# Seconds before a subscription that could not be made again is tried once more. A call that waits for a session
# waits on its own account; this is for those that fail at once.
_PAUSE = 0.5


@dataclass(frozen=True)
class WithdrawTicketUpdateEvent(Event):
    """A withdraw ticket has changed.

    Attributes:
        ticket: The whole ticket as it stands now.
    """

    ticket: WithdrawTicket


class Subscription:
    """An async iterator over the events that one subscription brings.

    Args:
        listener: Hears every event of the client.
        subscribe: Makes the subscription; it may be called any number of times.
        account_id: The only account whose events are given; None for every account. Events do not say which
            subscription they belong to, and those of a connection all come to each listener.
    """

    def __init__(
        self, listener: Listener, subscribe: Callable[[], Awaitable[None]], account_id: int | None = None
    ) -> None:
        self._listener = listener
        self._subscribe = subscribe
        self._account_id = account_id
        self._gap: Gap | None = None  # after which the subscription has still to be made again

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | Gap:
        while True:
            if self._gap is not None:
                await self._renew()
                gap = self._take_gap()
                if gap is not None:  # else another reader was given it meanwhile
                    return gap
                continue
            event = await anext(self._listener)
            if isinstance(event, Gap):
                if not event.reconnected:
                    return event
                self._gap = event
            elif (typed := self._typed(event)) is not None:
                return typed

    def _take_gap(self) -> Gap | None:
        gap, self._gap = self._gap, None
        return gap

    async def _renew(self) -> None:
        while not self._listener.is_ended:  # then nothing more comes than what is queued
            try:
                await self._subscribe()
            except AlphaPointError as error:
                if isinstance(error, CallRejected | UnexpectedReply):
                    raise
            else:
                return
            if not self._listener.is_ended:
                await asyncio.sleep(_PAUSE)

    def _typed(self, event: Event) -> Event | None:
        """Read an event; None where it is another account's."""
        try:
            value = read_json(event.payload)
        except ValueError:
            return event
        if not isinstance(value, dict):
            return event
        if event.name.lower() == "withdrawticketupdateevent":
            with suppress(ValidationError):  # whoever listens learns at least that something happened
                event = WithdrawTicketUpdateEvent(event.name, event.payload, WithdrawTicket.model_validate(value))
        named = {str(item) for key, item in value.items() if key.lower() == "accountid"}
        return event if self._account_id is None or not named or str(self._account_id) in named else None
