"""What is done with one ticket: cancel, confirm, record. Whoever works on it, and however often.

The exchange offers no exactly-once, so the ticket is the truth: what was marked as sent, by this worker or one that is
dead, is read before it is sent again. Two workers can be on one ticket, where one was taken for dead and was only slow.
A lease keeps them apart: who marks a ticket as sent may write its frame until the lease is over, and nobody reads the
ticket, to send it again, before that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, TypeVar

import anyio
import psycopg

from aioalphapoint import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    Client,
    InvalidArguments,
    NotAuthorized,
    OutcomeUnknown,
    ServerError,
    WithdrawTicket,
)

from .ledger import Key, Ledger, Row, State

__all__ = ["Desk", "Later"]

_log = logging.getLogger("fleet")

_Result = TypeVar("_Result")

# Seconds between two readings of a ticket whose cancel was accepted and does not show; each pause is twice the last.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


class Later(Exception):
    """The ticket cannot be worked on now.

    Attributes:
        seconds: When it can be.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"again in {seconds:.1f} s")
        self.seconds = seconds


class Desk:
    """Works on tickets over one client.

    Args:
        client: An operator's.
        ledger: What is known of the tickets.
        lease: Seconds from the mark until which a cancel may be written; the timeout of the call. Each desk may have
            its own: the mark says until when it holds.
        margin: Seconds that a reader waits beyond a lease: what clocks drift apart meanwhile, and a frame's way.
        patience: Seconds for which a ticket is read again whose cancel was accepted and does not show, or that the
            exchange cannot show, before a person looks.
    """

    def __init__(
        self,
        client: Client,
        ledger: Ledger,
        *,
        lease: float = 10.0,
        margin: float = 1.0,
        patience: float = 600.0,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._times = _Times(lease, margin, patience)

    async def settle(self, key: Key) -> None:
        """Bring a ticket as far as it goes now.

        Raises:
            Later: Somebody else may be at it still.
            AlphaPointError: The exchange could not be asked, or has not told; asking again is right, and safe.
            psycopg.Error: PostgreSQL is away; likewise.
        """
        try:
            row = await self._ledger.get(key)
        except LookupError as error:  # somebody has deleted it: there is nothing to go by
            _log.error("%s; its job ends", error)
            return
        if row.state in (State.TODO, State.SENT):
            await _Case(self._client, self._ledger, row, self._times).settle()


class _Times(NamedTuple):
    """Seconds; see `Desk`."""

    lease: float
    margin: float
    patience: float


class _Case:
    """One ticket in hand.

    Args:
        client: An operator's.
        ledger: What is known of the tickets.
        row: What is known of this one.
        times: See `Desk`.
    """

    def __init__(self, client: Client, ledger: Ledger, row: Row, times: _Times) -> None:
        self._client = client
        self._ledger = ledger
        self._row = row
        self._times = times
        self._mark = row.mark  # with which this worker writes
        self._accepted = row.accepted
        self._unread = row.unread

    async def settle(self) -> None:
        try:
            if self._row.state == State.TODO or await self._is_to_be_sent_again():
                await self._send()
        except (AlphaPointError, psycopg.Error, Later):
            raise
        except Exception as error:  # noqa: BLE001  (told in the ticket's row)
            # A mistake in here would be one the next time, too; and who waits for the ticket must hear of it.
            _log.exception("ticket %s", self._row.key)
            await self._put(State.UNKNOWN, why=f"internal error: {error!r}")

    async def _is_to_be_sent_again(self) -> bool:
        """Read a ticket that was marked as sent, and write down what it tells."""
        row = self._row
        seen = await self._read()
        if seen is None or await self._is_told_by(seen):
            return False
        if row.accepted:
            if row.age < self._times.patience:
                raise Later(min(max(row.age, _FIRST_PAUSE), _LONGEST_PAUSE))
            why = f"the cancel was accepted {row.age:.0f} s ago, and the ticket is failed still"
            await self._put(State.UNKNOWN, status=seen.status, why=why)
            return False
        if (left := row.lease_left + self._times.margin) > 0:
            raise Later(left)
        if row.sends >= row.most_sends:
            why = (
                f"the cancel was sent {row.sends} times, and the ticket is failed still; {row.why or 'no answer came'}"
            )
            await self._put(State.UNKNOWN, status=seen.status, why=why)
            return False
        return True

    async def _send(self) -> None:
        began = time.monotonic()
        mark = await self._ledger.mark_sent(self._row, lease=self._times.lease)
        if mark is None:
            raise Later(self._times.lease)
        self._mark, self._unread = mark, 0.0
        refusal = None
        try:
            await self._client.cancel_failed_withdraw_ticket(
                ticket_id=self._row.ticket_number,
                oms_id=self._row.oms_id,
                timeout=max(began + self._times.lease - time.monotonic(), 0.001),
            )
        except InvalidArguments as error:
            await self._put(State.REFUSED, why=error)
            return
        except (CallNotSent, AuthenticationFailed) as error:  # nothing left this machine: it stands where it stood
            await self._write_down(partial(self._ledger.take_back, self._row.key, mark, error))
            raise
        except OutcomeUnknown as error:
            await self._put(State.SENT, why=error)
        except CallRejected as error:
            refusal = error
            await self._put(State.SENT, why=error)
        else:
            self._accepted = True
            await self._put(State.SENT)
        await self._confirm(refusal)

    async def _confirm(self, refusal: CallRejected | None) -> None:
        """Read the ticket at once: most often it tells, whatever the answer to the cancel was."""
        seen = await self._read()
        if seen is None or await self._is_told_by(seen):
            return
        if refusal is None or isinstance(refusal, ServerError):  # which says nothing of the ticket
            raise Later(_FIRST_PAUSE)
        await self._put(State.REFUSED, status=seen.status, why=refusal)

    async def _read(self) -> WithdrawTicket | None:
        """Read a ticket; where nobody can, or it is another one, that is written down.

        Where there is no session, that says nothing of the ticket, and nothing is written.
        """
        row = self._row
        why: object
        try:
            seen = await self._client.get_withdraw_ticket(
                account_id=row.account_id, request_code=row.request_code, oms_id=row.oms_id
            )
        except InvalidArguments as error:
            why = f"the ticket cannot be read: {error}"
        except (OutcomeUnknown, ServerError, NotAuthorized) as error:
            # It says nothing now; a ticket that never does is a person's. A right can be missing for all of them.
            why = f"the ticket could not be read for {self._unread:.0f} s: {error}"
            if self._unread < self._times.patience:
                await self._put(State.SENT, is_unread=True, why=why)
                raise
        except CallRejected as error:
            why = f"the ticket cannot be read: {error}"
        else:
            if seen.ticket_number == row.ticket_number:
                return seen
            why = f"its request code is that of ticket {seen.ticket_number}"
        await self._put(State.UNKNOWN, why=why)
        return None

    async def _is_told_by(self, seen: WithdrawTicket) -> bool:
        """Write down that a ticket is no failed one any more; False where it still is."""
        if seen.status.is_failed:
            return False
        if seen.status.is_cancelled:
            await self._put(State.DONE, status=seen.status)
        else:
            why = f"it {'ended as' if seen.status.is_final else 'is'} {seen.status}, not cancelled"
            await self._put(State.REFUSED, status=seen.status, why=why)
        return True

    async def _put(
        self, state: State, *, is_unread: bool = False, status: str | None = None, why: object | None = None
    ) -> None:
        """Write down what is known; Later where somebody else has the ticket in hand by now: nobody may end its job."""
        write = partial(
            self._ledger.put,
            self._row.key,
            self._mark,
            state,
            accepted=self._accepted,
            is_unread=is_unread,
            status=status,
            why=why,
        )
        if not await self._write_down(write):
            raise Later(self._times.lease)

    async def _write_down(self, write: Callable[[], Awaitable[_Result]]) -> _Result:
        """Write what is known, through a restart of PostgreSQL too: else the next one has to find it out anew."""
        # For a lease: then the worker that has lost its database gives its jobs up.
        until, pause = time.monotonic() + self._times.lease, 0.1
        while True:
            try:
                return await write()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                await anyio.sleep(pause)
                pause = min(2 * pause, 2.0)
