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

import anyio
import psycopg

from aioalphapoint import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    Client,
    InvalidArguments,
    OutcomeUnknown,
    ServerError,
    WithdrawTicket,
)

from .ledger import Key, Ledger, Row, State

__all__ = ["Desk", "Later"]

_log = logging.getLogger("fleet")

# Seconds between two readings of a ticket whose cancel was accepted and does not show; each pause is twice the last.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

# Seconds for which what is known is tried to be written while PostgreSQL is away.
_LONGEST_AWAY = 60.0


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
        lease: Seconds from the mark until which a cancel may be written; the timeout of the call.
        margin: Seconds that a reader waits beyond the lease: what clocks drift apart meanwhile, and a frame's way.
        patience: Seconds for which an accepted cancel is read again, before a person looks.
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
        self._lease = lease
        self._margin = margin
        self._patience = patience

    async def settle(self, key: Key) -> None:
        """Bring a ticket as far as it goes now.

        Raises:
            Later: Somebody else may be at it still.
            AlphaPointError: The exchange could not be asked, or has not told; asking again is right, and safe.
            psycopg.Error: PostgreSQL is away; likewise.
        """
        row = await self._ledger.get(key)
        try:
            if row.state == State.TODO or (row.state == State.SENT and await self._is_to_be_sent_again(row)):
                await self._send(row)
        except (AlphaPointError, psycopg.Error, Later):
            raise
        except Exception as error:  # noqa: BLE001  (told in the ticket's row)
            # A mistake in here would be one the next time, too; and who waits for the ticket must hear of it.
            _log.exception("ticket %s", key)
            await self._ledger.put(
                key, (await self._ledger.get(key)).mark, State.UNKNOWN, why=f"internal error: {error!r}"
            )

    async def _is_to_be_sent_again(self, row: Row) -> bool:
        """Read a ticket that was marked as sent, and write down what it tells."""
        seen = await self._read(row, row.mark)
        if seen is None or await self._is_told_by(seen, row, row.mark):
            return False
        age = row.age or 0.0
        if row.accepted:
            if age < self._patience:
                raise Later(min(max(age, _FIRST_PAUSE), _LONGEST_PAUSE))
            why = f"the cancel was accepted {age:.0f} s ago, and the ticket is failed still"
            await self._put(row, row.mark, State.UNKNOWN, status=seen.status, why=why)
            return False
        if (left := self._lease + self._margin - age) > 0:
            raise Later(left)
        if row.sends >= row.most_sends:
            why = (
                f"the cancel was sent {row.sends} times, and the ticket is failed still; {row.why or 'no answer came'}"
            )
            await self._put(row, row.mark, State.UNKNOWN, status=seen.status, why=why)
            return False
        return True

    async def _send(self, row: Row) -> None:
        began = time.monotonic()
        mark = await self._ledger.mark_sent(row)
        if mark is None:
            raise Later(self._lease)
        refusal = None
        try:
            await self._client.cancel_failed_withdraw_ticket(
                ticket_id=row.ticket_number,
                oms_id=row.oms_id,
                timeout=max(began + self._lease - time.monotonic(), 0.001),
            )
        except InvalidArguments as error:
            await self._put(row, mark, State.REFUSED, why=error)
            return
        except (CallNotSent, AuthenticationFailed) as error:  # nothing left this machine: it stands where it stood
            await self._write_down(partial(self._ledger.take_back, row.key, mark, error))
            raise
        except OutcomeUnknown as error:
            await self._put(row, mark, State.SENT, why=error)
        except CallRejected as error:
            refusal = error
            await self._put(row, mark, State.SENT, why=error)
        else:
            await self._put(row, mark, State.SENT, accepted=True)
        await self._confirm(row, mark, refusal)

    async def _confirm(self, row: Row, mark: int, refusal: CallRejected | None) -> None:
        """Read the ticket at once: most often it tells, whatever the answer to the cancel was."""
        seen = await self._read(row, mark)
        if seen is None or await self._is_told_by(seen, row, mark):
            return
        if refusal is None or isinstance(refusal, ServerError):  # which says nothing of the ticket
            raise Later(_FIRST_PAUSE)
        await self._put(row, mark, State.REFUSED, status=seen.status, why=refusal)

    async def _read(self, row: Row, mark: int) -> WithdrawTicket | None:
        """Read a ticket; where nobody can, or it is another one, that is written down."""
        why: object
        try:
            seen = await self._client.get_withdraw_ticket(
                account_id=row.account_id, request_code=row.request_code, oms_id=row.oms_id
            )
        except ServerError:
            raise
        except (CallRejected, InvalidArguments) as error:
            why = f"the ticket cannot be read: {error}"
        else:
            if seen.ticket_number == row.ticket_number:
                return seen
            why = f"its request code is that of ticket {seen.ticket_number}"
        await self._put(row, mark, State.UNKNOWN, why=why)
        return None

    async def _is_told_by(self, seen: WithdrawTicket, row: Row, mark: int) -> bool:
        """Write down that a ticket is no failed one any more; False where it still is."""
        if seen.status.is_failed:
            return False
        if seen.status.is_cancelled:
            await self._put(row, mark, State.DONE, status=seen.status)
        else:
            why = f"it {'ended as' if seen.status.is_final else 'is'} {seen.status}, not cancelled"
            await self._put(row, mark, State.REFUSED, status=seen.status, why=why)
        return True

    async def _put(
        self,
        row: Row,
        mark: int,
        state: State,
        *,
        accepted: bool = False,
        status: str | None = None,
        why: object | None = None,
    ) -> None:
        await self._write_down(
            partial(self._ledger.put, row.key, mark, state, accepted=accepted, status=status, why=why)
        )

    async def _write_down(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write what is known, through a restart of PostgreSQL too: else the next one has to find it out anew."""
        until, pause = time.monotonic() + _LONGEST_AWAY, 0.1
        while True:
            try:
                await write()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                await anyio.sleep(pause)
                pause = min(2 * pause, 2.0)
            else:
                return
