"""The commands: `python -m fleet submit`, `worker` and `status`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from aioalphapoint import AlphaPointError, Client, WithdrawTicket
from aioalphapoint.cli.access import Access, read_access
from aioalphapoint.cli.exits import Misuse
from aioalphapoint.cli.ticket_lists import is_complete, read_tickets

from .ledger import State
from .status import printed
from .submit import failed_tickets, submit
from .worker import Settings, Unfit, connected, work

_Result = TypeVar("_Result")

_ALIVE = 15.0  # seconds without a sign of life after which a worker does not count

commands = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Database = Annotated[
    str,
    typer.Option(
        envvar="FLEET_DATABASE",
        show_default="what the PG* variables say",
        help="The address of the PostgreSQL database, such as postgresql://fleet@db.internal/fleet.",
    ),
]


@commands.command("submit")
def submit_(
    tickets: Annotated[
        Path | None,
        typer.Argument(
            help="CSV with a header, or what `aioalphapoint tickets --json` prints; `-` for standard input."
        ),
    ] = None,
    *,
    database: Database = "",
    failed: Annotated[
        bool, typer.Option("--failed", help="Submit all failed tickets of the exchange's own listing.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Work anew on tickets that wait for a person; they are read first.")
    ] = False,
    oms_id: Annotated[int, typer.Option(help="The order management system of tickets that name none.")] = 1,
) -> None:
    """Hand in tickets to cancel. What was handed in before adds nothing."""
    if (tickets is None) is not failed:
        raise typer.BadParameter("give a list of tickets, or --failed")

    async def run() -> None:
        listed = _listed(tickets) if tickets is not None else await _failed()
        async with connected(database) as (app, ledger):
            added = await submit(app, ledger, listed, oms_id=oms_id, again=again)
        print(f"{added:,} tickets added, {len(listed) - added:,} were there already")

    _run(run())


@commands.command()
def worker(
    *,
    rate: Annotated[int, typer.Option(min=1, help="Calls a second that the whole fleet may make.")],
    database: Database = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Tickets in hand at once.")] = 16,
    lease: Annotated[float, typer.Option(min=0.1, help="Seconds in which a cancel is sent and answered.")] = 10.0,
    heartbeat: Annotated[
        float, typer.Option(min=0.1, help="Seconds between signs of life; after five without, a worker is dead.")
    ] = _ALIVE / 5,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds in which an accepted cancel has to show in its ticket.")
    ] = 600.0,
) -> None:
    """Work on tickets until SIGTERM or Ctrl-C."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)

    async def run() -> None:
        settings = Settings(
            database=database,
            access=_operator(),
            rate=rate,
            concurrency=concurrency,
            lease=lease,
            heartbeat=heartbeat,
            patience=patience,
        )
        await work(settings)

    _run(run())


@commands.command()
def status(
    *,
    database: Database = "",
    most: Annotated[int, typer.Option(min=0, help="Tickets that need a person, the latest first.")] = 20,
) -> None:
    """Show how the work stands. Exit code 1: something needs a person."""

    async def run() -> bool:
        async with connected(database) as (_, ledger):
            counts = await ledger.counts(alive=_ALIVE)
            printed(counts, await ledger.needing_a_person(most=most))
        return bool(counts.by_state[State.REFUSED] + counts.by_state[State.UNKNOWN])

    if _run(run()):
        sys.exit(1)


def _listed(path: Path) -> list[WithdrawTicket]:
    name = "standard input" if str(path) == "-" else str(path)
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        tickets = read_tickets(data.decode(), name)
    except OSError as error:
        raise Misuse(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misuse(f"cannot read {name}: it is not text in UTF-8") from None
    for ticket in tickets:
        if not is_complete(ticket):
            raise Misuse(f"ticket {ticket.ticket_number} of {name} must have an account_id and a request_code")
    return tickets


async def _failed() -> list[WithdrawTicket]:
    access = _operator()
    async with Client(access.url, access.credentials) as client:
        return [ticket async for ticket in failed_tickets(client)]


def _operator() -> Access:
    """Read where the exchange is and who logs in, as the library's own command does."""
    access = read_access(os.environ, None, two_factor=_nobody_is_here)
    if access.credentials is None:
        raise Misuse(
            "no login is set: an operator's ALPHAPOINT_API_KEY, or ALPHAPOINT_USER_NAME, and what belongs to it"
        )
    return access


async def _nobody_is_here() -> str:
    raise Misuse("the exchange asks for a second factor: give an API key instead")


def _run(work: Coroutine[None, None, _Result]) -> _Result:
    for library in ("procrastinate", "pyrate_limiter", "psycopg.pool"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # what they would say, is said here in a sentence
    try:
        return asyncio.run(work)
    except (AlphaPointError, Misuse, Unfit) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    commands(prog_name="python -m fleet")
