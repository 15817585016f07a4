"""Many cancels over one session: each ticket sent once at most, and the truth about each told at the end.

Every cancel goes out before any ticket is read back: while money is leaving, the next cancel matters more than
the confirmation of the last one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from ._arguments import instance, positive, seconds, shown
from ._journal import Journal, Run
from ._outcomes import Item, Outcome, OutcomeState, Ticket, key_of
from ._steps import Claim, Entry, Key, Step
from ._watch import OVER, Watch
from .client import Client
from .errors import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    InvalidArguments,
    JournalError,
    NotCancelled,
    OutcomeUnknown,
)

__all__ = ["Journal", "Outcome", "OutcomeState", "Ticket", "cancel_failed_tickets", "cancel_withdraws"]

_log = logging.getLogger("aioalphapoint")

# A cancel that could not be sent is tried again, because that is safe: the link may be back, or the limiter free.
_ATTEMPTS = 3
_PAUSE = 0.2  # seconds before the second attempt, twice as long before the third

# Tickets that are followed at once. Each costs a task of some kilobytes, and waits most of the time.
_MOST_FOLLOWED = 1000


Tickets = Iterable[Ticket] | AsyncIterable[Ticket]
OnOutcome = Callable[[Outcome], object]


async def cancel_withdraws(
    client: Client,
    tickets: Tickets,
    *,
    concurrency: int = 8,
    confirm: bool = True,
    journal: Journal | None = None,
    on_outcome: OnOutcome | None = None,
    timeout: float | None = None,
    confirm_timeout: float = 30.0,
) -> list[Outcome]:
    """Cancel pending withdrawals (`CancelWithdraw`), many at once over the one session.

    First all are sent, then their tickets are read until they have ended. In a run a ticket is sent once at most; a
    cancel of which nothing left this machine is tried up to three times. An unknown outcome is settled by reading
    the ticket, never by a second cancel.

        pending = (ticket async for ticket in client.iter_withdraw_tickets(account_id=7) if ticket.status.is_open)
        outcomes = await cancel_withdraws(client, pending)

    With a journal, a ticket's step is on disk before its frame is sent. A run that is given the journal of an
    earlier one sends nothing for what is done. What was sent and never answered it reads; it is sent again only if
    the ticket then still is open.

    Cancelling it ends it at once: `on_outcome` is told of every ticket taken so far, with what is known, and the
    journal keeps it.

    Args:
        client: A connected client.
        tickets: What to cancel, such as `WithdrawTicket` values, in an iterable or an async iterable. One that is
            given twice is sent once.
        concurrency: Cancels under way at once; afterwards, readings.
        confirm: Read the tickets back, until they have ended. Tickets of an unknown outcome are always read.
        journal: Where to write down what is done.
        on_outcome: Called with each `Outcome` as soon as it is final. It must not wait. What it raises goes to the
            log `aioalphapoint`, and the run goes on.
        timeout: Seconds that each cancel may take; left out, the client's `timeout`.
        confirm_timeout: Seconds for which each accepted or unknown ticket is followed.

    Returns:
        One outcome for each ticket, in the order given. Errors of calls are in there, none is raised.

    Raises:
        InvalidArguments: An argument makes no sense. Nothing was sent.
        JournalError: The journal cannot be opened. Nothing was sent. One that cannot be written later is the error
            of each outcome from there on, and nothing more is sent.
        Exception: What an async iterable itself raised, once every ticket that it gave has its outcome, of which
            `on_outcome` was told.
    """

    async def cancel(ticket: Ticket) -> object:
        return await client.cancel_withdraw(
            account_id=ticket.account_id, request_code=ticket.request_code, oms_id=ticket.oms_id, timeout=timeout
        )

    if timeout is not None:
        seconds("timeout", timeout)
    return await _Bulk(
        client=client,
        function="CancelWithdraw",
        cancel=cancel,
        concurrency=concurrency,
        confirm=confirm,
        on_outcome=on_outcome,
        confirm_timeout=confirm_timeout,
    ).run(tickets, journal)


async def cancel_failed_tickets(
    client: Client,
    tickets: Tickets,
    *,
    concurrency: int = 8,
    confirm: bool = True,
    journal: Journal | None = None,
    on_outcome: OnOutcome | None = None,
    timeout: float | None = None,
    confirm_timeout: float = 30.0,
) -> list[Outcome]:
    """Cancel failed withdraw tickets (`CancelFailedWithdrawTicket`), many at once over an operator's session.

    All else is as with `cancel_withdraws`, "failed" in the place of "open".

        failed = (ticket async for ticket in client.iter_all_withdraw_tickets() if ticket.status.is_failed)
        outcomes = await cancel_failed_tickets(client, failed, journal=Journal("tonight.journal"))
    """

    async def cancel(ticket: Ticket) -> object:
        return await client.cancel_failed_withdraw_ticket(
            ticket_id=ticket.ticket_number, oms_id=ticket.oms_id, timeout=timeout
        )

    if timeout is not None:
        seconds("timeout", timeout)
    return await _Bulk(
        client=client,
        function="CancelFailedWithdrawTicket",
        cancel=cancel,
        concurrency=concurrency,
        confirm=confirm,
        on_outcome=on_outcome,
        confirm_timeout=confirm_timeout,
    ).run(tickets, journal)


@dataclass(eq=False, kw_only=True, slots=True)
class _Bulk:
    """One run over many tickets."""

    client: Client
    function: str
    cancel: Callable[[Ticket], Awaitable[object]]
    concurrency: int
    confirm: bool
    on_outcome: OnOutcome | None
    confirm_timeout: float
    _journal: Run | None = None
    _items: dict[Key, Item] = field(default_factory=dict)
    _given: list[Item] = field(default_factory=list)  # one that was given twice stands there twice
    _finished: dict[Key, Entry] = field(default_factory=dict)
    _source_error: Exception | None = None
    _journal_failed: bool = False

    @property
    def _was_failed(self) -> bool:
        return self.function == "CancelFailedWithdrawTicket"

    async def run(self, tickets: Tickets, journal: Journal | None) -> list[Outcome]:
        positive("concurrency", self.concurrency)
        seconds("confirm_timeout", self.confirm_timeout)
        instance("journal", journal, Journal, allowed="a Journal")
        if self.on_outcome is not None and not callable(self.on_outcome):
            raise InvalidArguments(f"on_outcome must be None or a function, not {shown(self.on_outcome)}")
        listed = [] if isinstance(tickets, AsyncIterable) else list(tickets)
        keys = [key_of(self.function, ticket) for ticket in listed]
        async with contextlib.AsyncExitStack() as stack:
            if journal is not None:
                self._journal = await stack.enter_async_context(journal.run())
                self._finished = await self._journal.finished(keys)
            try:
                await self._send_all(tickets if isinstance(tickets, AsyncIterable) else _each(listed))
                await self._follow_all()
            finally:
                for item in self._items.values():
                    self._tell(item)
        if self._source_error is not None:
            raise self._source_error
        return [item.outcome() for item in self._given]

    def _tell(self, item: Item) -> None:
        if item.is_told:
            return
        item.is_told = True
        try:
            if self.on_outcome is not None:
                self.on_outcome(item.outcome())
        except Exception:  # noqa: BLE001  (the caller's own function must not cost the other tickets their outcome)
            _log.exception("on_outcome failed")

    # First everything is sent.

    async def _send_all(self, tickets: AsyncIterable[Ticket]) -> None:
        slots = anyio.CapacityLimiter(self.concurrency)
        async with anyio.create_task_group() as senders:
            try:
                async for ticket in tickets:
                    await self._take(ticket, slots, senders)
            except Exception as error:  # noqa: BLE001  (raised at the end: what was taken is finished first)
                self._source_error = error

    async def _take(self, ticket: Ticket, slots: anyio.CapacityLimiter, senders: TaskGroup) -> None:
        key = key_of(self.function, ticket)
        if key in self._items:
            self._given.append(self._items[key])
            return
        item = self._items[key] = Item(ticket, key)
        self._given.append(item)
        if key in self._finished:
            item.adopt(self._finished[key])
            self._tell_or_follow(item)
            return
        await slots.acquire_on_behalf_of(item)
        senders.start_soon(self._send, item, slots)

    async def _send(self, item: Item, slots: anyio.CapacityLimiter) -> None:
        try:
            if await self._is_ours_to_send(item):
                await self._ask(item)
                await self._record(item)
        except JournalError as error:  # before the frame, so nothing was sent
            item.error = error
        finally:
            slots.release_on_behalf_of(item)
        self._tell_or_follow(item)

    def _tell_or_follow(self, item: Item) -> None:
        if not self._has_more_to_tell(item):
            self._tell(item)

    def _has_more_to_tell(self, item: Item) -> bool:
        """Whether its ticket may say more than the answer to the cancel."""
        match item.state:
            case OutcomeState.UNKNOWN:
                return not isinstance(item.error, NotCancelled)
            case OutcomeState.ACCEPTED:
                return self.confirm
            case OutcomeState.REFUSED:
                return item.was_sent  # refused, perhaps, because the earlier one has cancelled it
        return False

    async def _is_ours_to_send(self, item: Item) -> bool:
        if self._journal is None:
            return True
        claim, entry = await self._journal.claim(item.key)
        match claim:
            case Claim.SEND:
                return True
            case Claim.READ:
                return await self._is_still_open(item)
            case Claim.BUSY:
                item.is_anothers = True
                item.state = OutcomeState.UNKNOWN
                item.error = OutcomeUnknown("another run has this ticket in hand", function=self.function)
        if claim is Claim.DONE and entry is not None:
            item.adopt(entry)
        return False

    async def _is_still_open(self, item: Item) -> bool:
        """Read a ticket that an earlier run has sent, and find out whether that came to nothing."""
        item.was_sent, item.state = True, OutcomeState.UNKNOWN
        item.error = OutcomeUnknown("an earlier run sent it, and wrote down no answer", function=self.function)
        ticket = item.ticket
        try:
            item.seen = seen = await self.client.get_withdraw_ticket(
                account_id=ticket.account_id, request_code=ticket.request_code, oms_id=ticket.oms_id
            )
        except AlphaPointError:
            return False  # it is read again when everything is sent
        if seen.status.is_failed if self._was_failed else seen.status.is_open:
            assert self._journal is not None  # noqa: S101  (who else says that there was an earlier run?)
            await self._journal.record(Entry(item.key, Step.SENT, status=str(seen.status)))
            return True
        if seen.status.is_cancelled:
            item.state, item.error = OutcomeState.CONFIRMED, None
        elif seen.status.is_final:
            item.error = NotCancelled.of(seen)
        await self._record(item)
        return False

    async def _ask(self, item: Item) -> None:
        for attempt in range(_ATTEMPTS):
            item.state = OutcomeState.UNKNOWN  # true from here on, should the run be cancelled
            item.error = OutcomeUnknown("the run was cancelled while it waited for the answer", function=self.function)
            try:
                await self.cancel(item.ticket)
            except CallRejected as error:
                item.state, item.error = OutcomeState.REFUSED, error
                return
            except OutcomeUnknown as error:
                item.error = error
                return
            except (CallNotSent, AuthenticationFailed) as error:
                item.state, item.error = OutcomeState.UNKNOWN if item.was_sent else OutcomeState.NOT_SENT, error
                if isinstance(error, InvalidArguments | AuthenticationFailed) or self.client.state in OVER:
                    return
            else:
                item.state, item.error = OutcomeState.ACCEPTED, None
                return
            if attempt + 1 < _ATTEMPTS:
                await anyio.sleep(_PAUSE * 2**attempt)

    # Then the tickets tell.

    async def _follow_all(self) -> None:
        followed = [item for item in self._items.values() if not item.is_told]
        if not followed:
            return
        slots = anyio.CapacityLimiter(_MOST_FOLLOWED)
        async with anyio.create_task_group() as tasks:
            watch = Watch(self.client, tasks, readers=self.concurrency, is_operator=self._was_failed)
            async with anyio.create_task_group() as followers:
                for item in followed:
                    await slots.acquire_on_behalf_of(item)
                    followers.start_soon(self._follow, item, watch, slots)
            tasks.cancel_scope.cancel()

    async def _follow(self, item: Item, watch: Watch, slots: anyio.CapacityLimiter) -> None:
        try:
            if item.is_anothers:
                await self._wait_for_the_other(item)
            if self._has_more_to_tell(item):
                await self._settle(item, watch)
        finally:
            slots.release_on_behalf_of(item)
        self._tell(item)

    async def _settle(self, item: Item, watch: Watch) -> None:
        ticket = item.ticket
        sighting = await watch.follow(
            account_id=ticket.account_id,
            request_code=ticket.request_code,
            oms_id=ticket.oms_id,
            timeout=self.confirm_timeout,
            was_failed=self._was_failed,
        )
        item.seen = sighting.ticket or item.seen
        if sighting.error is None:
            item.state, item.error = OutcomeState.CONFIRMED, None
        elif item.state is OutcomeState.ACCEPTED or isinstance(sighting.error, NotCancelled):
            item.error = sighting.error
        await self._record(item)

    async def _wait_for_the_other(self, item: Item) -> None:
        """Wait until the run that has a ticket in hand writes down what came of its cancel."""
        assert self._journal is not None  # noqa: S101  (who else says that there is another run?)
        pause = 0.05
        with anyio.move_on_after(self.confirm_timeout), contextlib.suppress(JournalError):
            while True:
                entry = await self._journal.look(item.key)
                if entry is not None and entry.step is not Step.SENT:
                    item.adopt(entry)
                    return
                await anyio.sleep(pause)
                pause = min(2 * pause, 1.0)

    # The journal.

    async def _record(self, item: Item) -> None:
        if self._journal is None or item.is_anothers:
            return
        try:
            await self._journal.record(item.entry())  # on its way to the disk now, though the run be cancelled
        except JournalError as failure:
            # On disk it stays as sent, so another run reads its ticket first; the outcome here is what is known.
            if not self._journal_failed:
                _log.error("%s", failure)
            self._journal_failed = True


async def _each(tickets: list[Ticket]) -> AsyncGenerator[Ticket]:
    for ticket in tickets:
        yield ticket
