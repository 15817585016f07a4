"""A worker: one client, opened at the start and shared by its jobs, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from procrastinate import App
from procrastinate.exceptions import ConnectorException

from aioalphapoint import AlphaPointError, Client, SessionState
from aioalphapoint.cli.access import Access

from .app import QUEUE, make_app, rescue, set_up
from .desk import Desk
from .ledger import Ledger
from .limiter import SharedLimiter

__all__ = ["Settings", "Unfit", "connected", "work"]

_log = logging.getLogger("fleet")

_LONGEST_CONNECT = 10  # seconds for the first connection to PostgreSQL
_PAUSE = 1.0  # seconds before a database that is away is looked for again


class Unfit(Exception):
    """The work cannot begin, or go on: one sentence that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a worker works; times are in seconds.

    Attributes:
        database: The address of the database, for libpq; empty for what the PG* variables say.
        access: Where the exchange is, and an operator's login.
        rate: Calls a second of the whole fleet.
        concurrency: Tickets that this worker has in hand at once.
        lease: How long a cancel may be written once its ticket is marked as sent.
        heartbeat: How often this worker gives a sign of life; one that gives none for five times as long is dead.
        patience: How long an accepted cancel is read again, before a person looks.
    """

    database: str
    access: Access
    rate: int
    concurrency: int = 16
    lease: float = 10.0
    heartbeat: float = 3.0
    patience: float = 600.0

    @property
    def silent(self) -> float:
        """Seconds without a sign of life after which a worker counts as dead."""
        return 5 * self.heartbeat


@asynccontextmanager
async def connected(database: str) -> AsyncIterator[tuple[App, Ledger]]:
    """Connect to the database, and create the tables that are not there yet; Unfit where that cannot be."""
    try:  # a pool would try for half a minute, and not say what is wrong
        await (await psycopg.AsyncConnection.connect(database, connect_timeout=_LONGEST_CONNECT)).close()
    except psycopg.Error as error:
        raise Unfit(f"cannot connect to PostgreSQL: {error}") from error
    app = make_app(database)
    await app.open_async()
    try:
        ledger = Ledger(app.connector.pool)  # type: ignore[attr-defined]  # a PsycopgConnector's
        async with ledger.alone() as db:
            await set_up(app, db)
            await ledger.set_up(db)
        yield app, ledger
    finally:
        await app.close_async()


async def work(settings: Settings) -> None:
    """Work on tickets until SIGTERM or SIGINT: what is in flight then is finished, or stands as sent in its row.

    A database that is away is waited for; the client's session is kept meanwhile.

    Raises:
        Unfit: The database cannot be reached at the start, there is no session or it was given up, or the others work
            at another rate.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connected(settings.database) as (app, ledger):
        rate = await ledger.agree_on(settings.rate, alive=settings.silent)
        if rate != settings.rate:
            raise Unfit(f"the fleet works at {rate} calls a second, not {settings.rate}: end the other workers first")
        limiter = await SharedLimiter.open(settings.database, rate)
        try:
            async with Client(settings.access.url, settings.access.credentials, limiter=limiter) as client:
                desk = Desk(client, ledger, lease=settings.lease, patience=settings.patience)
                _log.info("at work, %d calls a second for the whole fleet", rate)
                await _until(stop, client, _keep_working(app, ledger, limiter, desk, settings=settings, stop=stop))
        except AlphaPointError as error:
            raise Unfit(f"no session with the exchange: {error}") from error
        finally:
            await limiter.close()


async def _until(stop: asyncio.Event, client: Client, work: Coroutine[None, None, None]) -> None:
    """Do the work until somebody says stop or the client is of no use any more, and let it end in peace."""
    worker = asyncio.ensure_future(work)
    told = asyncio.ensure_future(stop.wait())
    over = asyncio.ensure_future(client.wait_for_state(SessionState.FAILED, SessionState.CLOSED))
    try:
        await asyncio.wait({worker, told, over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (worker, told, over):
            task.cancel()
        await asyncio.wait({worker, told, over})
    if not worker.cancelled() and (error := worker.exception()) is not None:
        raise error
    if not stop.is_set():
        await client.call("Ping")  # says why the session was given up


async def _keep_working(
    app: App, ledger: Ledger, limiter: SharedLimiter, desk: Desk, *, settings: Settings, stop: asyncio.Event
) -> None:
    asyncio.get_running_loop().set_exception_handler(_say_what_is_no_mistake)
    async with asyncio.TaskGroup() as tasks:
        chores = tasks.create_task(_do_chores(app, ledger, limiter, settings))
        while not stop.is_set():  # a cancellation alone may be lost in procrastinate: in what a database away raises
            trouble = "it stopped by itself"
            try:
                await app.run_worker_async(
                    queues=[QUEUE],
                    concurrency=settings.concurrency,
                    fetch_job_polling_interval=1.0,
                    shutdown_graceful_timeout=settings.lease,
                    update_heartbeat_interval=settings.heartbeat,
                    stalled_worker_timeout=settings.silent,
                    install_signal_handlers=False,
                    additional_context={"desk": desk},
                    delete_jobs="successful",  # the ticket's row is the record
                )
            except (ConnectorException, psycopg.Error) as error:
                trouble = _first_line(error)
            if not stop.is_set():
                _log.warning("procrastinate cannot work (%s), going on in %.0f s", trouble, _PAUSE)
                await asyncio.sleep(_PAUSE)
        chores.cancel()


def _say_what_is_no_mistake(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell in a sentence of a job whose end could not be written: it is done again, and finds what was done."""
    error = context.get("exception")
    if isinstance(error, ConnectorException):
        _log.warning("a job's end could not be written: %s", _first_line(error))
    else:
        loop.default_exception_handler(context)


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).strip().partition("\n")[0]


async def _do_chores(app: App, ledger: Ledger, limiter: SharedLimiter, settings: Settings) -> None:
    while True:
        await asyncio.sleep(settings.heartbeat)
        try:
            async with ledger.transaction() as db:
                rescued = await rescue(app, db, silent=settings.silent)
            await limiter.forget()
        except (ConnectorException, psycopg.Error):
            continue  # whoever works says that the database is away
        if rescued:
            _log.warning("%d jobs of a worker that died are queued again", rescued)
