"""A worker: one client, opened at the start and shared by its jobs, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from aioalphapoint import AlphaPointError, Client, SessionState
from aioalphapoint.cli.access import Access
from aioalphapoint.cli.exits import Exit, exit_of

from .app import QUEUE, create_queue, make_app, rescue
from .desk import Desk
from .ledger import Ledger, Terms
from .limiter import SharedLimiter

__all__ = ["Settings", "Unfit", "connected", "first_line", "work"]

_log = logging.getLogger("fleet")

# Of each connection to PostgreSQL: a host that is gone and says nothing is found out in fifteen seconds, not in hours.
_LIFE: dict[str, Any] = {
    "connect_timeout": 10,  # seconds
    "keepalives_idle": 5,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # milliseconds
}
_PAUSE = 1.0  # seconds before a database that is away is looked for again


class Unfit(Exception):
    """The work cannot begin, or go on: one sentence that says why.

    Attributes:
        status: With which the program ends.
    """

    def __init__(self, message: str, status: Exit) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a worker works; times are in seconds.

    Attributes:
        database: The address of the database, for libpq; empty for what the PG* variables say.
        access: Where the exchange is, and an operator's login.
        terms: What all workers have to agree on.
        concurrency: Tickets that this worker has in hand at once.
        lease: How long a cancel may be written once its ticket is marked as sent.
        patience: How long an accepted cancel is read again, before a person looks.
    """

    database: str
    access: Access
    terms: Terms
    concurrency: int = 16
    lease: float = 10.0
    patience: float = 600.0


def lasting(database: str) -> str:
    """Give the address of a database with what finds out that its host is gone, where the address does not say.

    Raises:
        Unfit: It is no address.
    """
    with suppress(psycopg.Error):  # what it says may quote a piece of a password
        address = conninfo_to_dict(database)
        # libpq takes the end of a password that has an @ of its own for the beginning of the host, and would quote it.
        if "@" not in str(address.get("host", ""))[1:]:  # with one at its beginning it is a socket's name
            return make_conninfo(**_LIFE | address)
    words = "the database's address must be as libpq takes it, such as postgresql://fleet@db.internal/fleet"
    raise Unfit(words, Exit.USAGE)


@asynccontextmanager
async def connected(database: str, *, set_up: bool = True) -> AsyncIterator[tuple[App, Ledger]]:
    """Connect to the database.

    Args:
        database: Its address, for libpq.
        set_up: Create the tables that are not there yet.

    Raises:
        Unfit: That cannot be.
    """
    database = lasting(database)
    try:  # a pool would try for half a minute, and not say what is wrong
        await (await psycopg.AsyncConnection.connect(database)).close()
    except psycopg.Error as error:
        raise Unfit(f"cannot connect to PostgreSQL: {first_line(error)}", Exit.NOT_SENT) from error
    app = make_app(database)
    await app.open_async()
    try:
        ledger = Ledger(app.connector.pool)  # type: ignore[attr-defined]  # a PsycopgConnector's
        if set_up and not await ledger.is_set_up():
            async with ledger.alone() as db:
                await create_queue(app, db)
                await ledger.set_up(db)
        yield app, ledger
    finally:
        await app.close_async()


async def work(settings: Settings) -> None:
    """Work on tickets until SIGTERM or SIGINT: what is in flight then is finished, or stands as sent in its row.

    A database that is away is waited for; the client's session is kept meanwhile.

    Raises:
        Unfit: The database cannot be reached at the start, there is no session or it was given up, or the others work
            on other terms.
    """
    stop = asyncio.Event()
    async with (
        connected(settings.database) as (app, ledger),
        _at_work(ledger, settings.terms) as sign,
        aclosing(await SharedLimiter.open(lasting(settings.database), settings.terms.rate)) as limiter,
    ):
        try:
            async with Client(settings.access.url, settings.access.credentials, limiter=limiter) as client:
                desk = Desk(client, ledger, lease=settings.lease, patience=settings.patience)
                for number in (signal.SIGTERM, signal.SIGINT):  # before this they end the program: nothing is in hand
                    asyncio.get_running_loop().add_signal_handler(number, stop.set)
                _log.info("at work, %d calls a second for the whole fleet", settings.terms.rate)
                await _until(
                    stop,
                    client,
                    _keep_working(app, desk, settings=settings, stop=stop),
                    _do_chores(app, ledger, limiter, sign, terms=settings.terms, stop=stop),
                )
        except AlphaPointError as error:
            reason = error.__cause__ if isinstance(error.__cause__, AlphaPointError) else error
            raise Unfit(f"no session with the exchange: {error}", exit_of(reason)) from error


@asynccontextmanager
async def _at_work(ledger: Ledger, terms: Terms) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Be one of the workers, on the terms of the others; gives what is to be done at each heartbeat."""
    worker = uuid4()

    async def sign() -> None:
        others = await ledger.sign(worker, terms)
        if others != terms:
            raise Unfit(
                f"the fleet works at {others.rate} calls a second with a heartbeat of {others.heartbeat:g} s, not "
                f"{terms.rate} and {terms.heartbeat:g}: end the other workers first",
                Exit.USAGE,
            )

    await sign()
    try:
        yield sign
    finally:
        with suppress(psycopg.Error, TimeoutError):  # it counts as dead soon
            async with asyncio.timeout(1):
                await ledger.leave(worker)


async def _until(stop: asyncio.Event, client: Client, *works: Coroutine[None, None, None]) -> None:
    """Do the work until somebody says stop or the client is of no use any more, and let it end in peace."""
    workers = [asyncio.ensure_future(work) for work in works]
    told = asyncio.ensure_future(stop.wait())
    over = asyncio.ensure_future(client.wait_for_state(SessionState.FAILED, SessionState.CLOSED))
    tasks = {*workers, told, over}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        was_told = stop.is_set()
        stop.set()  # a cancellation alone may be lost: what psycopg raises meanwhile takes its place
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for worker in workers:
        if not worker.cancelled() and (error := worker.exception()) is not None:
            raise error
    if not was_told:
        await client.call("Ping")  # says why the session was given up


async def _keep_working(app: App, desk: Desk, *, settings: Settings, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    while not stop.is_set():
        trouble = "it stopped by itself"
        run = loop.create_task(
            app.run_worker_async(
                queues=[QUEUE],
                concurrency=settings.concurrency,
                fetch_job_polling_interval=1.0,
                shutdown_graceful_timeout=settings.lease,
                update_heartbeat_interval=settings.terms.heartbeat,
                stalled_worker_timeout=settings.terms.silence,  # whom procrastinate forgets, `rescue` takes for dead
                install_signal_handlers=False,
                additional_context={"desk": desk},
                delete_jobs="successful",  # the ticket's row is the record
            )
        )
        loop.set_exception_handler(partial(_begin_anew, run))
        try:
            await run
        except asyncio.CancelledError:
            if stop.is_set():
                raise
            trouble = "a job's end could not be written"
        except (ConnectorException, psycopg.Error) as error:
            trouble = first_line(error)
        if not stop.is_set():
            _log.warning("procrastinate cannot work (%s), going on in %.0f s", trouble, _PAUSE)
            await asyncio.sleep(_PAUSE)


def _begin_anew(run: asyncio.Task[None], loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """End a run in which a job's end could not be written: as long as its worker lives, nobody does that job again."""
    error = context.get("exception")
    if isinstance(error, ConnectorException):
        _log.warning("a job's end could not be written: %s", first_line(error))
        run.cancel()
    else:
        loop.default_exception_handler(context)


async def _do_chores(
    app: App,
    ledger: Ledger,
    limiter: SharedLimiter,
    sign: Callable[[], Awaitable[None]],
    *,
    terms: Terms,
    stop: asyncio.Event,
) -> None:
    """Give signs of life, forget what is too old for the limit to count, and take the jobs of dead workers."""
    while not stop.is_set():
        try:
            await sign()
            await limiter.forget()
            async with ledger.transaction() as db:
                rescued = await rescue(app, db, silence=terms.silence)
            if rescued:
                _log.warning("%d jobs of a worker that died are queued again", rescued)
        except (ConnectorException, psycopg.Error) as error:
            if not isinstance(error.__cause__ or error, psycopg.OperationalError):  # whoever works says that it is away
                _log.error("a worker's chores failed: %s", first_line(error))
        await asyncio.sleep(terms.heartbeat)


def first_line(error: Exception) -> str:
    """Give what a database's error says, in one line."""
    return str(error.__cause__ or error).strip().partition("\n")[0]
