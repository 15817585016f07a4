"""What is known of each ticket: a row in PostgreSQL, written before a cancel is sent and after it.

Invariants:

* A row is written only by whoever marked its ticket as sent last: each mark has a number, and a writer with an older
  one changes nothing.
* A mark is on disk before `mark_sent` returns, so a frame that is out has a row that says so.
* Times are compared on the database's clock alone.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row
from psycopg_pool import AsyncConnectionPool

__all__ = ["Counts", "Key", "Ledger", "Row", "State"]


class State(enum.StrEnum):
    """What is known of a ticket."""

    TODO = "todo"
    SENT = "sent"
    """A cancel of it may be on its way, or have arrived: the ticket is read before anything else is done."""
    DONE = "done"
    """It was seen cancelled."""
    REFUSED = "refused"
    """The exchange said no, or it ended otherwise. A person decides."""
    UNKNOWN = "unknown"
    """The ticket does not tell what became of the cancel, or cannot be read. A person decides."""


class Key(NamedTuple):
    """Which ticket: the order management system, and the exchange's number."""

    oms_id: int
    ticket_number: int

    def __str__(self) -> str:
        return f"{self.oms_id}/{self.ticket_number}"

    @property
    def lock(self) -> str:
        """What procrastinate locks for it."""
        return f"ticket {self}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A ticket's row.

    Attributes:
        mark: How often it was marked as sent: whoever marked it last may write.
        sends: How often of these it was sent, or may have been.
        most_sends: From how many on a person decides.
        accepted: What was sent last was answered with "received".
        status: The ticket's, as last seen.
        why: A sentence, where it is not done.
        age: Seconds since it was marked last.
    """

    oms_id: int
    ticket_number: int
    account_id: int
    request_code: str
    state: str
    mark: int
    sends: int
    most_sends: int
    accepted: bool
    status: str | None
    why: str | None
    age: float | None

    @property
    def key(self) -> Key:
        return Key(self.oms_id, self.ticket_number)


@dataclass(frozen=True, slots=True)
class Counts:
    """How the whole work stands.

    Attributes:
        by_state: Tickets in each state.
        ended: Those that ended in the last minute.
        seconds: How much of that minute there has been since the first one ended.
        workers: Those that gave a sign of life lately.
    """

    by_state: dict[State, int]
    ended: int
    seconds: float
    workers: int

    @property
    def open(self) -> int:
        return self.by_state[State.TODO] + self.by_state[State.SENT]

    @property
    def rate(self) -> float:
        """Tickets a second that end."""
        return self.ended / self.seconds if self.seconds else 0.0


_COLUMNS = """
    oms_id, ticket_number, account_id, request_code, state, mark, sends, most_sends, accepted, status, why,
    extract(epoch FROM clock_timestamp() - sent_at)::float AS age
"""

_ENTER = """
    INSERT INTO fleet_tickets (oms_id, ticket_number, account_id, request_code)
    SELECT * FROM unnest(%s::int[], %s::bigint[], %s::bigint[], %s::text[])
    ON CONFLICT (oms_id, ticket_number)
"""
_BUT_ONCE = "DO NOTHING"
# What was sent before is read before it is sent again: it goes on as sent, not as new. A ticket that has not ended, and
# has no job any more because somebody deleted it, gets another one.
_AGAIN = """
    DO UPDATE SET state = CASE WHEN fleet_tickets.sends = 0 THEN 'todo' ELSE 'sent' END,
        most_sends = fleet_tickets.sends + 5, accepted = false, why = NULL, changed_at = clock_timestamp()
    WHERE fleet_tickets.state IN ('refused', 'unknown')
        OR fleet_tickets.state IN ('todo', 'sent') AND NOT EXISTS (
            SELECT FROM procrastinate_jobs
            WHERE status IN ('todo', 'doing')
                AND lock = format('ticket %%s/%%s', fleet_tickets.oms_id, fleet_tickets.ticket_number)
        )
"""

_MARK = """
    UPDATE fleet_tickets
    SET state = 'sent', mark = mark + 1, sends = sends + 1, accepted = false,
        sent_at = clock_timestamp(), changed_at = clock_timestamp()
    WHERE oms_id = %s AND ticket_number = %s AND mark = %s AND state IN ('todo', 'sent')
    RETURNING mark
"""

# What never left: it was sent as often as before, and stands where it stood. The mark is used up: done twice, this
# changes nothing more.
_TAKE_BACK = """
    UPDATE fleet_tickets
    SET state = CASE WHEN sends = 1 THEN 'todo' ELSE 'sent' END, mark = mark + 1, sends = sends - 1, why = %s,
        changed_at = clock_timestamp()
    WHERE oms_id = %s AND ticket_number = %s AND mark = %s AND state = 'sent'
"""

_PUT = """
    UPDATE fleet_tickets
    SET state = %s, accepted = %s, status = coalesce(%s, status), why = %s, changed_at = clock_timestamp()
    WHERE oms_id = %s AND ticket_number = %s AND mark = %s AND state IN ('todo', 'sent')
"""

_ENDED = """
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(changed_at)), 0)::float
    FROM fleet_tickets
    WHERE state IN ('done', 'refused', 'unknown') AND changed_at > clock_timestamp() - interval '1 minute'
"""

_SET_FIRST_RATE = "INSERT INTO fleet_limit (rate) VALUES (%s) ON CONFLICT (is_only_row) DO NOTHING"
_SET_RATE = "INSERT INTO fleet_limit (rate) VALUES (%s) ON CONFLICT (is_only_row) DO UPDATE SET rate = excluded.rate"


class Ledger:
    """The rows of all tickets."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction, which is rolled back where its block raises."""
        return self._pool.connection()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that only one process of the fleet at a time can be in."""
        async with self._pool.connection() as db:
            await db.execute("SELECT pg_advisory_xact_lock(hashtext('fleet'))")
            yield db

    async def set_up(self, db: AsyncConnection) -> None:
        """Create what is not there yet, inside a transaction of the caller's."""
        await db.execute(resources.files(__package__).joinpath("schema.sql").read_bytes())

    async def enter(
        self, db: AsyncConnection, tickets: Iterable[tuple[Key, int, str]], *, again: bool
    ) -> Sequence[Key]:
        """Enter tickets that are not there yet, inside a transaction of the caller's.

        Args:
            db: The connection of the transaction.
            tickets: Each once: its key, its account, its request code.
            again: Open those anew that wait for a person, or have lost their job.

        Returns:
            Those that are to be worked on now.
        """
        columns = [
            list(column) for column in zip(*((*key, account, code) for key, account, code in tickets), strict=True)
        ]
        query = f"{_ENTER}{_AGAIN if again else _BUT_ONCE} RETURNING oms_id, ticket_number"
        cursor = await db.execute(query.encode(), columns)
        return [Key(*row) for row in await cursor.fetchall()]

    async def get(self, key: Key) -> Row:
        """Give a ticket's row; LookupError where there is none."""
        query = f"SELECT {_COLUMNS} FROM fleet_tickets WHERE oms_id = %s AND ticket_number = %s"  # noqa: S608  (constants)
        async with self._pool.connection() as db, db.cursor(row_factory=class_row(Row)) as cursor:
            row = await (await cursor.execute(query.encode(), key)).fetchone()
        if row is None:
            raise LookupError(f"ticket {key} was never submitted")
        return row

    async def mark_sent(self, row: Row) -> int | None:
        """Write down that a cancel is about to be sent, before it is.

        Returns:
            The number of the mark, which is needed to write anything more; None where somebody else was quicker.
        """
        async with self._pool.connection() as db, db.cursor(row_factory=scalar_row) as cursor:
            mark: int | None = await (await cursor.execute(_MARK, (*row.key, row.mark))).fetchone()
        return mark

    async def take_back(self, key: Key, mark: int, why: object) -> None:
        """Write down that what was marked was not sent, unless another one has marked the ticket since."""
        async with self._pool.connection() as db:
            await db.execute(_TAKE_BACK, (str(why), *key, mark))

    async def put(
        self,
        key: Key,
        mark: int,
        state: State,
        *,
        accepted: bool = False,
        status: str | None = None,
        why: object | None = None,
    ) -> None:
        """Write down what is known, unless another one has marked the ticket since, or it has ended."""
        words = None if why is None else str(why)
        async with self._pool.connection() as db:
            await db.execute(_PUT, (state, accepted, status, words, *key, mark))

    async def counts(self, *, alive: float) -> Counts:
        """Count how the whole work stands; a worker that gave a sign of life in the last `alive` seconds counts."""
        async with self._pool.connection() as db:
            by_state = dict.fromkeys(State, 0)
            for state, count in await (
                await db.execute("SELECT state, count(*) FROM fleet_tickets GROUP BY 1")
            ).fetchall():
                by_state[State(state)] = count
            ended, seconds = (await (await db.execute(_ENDED)).fetchall())[0]
            workers = await self._workers(db, alive)
        return Counts(by_state, ended, seconds, workers)

    async def needing_a_person(self, *, most: int) -> Sequence[Row]:
        """Give the tickets that a person has to look at, the latest first."""
        query = f"""
            SELECT {_COLUMNS} FROM fleet_tickets WHERE state IN ('refused', 'unknown')
            ORDER BY changed_at DESC LIMIT %s
        """  # noqa: S608  (a constant)
        async with self._pool.connection() as db, db.cursor(row_factory=class_row(Row)) as cursor:
            return await (await cursor.execute(query.encode(), (most,))).fetchall()

    async def agree_on(self, rate: int, *, alive: float) -> int:
        """Set the calls a second of the whole fleet, and give the rate that holds: the others', while there are others.

        Args:
            rate: The calls a second.
            alive: Seconds since its last sign of life after which another worker does not count.
        """
        async with self.alone() as db:
            is_alone = await self._workers(db, alive) == 0
            await db.execute(_SET_RATE if is_alone else _SET_FIRST_RATE, (rate,))
            agreed: int = (await (await db.execute("SELECT rate FROM fleet_limit")).fetchall())[0][0]
        return agreed

    async def _workers(self, db: AsyncConnection, alive: float) -> int:
        query = "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s)"
        count: int = (await (await db.execute(query, (alive,))).fetchall())[0][0]
        return count
