"""What is known of each ticket: a row in PostgreSQL, written before a cancel is sent and after it.

Invariants:

* A row is written only by whoever marked its ticket as sent last: each mark has a number, and a writer with an older
  one changes nothing.
* A mark is on disk before `mark_sent` returns, so a frame that is out has a row that says so.
* Times are compared on the database's clock alone.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row, scalar_row
from psycopg_pool import AsyncConnectionPool

__all__ = ["Counts", "Key", "Ledger", "Listed", "Row", "State", "Terms"]


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


class Listed(NamedTuple):
    """A ticket as it is handed in: the exchange gives it by its account and request code alone."""

    oms_id: int
    ticket_number: int
    account_id: int
    request_code: str

    @property
    def key(self) -> Key:
        return Key(self.oms_id, self.ticket_number)


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
        lease_left: Seconds for which its cancel may be written still.
        unread: Seconds since it could not be read for the first time, where it could not be read last.
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
    age: float
    lease_left: float
    unread: float

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

    by_state: Mapping[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    ended: int = 0
    seconds: float = 0.0
    workers: int = 0

    @property
    def open(self) -> int:
        return self.by_state[State.TODO] + self.by_state[State.SENT]

    @property
    def rate(self) -> float:
        """Tickets a second that end; those of the first second count as one second's."""
        return self.ended / max(self.seconds, 1.0)


@dataclass(frozen=True, slots=True)
class Terms:
    """What all workers have to agree on.

    Attributes:
        rate: Calls a second that all of them together make.
        heartbeat: Seconds between two signs of life; who gives none for five times as long is dead.
    """

    rate: int
    heartbeat: float

    @property
    def silence(self) -> float:
        """Seconds without a sign of life after which a worker counts as dead."""
        return 5 * self.heartbeat


_COLUMNS = """
    oms_id, ticket_number, account_id, request_code, state, mark, sends, most_sends, accepted, status, why,
    coalesce(extract(epoch FROM clock_timestamp() - sent_at), 0)::float AS age,
    coalesce(extract(epoch FROM leased_until - clock_timestamp()), 0)::float AS lease_left,
    coalesce(extract(epoch FROM clock_timestamp() - unread_since), 0)::float AS unread
"""

_LISTED = "unnest(%s::int[], %s::bigint[], %s::bigint[], %s::text[]) AS listed (oms, number, account, code)"
_ENTER = f"""
    INSERT INTO fleet_tickets (oms_id, ticket_number, account_id, request_code)
    SELECT * FROM {_LISTED}
    ON CONFLICT (oms_id, ticket_number)
"""  # noqa: S608  (constants)
_BUT_ONCE = "DO NOTHING"
# What waits for a person is opened; what was sent is read before it is sent again: it goes on as sent, not as new.
_AGAIN = """
    DO UPDATE SET state = CASE WHEN fleet_tickets.sends = 0 THEN 'todo' ELSE 'sent' END, mark = fleet_tickets.mark + 1,
        account_id = excluded.account_id, request_code = excluded.request_code,
        most_sends = fleet_tickets.sends + 5, accepted = false, unread_since = NULL, why = NULL,
        changed_at = clock_timestamp()
    WHERE fleet_tickets.state IN ('refused', 'unknown')
"""
_OTHERWISE = f"""
    SELECT oms_id, ticket_number, account_id, request_code
    FROM fleet_tickets JOIN {_LISTED} ON oms_id = oms AND ticket_number = number
    WHERE (account_id <> account OR lower(request_code) <> lower(code)) AND NOT state = ANY(%s)
    LIMIT 1
"""  # noqa: S608  (constants)
# Those that have not ended, and whose job is gone because somebody deleted it.
_LOST = f"""
    SELECT oms_id, ticket_number
    FROM fleet_tickets JOIN {_LISTED} ON oms_id = oms AND ticket_number = number
    WHERE state IN ('todo', 'sent') AND NOT EXISTS (
        SELECT FROM procrastinate_jobs
        WHERE status IN ('todo', 'doing') AND lock = format('ticket %%s/%%s', oms_id, ticket_number)
    )
"""  # noqa: S608  (constants)

_MARK = """
    UPDATE fleet_tickets
    SET state = 'sent', mark = mark + 1, sends = sends + 1, accepted = false, unread_since = NULL,
        sent_at = clock_timestamp(), leased_until = clock_timestamp() + make_interval(secs => %s),
        changed_at = clock_timestamp()
    WHERE oms_id = %s AND ticket_number = %s AND mark = %s AND state IN ('todo', 'sent')
    RETURNING mark
"""

# What never left: it was sent as often as before, and stands where it stood. The mark is used up: done twice, this
# changes nothing more.
_TAKE_BACK = """
    UPDATE fleet_tickets
    SET state = CASE WHEN sends = 1 THEN 'todo' ELSE 'sent' END, mark = mark + 1, sends = sends - 1, why = %s,
        changed_at = clock_timestamp()
    WHERE oms_id = %s AND ticket_number = %s AND mark = %s
"""

_PUT = """
    UPDATE fleet_tickets
    SET state = %s, accepted = %s, unread_since = CASE WHEN %s THEN coalesce(unread_since, clock_timestamp()) END,
        status = coalesce(%s, status), why = %s, changed_at = clock_timestamp()
    WHERE oms_id = %s AND ticket_number = %s AND mark = %s AND state IN ('todo', 'sent')
"""

_ENDED = """
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(changed_at)), 0)::float
    FROM fleet_tickets
    WHERE state IN ('done', 'refused', 'unknown') AND changed_at > clock_timestamp() - interval '1 minute'
"""

_WORKERS = "SELECT count(*) FROM fleet_workers WHERE alive_until > clock_timestamp()"
_OTHERS = "SELECT rate, heartbeat FROM fleet_workers WHERE worker <> %s AND alive_until > clock_timestamp() LIMIT 1"
_SIGN = """
    INSERT INTO fleet_workers (worker, rate, heartbeat, alive_until)
    VALUES (%s, %s, %s, clock_timestamp() + make_interval(secs => %s))
    ON CONFLICT (worker) DO UPDATE SET alive_until = excluded.alive_until
"""
_LEAVE = "DELETE FROM fleet_workers WHERE worker = %s OR alive_until < clock_timestamp()"


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
        """Create what is not there yet, inside a transaction of the caller's.

        It takes locks that wait for whoever writes, though everything is there: `is_set_up` tells without.
        """
        await db.execute(resources.files(__package__).joinpath("schema.sql").read_bytes())

    async def is_set_up(self) -> bool:
        """Tell whether anybody has used this database for a fleet."""
        async with self._pool.connection() as db, db.cursor(row_factory=scalar_row) as cursor:
            return await (await cursor.execute("SELECT to_regclass('fleet_workers')")).fetchone() is not None

    async def enter(self, db: AsyncConnection, tickets: Sequence[Listed], *, again: bool) -> Sequence[Key]:
        """Enter tickets that are not there yet, inside a transaction of the caller's.

        Args:
            db: The connection of the transaction.
            tickets: Each once.
            again: Open those anew that wait for a person, and give those too that have lost their job.

        Returns:
            Those that need a job now.
        """
        columns = _columns(tickets)
        query = f"{_ENTER}{_AGAIN if again else _BUT_ONCE} RETURNING oms_id, ticket_number"
        rows = await (await db.execute(query.encode(), columns)).fetchall()
        if again:
            fresh = set(rows)
            rows += [row for row in await (await db.execute(_LOST.encode(), columns)).fetchall() if row not in fresh]
        return [Key(*row) for row in rows]

    async def otherwise(self, db: AsyncConnection, tickets: Sequence[Listed], *, again: bool) -> Listed | None:
        """Give a ticket that was submitted with another account or request code than it has here, as it was."""
        opened = [State.REFUSED, State.UNKNOWN] if again else []  # they take the new ones over
        cursor = await db.execute(_OTHERWISE.encode(), (*_columns(tickets), opened))
        row = await cursor.fetchone()
        return None if row is None else Listed(*row)

    async def get(self, key: Key) -> Row:
        """Give a ticket's row; LookupError where there is none."""
        query = f"SELECT {_COLUMNS} FROM fleet_tickets WHERE oms_id = %s AND ticket_number = %s"  # noqa: S608  (constants)
        async with self._pool.connection() as db, db.cursor(row_factory=class_row(Row)) as cursor:
            row = await (await cursor.execute(query.encode(), key)).fetchone()
        if row is None:
            raise LookupError(f"ticket {key} was never submitted")
        return row

    async def mark_sent(self, row: Row, *, lease: float) -> int | None:
        """Write down that a cancel is about to be sent, before it is.

        Args:
            row: The ticket, as it was read.
            lease: Seconds from now for which the cancel may be written.

        Returns:
            The number of the mark, which is needed to write anything more; None where somebody else was quicker.
        """
        async with self._pool.connection() as db, db.cursor(row_factory=scalar_row) as cursor:
            mark: int | None = await (await cursor.execute(_MARK, (lease, *row.key, row.mark))).fetchone()
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
        is_unread: bool = False,
        status: str | None = None,
        why: object | None = None,
    ) -> bool:
        """Write down what is known; False, and nothing written, where another one has marked it since, or it has ended.

        Args:
            key: Which ticket.
            mark: The number of the writer's mark.
            state: What it is now.
            accepted: What was sent last was answered with "received".
            is_unread: It could not be read.
            status: The ticket's, where it was seen.
            why: A sentence.
        """
        words = None if why is None else str(why)
        async with self._pool.connection() as db:
            cursor = await db.execute(_PUT, (state, accepted, is_unread, status, words, *key, mark))
        return cursor.rowcount == 1

    async def counts(self) -> Counts:
        """Count how the whole work stands."""
        async with self._pool.connection() as db:
            by_state = dict.fromkeys(State, 0)
            for state, count in await (
                await db.execute("SELECT state, count(*) FROM fleet_tickets GROUP BY 1")
            ).fetchall():
                by_state[State(state)] = count
            ended, seconds = (await (await db.execute(_ENDED)).fetchall())[0]
            ((workers,),) = await (await db.execute(_WORKERS)).fetchall()
        return Counts(by_state, ended, seconds, workers)

    async def needing_a_person(self, *, most: int) -> Sequence[Row]:
        """Give the tickets that a person has to look at, the latest first."""
        query = f"""
            SELECT {_COLUMNS} FROM fleet_tickets WHERE state IN ('refused', 'unknown')
            ORDER BY changed_at DESC LIMIT %s
        """  # noqa: S608  (a constant)
        async with self._pool.connection() as db, db.cursor(row_factory=class_row(Row)) as cursor:
            return await (await cursor.execute(query.encode(), (most,))).fetchall()

    async def sign(self, worker: UUID, terms: Terms) -> Terms:
        """Give a worker's sign of life, unless others work on other terms.

        Args:
            worker: Which one.
            terms: On which it works.

        Returns:
            The terms that hold: the others', while there are others.
        """
        async with self.alone() as db:
            others = await (await db.execute(_OTHERS, (worker,))).fetchone()
            if others is not None and Terms(*others) != terms:
                return Terms(*others)
            await db.execute(_SIGN, (worker, terms.rate, terms.heartbeat, terms.silence))
        return terms

    async def leave(self, worker: UUID) -> None:
        """Write down that a worker has ended."""
        async with self._pool.connection() as db:
            await db.execute(_LEAVE, (worker,))


def _columns(tickets: Iterable[Listed]) -> list[list[object]]:
    return [list(column) for column in zip(*tickets, strict=True)]
