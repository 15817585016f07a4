"""One bulk run: claim, send, follow, record.

Every cancel goes out before any ticket is read back: while money is leaving, the next cancel matters more than
the confirmation of the last one.

Invariants:

* An item tells the truth at every moment, and `on_outcome` is told of each item once, however the run ends.
* In a run a ticket is sent once at most, and not before the journal, if there is one, has said so on disk.
* An error of one ticket touches no other one.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from ._arguments import instance, positive, seconds, shown
from ._journal import Journal, Run
from ._logging import HarmlessLog
from ._outcomes import Item, Outcome, OutcomeState, Ticket, key_of
from ._steps import Claim, Entry, Key, Step
from ._turns import unhurried
from ._watch import OVER, Watch, check_loop
from .client import Client
from .errors import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    InvalidArguments,
    JournalError,
    NotCancelled,
    NotConfirmed,
    OutcomeUnknown,
    ServerError,
)
from .models import WithdrawTicket

__all__ = ["Bulk", "OnOutcome", "Tickets"]

_log = HarmlessLog(logging.getLogger("aioalphapoint"), {})

# A cancel that could not be sent is tried again, because that is safe: the link may be back, or the limiter free.
_PAUSES = (0.0, 0.2, 0.4)  # seconds before each attempt

# Tickets that are followed at once. Each costs a task of some kilobytes, and waits most of the time.
_MOST_FOLLOWED = 1000

# Seconds for which a ticket is read that another run has had in hand for too long, or whose cancel was refused.
_GLANCE = 1.0

Tickets: TypeAlias = Iterable[Ticket] | AsyncIterable[Ticket]
OnOutcome: TypeAlias = Callable[[Outcome], object]


@dataclass(eq=False, kw_only=True, slots=True)
class Bulk:
    """One run over many tickets."""

    client: Client
    function: str
    cancel: Callable[[Ticket], Awaitable[object]]
    concurrency: int
    confirm: bool
    on_outcome: OnOutcome | None
    timeout: float | None
    confirm_timeout: float
    _journal: Run | None = None
    _known: dict[Key, Entry | None] = field(default_factory=dict)  # of the journal, when the run began
    _items: dict[Key, Item] = field(default_factory=dict)
    _given: list[tuple[Ticket, Item]] = field(default_factory=list)  # one that was given twice stands there twice
    _slots: anyio.CapacityLimiter = field(init=False)
    _source_error: Exception | None = None
    _journal_failed: bool = False

    @property
    def _was_failed(self) -> bool:
        return self.function == "CancelFailedWithdrawTicket"

    async def run(self, tickets: Tickets, journal: Journal | None) -> list[Outcome]:
        """Cancel them all; what it takes, gives and raises is told at `aioalphapoint.bulk`."""
        self._check(journal)
        await check_loop(self.client)
        self._slots = anyio.CapacityLimiter(self.concurrency)
        listed = [] if isinstance(tickets, AsyncIterable) else list(tickets)
        keys = [key async for key in unhurried(self._key(ticket) for ticket in listed)]
        async with contextlib.AsyncExitStack() as stack:
            if journal is not None:
                self._journal = await stack.enter_async_context(journal.run())
                self._known = await self._journal.known(keys)
            try:
                await self._send_all(tickets if isinstance(tickets, AsyncIterable) else unhurried(listed))
                await self._follow_all()
            finally:
                for item in self._items.values():
                    self._tell(item)
        if self._source_error is not None:
            raise self._source_error
        return [item.outcome(ticket) for ticket, item in self._given]

    def _check(self, journal: Journal | None) -> None:
        positive("concurrency", self.concurrency)
        seconds("confirm_timeout", self.confirm_timeout)
        if self.timeout is not None:
            seconds("timeout", self.timeout)
        instance("journal", journal, Journal, allowed="a Journal")
        on_outcome = self.on_outcome
        is_plain = callable(on_outcome) and not inspect.iscoroutinefunction(on_outcome)
        if on_outcome is not None and not is_plain:
            raise InvalidArguments(f"on_outcome must be None or a plain function, not {shown(on_outcome)}")

    def _key(self, ticket: Ticket) -> Key:
        return key_of(self.function, ticket, self.client.oms_id)

    def _tell(self, item: Item) -> None:
        if item.is_told:
            return
        item.is_told = True
        try:
            if self.on_outcome is not None:
                self.on_outcome(item.outcome())
        except Exception:  # noqa: BLE001  (the caller's own function must not cost the other tickets their outcome)
            _log.exception("on_outcome failed")

    def _tell_or_follow(self, item: Item) -> None:
        if not self._has_more_to_tell(item):
            self._tell(item)

    def _has_more_to_tell(self, item: Item) -> bool:
        """Whether its ticket may say more than the answer to the cancel."""
        if isinstance(item.error, NotCancelled):
            return False  # it has said it
        match item.state:
            case OutcomeState.UNKNOWN:
                return True
            case OutcomeState.ACCEPTED:
                return self.confirm
            case OutcomeState.REFUSED:
                # Refused, perhaps, because an earlier run has cancelled it; or after it was carried out (102).
                return item.was_sent or type(item.error) is ServerError
        return False

    # First everything is sent.

    async def _send_all(self, tickets: AsyncIterable[Ticket]) -> None:
        async with anyio.create_task_group() as senders:
            try:
                async for ticket in tickets:
                    await self._take(ticket, senders)
            except Exception as error:  # noqa: BLE001  (raised at the end: what was taken is finished first)
                self._source_error = error

    async def _take(self, ticket: Ticket, senders: TaskGroup) -> None:
        key = self._key(ticket)
        if key in self._items:
            self._given.append((ticket, self._items[key]))
            return
        item = self._items[key] = Item(ticket, key)
        self._given.append((ticket, item))
        if self._journal is not None and self._is_settled_by_the_journal(item):
            self._tell_or_follow(item)
            return
        await self._slots.acquire_on_behalf_of(item)
        senders.start_soon(self._send, item)

    def _is_settled_by_the_journal(self, item: Item) -> bool:
        """Begin with what earlier runs have written down, which is what a run tells that is cancelled soon."""
        if item.key not in self._known:
            item.doubt("an earlier run may have sent it; the journal was not asked yet")
            return False
        entry = self._known[item.key]
        if entry is None or entry.step is Step.NOT_SENT:
            return False
        item.adopt(entry)
        return entry.is_finished

    async def _send(self, item: Item) -> None:
        try:
            await self._claim_and_ask(item)
        finally:
            self._slots.release_on_behalf_of(item)
        self._tell_or_follow(item)

    async def _claim_and_ask(self, item: Item) -> None:
        try:
            if await self._is_ours_to_send(item):
                await self._ask(item)
                await self._record(item)
        except JournalError as error:  # it is raised before the frame
            if item.state is OutcomeState.REFUSED:  # by what an earlier run has written down of it
                item.doubt("an earlier run was refused, for a reason that may have passed")
            item.error = error

    async def _is_ours_to_send(self, item: Item) -> bool:
        if self._journal is None:
            return True
        claim, entry = await self._journal.claim(item.key)
        item.is_anothers = claim is Claim.BUSY
        match claim:
            case Claim.SEND:
                item.state, item.error = OutcomeState.NOT_SENT, None
                return True
            case Claim.BUSY:
                item.doubt("another run has it in hand")
                return False
        assert entry is not None  # noqa: S101  (it is what there is to read, or what is done)
        item.adopt(entry)
        return claim is Claim.READ and await self._is_still_open(item)

    async def _is_still_open(self, item: Item) -> bool:
        """Read a ticket that an earlier run has sent, and find out whether that came to nothing.

        Where it is not to be sent, and did not end, it stays what that run has made of it: unknown, or refused.
        """
        item.was_sent = True
        seen = await self._read(item.ticket)
        if seen is None:
            return False  # it is read again when everything is sent
        item.seen = seen
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

    async def _read(self, ticket: Ticket) -> WithdrawTicket | None:
        for pause in _PAUSES:
            await anyio.sleep(pause)
            try:
                seen = await self.client.get_withdraw_ticket(
                    account_id=ticket.account_id,
                    request_code=ticket.request_code,
                    oms_id=ticket.oms_id,
                    timeout=self.timeout,
                )
                return None if self._is_another(ticket, seen) else seen
            except AlphaPointError as error:
                if not self._may_pass(error):
                    break
        return None

    def _may_pass(self, error: AlphaPointError) -> bool:
        """Whether what could not be sent may be sent in a moment: the link may be back, or the limiter free."""
        is_for_good = isinstance(error, InvalidArguments) or self.client.state in OVER
        return isinstance(error, CallNotSent) and not is_for_good

    async def _ask(self, item: Item) -> None:
        for pause in _PAUSES:
            await anyio.sleep(pause)
            item.doubt("the run was cancelled while it waited for the answer")  # unless one comes
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
                if not self._may_pass(error):
                    return
            else:
                item.state, item.error = OutcomeState.ACCEPTED, None
                return

    # Then the tickets tell.

    async def _follow_all(self) -> None:
        followed = [item for item in self._items.values() if not item.is_told]
        if not followed:
            return
        slots = anyio.CapacityLimiter(_MOST_FOLLOWED)
        async with anyio.create_task_group() as tasks:
            watch = Watch(
                self.client,
                tasks,
                readers=self.concurrency,
                is_operator=self._was_failed,
                patience=self.confirm_timeout,
            )
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

    async def _wait_for_the_other(self, item: Item) -> None:
        """Wait until the run that has a ticket in hand is done with it, or has died and leaves it to this one."""
        until, pause = anyio.current_time() + self.confirm_timeout, 0.05
        while item.is_anothers and anyio.current_time() < until and self.client.state not in OVER:
            await anyio.sleep(pause)
            async with self._slots:
                await self._claim_and_ask(item)
            pause = min(2 * pause, 1.0)

    async def _settle(self, item: Item, watch: Watch) -> None:
        ticket = item.ticket
        sighting = await watch.follow(
            account_id=ticket.account_id,
            request_code=ticket.request_code,
            oms_id=ticket.oms_id,
            timeout=_GLANCE if item.is_anothers or item.state is OutcomeState.REFUSED else self.confirm_timeout,
            was_failed=self._was_failed,
            is_patient=True,
        )
        if sighting.ticket is not None and self._is_another(ticket, sighting.ticket):
            number = sighting.ticket.ticket_number
            item.error = NotConfirmed(f"ticket {ticket.ticket_number} was named by the request code of ticket {number}")
            return
        item.seen = sighting.ticket or item.seen
        if sighting.error is None:
            item.state, item.error = OutcomeState.CONFIRMED, None
        elif item.state is OutcomeState.ACCEPTED or isinstance(sighting.error, NotCancelled):
            item.error = sighting.error
        await self._record(item)

    def _is_another(self, ticket: Ticket, seen: WithdrawTicket) -> bool:
        """Tell whether another ticket was read than is cancelled: one is found by its code, and cancelled by number."""
        return self._was_failed and seen.ticket_number != ticket.ticket_number

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
