"""The procrastinate app: one job a ticket, done again until the ticket has ended.

A ticket's queueing lock keeps a second job of it out of the queue, and its lock keeps two workers off it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import psycopg
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from psycopg import AsyncConnection

from .desk import Desk, Later
from .ledger import Key

__all__ = ["QUEUE", "create_queue", "defer", "make_app", "rescue"]

QUEUE = "fleet"
_TASK = "fleet.settle"

_LONGEST_WAIT = 3.0  # seconds for a connection

# Seconds before a job is tried again: twice as many each time, up to the second number.
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

_QUEUED = "SELECT queueing_lock FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = ANY(%s)"


class _Again(BaseRetryStrategy):
    """A job ends when its ticket's row says that it has ended, and no sooner: what raises is tried again."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        pause = min(_FIRST_PAUSE * 2 ** min(job.attempts, 10), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(exception, Later):
            pause = exception.seconds
        elif not isinstance(exception, Exception):  # cancelled, because its worker is being stopped
            pause = 0.0
        return RetryDecision(retry_in={"microseconds": int(1e6 * pause)})


async def _settle(context: JobContext, *, oms_id: int, ticket_number: int) -> None:
    desk: Desk = context.additional_context["desk"]
    await desk.settle(Key(oms_id, ticket_number))


def make_app(database: str, *, connections: int = 10) -> App:
    """Make the app of a database.

    Args:
        database: Its address, for libpq.
        connections: How many are kept, at most.
    """
    connector = PsycopgConnector(
        conninfo=database,
        min_size=1,
        max_size=connections,
        timeout=_LONGEST_WAIT,
        # A pool looks for a database that is away at ever longer intervals; from here on it looks when it is asked.
        reconnect_timeout=_LONGEST_WAIT,
    )
    app = App(connector=connector)
    app.task(name=_TASK, queue=QUEUE, pass_context=True, retry=_Again())(_settle)
    return app


async def create_queue(app: App, db: AsyncConnection) -> None:
    """Create procrastinate's tables, unless they are there."""
    (found,) = (await (await db.execute("SELECT to_regclass('procrastinate_jobs')")).fetchall())[0]
    if found is None:
        await db.execute(app.schema_manager.get_schema().encode())


async def defer(app: App, db: AsyncConnection, keys: Iterable[Key]) -> None:
    """Queue a job for each ticket that has none in the queue, inside a transaction of the caller's.

    Raises:
        AlreadyEnqueued: One was queued by somebody else meanwhile. To begin the transaction again is right.
    """
    wanted = {key.lock: key for key in keys}
    for (lock,) in await (await db.execute(_QUEUED, [list(wanted)])).fetchall():
        del wanted[lock]
    task = app.tasks[_TASK]
    jobs = [
        task.configure(lock=lock, queueing_lock=lock).make_new_job(oms_id=key.oms_id, ticket_number=key.ticket_number)
        for lock, key in wanted.items()
    ]
    if jobs:
        await app.job_manager.batch_defer_jobs_async(jobs, connection=db)


async def rescue(app: App, db: AsyncConnection, *, silence: float) -> int:
    """Queue the jobs of dead workers again.

    Args:
        app: The app.
        db: A connection on which a transaction is open: it holds the lock that lets one worker at a time do this.
        silence: Seconds without a sign of life after which a worker counts as dead. One that was only slow does no
            harm: see `Desk`.

    Returns:
        How many jobs there were.
    """
    (is_ours,) = (await (await db.execute("SELECT pg_try_advisory_xact_lock(hashtext('fleet rescue'))")).fetchall())[0]
    if not is_ours:
        return 0
    rescued = 0
    for job in await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=silence):
        try:
            await app.job_manager.retry_job(job)
        except UniqueViolation:  # the ticket was handed in again meanwhile: its job of then does the work
            await app.job_manager.finish_job(job, Status.ABORTED, delete_job=True)
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):  # its worker has just ended it
                raise
        else:
            rescued += 1
    return rescued
