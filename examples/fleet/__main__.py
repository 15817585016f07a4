"""The commands: `python -m fleet submit`, `worker` and `status`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from aioalphapoint import AlphaPointError, Client, Password, WithdrawTicket
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
Url = Annotated[str, typer.Option(envvar="ALPHAPOINT_URL", help="The exchange's gateway, wss://HOST/WSGateway/.")]
UserName = Annotated[str, typer.Option(envvar="ALPHAPOINT_USER_NAME", help="An operator.")]
Secret = Annotated[str, typer.Option("--password", envvar="ALPHAPOINT_PASSWORD", help="Better by the variable.")]


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
    url: Url = "",
    user_name: UserName = "",
    password: Secret = "",
) -> None:
    """Hand in tickets to cancel. What was handed in before adds nothing."""
    if (tickets is None) is not failed:
        raise typer.BadParameter("give a list of tickets, or --failed")

    async def run() -> None:
        listed = _listed(tickets) if tickets is not None else await _failed(url, user_name, password)
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
    url: Url = "",
    user_name: UserName = "",
    password: Secret = "",
) -> None:
    """Work on tickets until SIGTERM or Ctrl-C."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    login = Password(user_name, password)
    _run(
        work(
            Settings(
                database=database,
                url=url,
                login=login,
                rate=rate,
                concurrency=concurrency,
                lease=lease,
                heartbeat=heartbeat,
                patience=patience,
            )
        )
    )


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
    text = sys.stdin.read() if str(path) == "-" else path.read_text()
    tickets = read_tickets(text, name)
    for ticket in tickets:
        if not is_complete(ticket):
            raise Misuse(f"ticket {ticket.ticket_number} of {name} must have an account_id and a request_code")
    return tickets


async def _failed(url: str, user_name: str, password: str) -> list[WithdrawTicket]:
    async with Client(url, Password(user_name, password)) as client:
        return [ticket async for ticket in failed_tickets(client)]


def _run(work: Coroutine[None, None, _Result]) -> _Result:
    for library in ("procrastinate", "pyrate_limiter", "psycopg.pool"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # what they would say, is said here in a sentence
    try:
        return asyncio.run(work)
    except (AlphaPointError, Misuse, OSError, Unfit) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    commands(prog_name="python -m fleet")
