"""One limit for all workers: PyrateLimiter's bucket in PostgreSQL, as a client's `limiter`.

The exchange counts calls when they arrive, and a limiter when they are let through. What arrives in a second was let
through in that second or shortly before, so the bucket's window is that much longer than a second. A call that cannot
be sent so soon after it was let through, because this process was held up, asks anew.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
from psycopg import Connection
from psycopg_pool import ConnectionPool
from pyrate_limiter import Limiter, Rate, SingleBucketFactory
from pyrate_limiter.buckets.postgres import PostgresBucket

__all__ = ["SharedLimiter"]

# Seconds that a call may take from being let through to its arrival: half until it is written, half on its way.
SLACK = 0.25

# Seconds within which PostgreSQL has to answer; a call that waits longer was not sent.
_LONGEST_ANSWER = 3.0


def _in_utc(db: Connection[Any]) -> None:
    # The bucket's times are stored without a zone: hosts in two of them, or a change to winter time, would miscount.
    db.execute("SET TIME ZONE 'UTC'")
    db.commit()


class _Bucket(PostgresBucket):
    """A bucket that has the database's time or none: its own clock would fall back to this host's, and say nothing."""

    def now(self) -> int:
        with self.pool.connection() as db:
            row = db.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").fetchone()
        assert row is not None
        return int(row[0])


class SharedLimiter(AbstractAsyncContextManager[None]):
    """Lets so many calls a second through, of all processes that use the same database together.

    Entered before each call, by any number of tasks at once, which are served in their order. Make one by `open`.

    Args:
        pool: Connections for threads: PyrateLimiter's bucket is a synchronous one.
        rate: Calls that may arrive in any one second.
    """

    def __init__(self, pool: ConnectionPool, rate: int) -> None:
        self._pool = pool
        self._bucket = _Bucket(pool, "fleet", [Rate(rate, round(1000 * (1 + SLACK)))])
        self._limiter = Limiter(SingleBucketFactory(self._bucket, schedule_leak=False))
        self._pause = min(max(1 / rate, 0.005), 0.25)  # seconds between two questions
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, database: str, rate: int) -> SharedLimiter:
        """Connect, and create the bucket's table where it is not there yet.

        Args:
            database: The address of the database, for libpq.
            rate: Calls that may arrive in any one second.
        """

        def make() -> SharedLimiter:
            pool = ConnectionPool(
                database,
                min_size=1,
                max_size=2,
                open=True,
                configure=_in_utc,
                timeout=_LONGEST_ANSWER,
                reconnect_timeout=_LONGEST_ANSWER,  # see `make_app`
                check=ConnectionPool.check_connection,
            )
            try:
                return cls(pool, rate)
            except BaseException:
                pool.close()
                raise

        return await anyio.to_thread.run_sync(make)

    async def __aenter__(self) -> None:
        async with self._turn:
            while True:
                asked = time.monotonic()
                is_let_through = await anyio.to_thread.run_sync(self._ask, abandon_on_cancel=True)
                if not is_let_through:
                    await anyio.sleep(self._pause)
                elif time.monotonic() - asked < SLACK / 2:
                    return

    async def __aexit__(self, *_: object) -> None:
        pass

    def _ask(self) -> bool:
        # Each question by itself: where the limiter waits by itself, it reckons its time forward and does not look.
        return bool(self._limiter.try_acquire("fleet", blocking=False))

    async def forget(self) -> None:
        """Delete what is too old to count."""
        await anyio.to_thread.run_sync(lambda: self._bucket.leak(self._bucket.now()), abandon_on_cancel=True)

    async def aclose(self) -> None:
        """Give the connections back."""
        await anyio.to_thread.run_sync(self._pool.close)
