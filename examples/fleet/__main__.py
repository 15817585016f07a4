"""The commands: `python -m fleet submit`, `worker` and `status`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import psycopg
import typer
from procrastinate.exceptions import ProcrastinateException

from aioalphapoint import AlphaPointError, Client, WithdrawTicket
from aioalphapoint.cli.access import Access, read_access
from aioalphapoint.cli.exits import Exit, Misuse, exit_of
from aioalphapoint.cli.ticket_lists import read_tickets

from .ledger import Counts, State, Terms
from .status import printed
from .submit import LARGEST_OMS, checked, failed_tickets, submit
from .worker import Settings, Unfit, connected, first_line, work

_Result = TypeVar("_Result")

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
    oms_id: Annotated[
        int, typer.Option(min=1, max=LARGEST_OMS, help="The order management system of tickets that name none.")
    ] = 1,
) -> None:
    """Hand in tickets to cancel. What was handed in before adds nothing."""
    if (tickets is None) is not failed:
        raise typer.BadParameter("give a list of tickets, or --failed")

    async def run() -> None:
        name = "the listing" if tickets is None else "standard input" if str(tickets) == "-" else str(tickets)
        found = await _failed() if tickets is None else _read(tickets, name)
        listed = checked(found, name, oms_id=oms_id)
        async with connected(database) as (app, ledger):
            added = await submit(app, ledger, listed, again=again)
        what = f"{added:,} ticket{'' if added == 1 else 's'} {'added or opened' if again else 'added'}"
        print(f"{what}, {len(listed) - added:,} were there already")

    _run(run())


@commands.command()
def worker(
    *,
    rate: Annotated[int, typer.Option(min=1, max=100_000, help="Calls a second that the whole fleet may make.")],
    database: Database = "",
    concurrency: Annotated[int, typer.Option(min=1, max=10_000, help="Tickets in hand at once.")] = 16,
    lease: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds in which a cancel is sent and answered.")
    ] = 10.0,
    heartbeat: Annotated[
        float,
        typer.Option(min=0.1, max=3600, help="Seconds between signs of life; after five without, a worker is dead."),
    ] = 3.0,
    patience: Annotated[
        float,
        typer.Option(min=0, max=1e9, help="Seconds in which an accepted cancel has to show, and a ticket to be read."),
    ] = 600.0,
) -> None:
    """Work on tickets until SIGTERM or Ctrl-C."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)

    async def run() -> None:
        settings = Settings(
            database=database,
            access=_operator(),
            terms=Terms(rate, heartbeat),
            concurrency=concurrency,
            lease=lease,
            patience=patience,
        )
        await work(settings)

    _run(run())


@commands.command()
def status(
    *,
    database: Database = "",
    most: Annotated[int, typer.Option(min=0, max=1_000_000, help="Tickets that need a person, the latest first.")] = 20,
) -> None:
    """Show how the work stands. Exit status 1: something needs a person."""

    async def run() -> bool:
        async with connected(database, set_up=False) as (_, ledger):
            is_set_up = await ledger.is_set_up()
            counts = await ledger.counts() if is_set_up else Counts()
            printed(counts, await ledger.needing_a_person(most=most) if is_set_up else [])
        return bool(counts.by_state[State.REFUSED] + counts.by_state[State.UNKNOWN])

    if _run(run()):
        sys.exit(1)


def _read(path: Path, name: str) -> list[WithdrawTicket]:
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return read_tickets(data.decode(), name)
    except OSError as error:
        raise Misuse(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misuse(f"cannot read {name}: it is not text in UTF-8") from None


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
    except Misuse as error:
        _end(error, Exit.USAGE)
    except Unfit as error:
        _end(error, error.status)
    except AlphaPointError as error:
        _end(error, exit_of(error))
    except (psycopg.Error, ProcrastinateException) as error:
        _end(f"PostgreSQL: {first_line(error)}", Exit.NOT_SENT)
    except Exception:  # noqa: BLE001  (a mistake in here; Python's own status for it would be that of a refusal)
        _end(traceback.format_exc(), os.EX_SOFTWARE)


def _end(words: object, status: int) -> NoReturn:
    print(words, file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    commands(prog_name="python -m fleet")
