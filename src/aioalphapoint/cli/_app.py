"""The commands, and what each takes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from aioalphapoint import WithdrawTicket

from .calls import call_function
from .demo import show_demo
from .exits import Exit, Misuse
from .many import Manner, cancel_failed, cancel_pending
from .one import Aftermath, cancel_failed_ticket, cancel_withdraw
from .options import (
    AccountFilter,
    AccountId,
    AsJson,
    Concurrency,
    ConfirmTimeout,
    CredentialsFile,
    DryRun,
    JournalFile,
    NoConfirm,
    OmsId,
    Rate,
    Timeout,
    Verbose,
    Yes,
)
from .ping import ping
from .screen import Screen
from .session import Session, run
from .simulate import run_exchange
from .ticket_lists import read_tickets
from .tickets import checked_statuses, show_tickets

__all__ = ["app", "usage_error"]

# What typer raises for wrong input has no public name of its own, but one of its kinds has.
usage_error = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])

app = typer.Typer(
    name="aioalphapoint",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # `main` says what a user can do about; the rest is a plain traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """Cancel withdrawals on an AlphaPoint exchange.

    The exchange's address and the login come from the environment, or from a file (`--credentials`), and never from
    arguments: ALPHAPOINT_URL, and one of these logins:

    - ALPHAPOINT_API_KEY, ALPHAPOINT_API_SECRET, ALPHAPOINT_USER_ID
    - ALPHAPOINT_USER_NAME, ALPHAPOINT_PASSWORD (the code of a second factor is asked for)
    - ALPHAPOINT_SESSION_TOKEN

    To try it without an exchange: `aioalphapoint simulate`.

    Exit status: 0 done, 1 refused, 2 wrong usage, 3 not sent, 4 outcome unknown, 130 interrupted.
    """


@app.command("demo")
def _demo() -> None:
    """Watch a real client cancel a withdrawal and a failed ticket, on an exchange inside this process.

    Shows each frame on the wire, each reply, and the tickets before and after; then one refusal.
    """
    asyncio.run(show_demo(Console()))


@app.command("simulate")
def _simulate(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes a free one.")] = 0,
    pending: Annotated[int, typer.Option(min=0, metavar="N", help="Pending withdrawals of account 7.")] = 1,
    failed: Annotated[int, typer.Option(min=0, metavar="N", help="Failed tickets of account 9.")] = 1,
    delay: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How late each answer comes.")] = 0.0,
    two_factor: Annotated[bool, typer.Option("--two-factor", help="Ask alice for a second factor's code.")] = False,
) -> None:
    """Run the simulated exchange on 127.0.0.1 until Ctrl-C, for any WebSocket client to try.

    For example:

    - `aioalphapoint simulate --port 8765`
    - `aioalphapoint simulate --port 8765 --pending 200 --delay 0.05`
    """
    console = Console()
    try:
        asyncio.run(run_exchange(console, port, pending=pending, failed=failed, delay=delay, two_factor=two_factor))
    except KeyboardInterrupt:
        console.print("Stopped.")


@app.command("ping")
def _ping(
    count: Annotated[int, typer.Option("--count", "-c", min=1, metavar="N", help="How many pings.")] = 5,
    interval: Annotated[
        float, typer.Option("--interval", "-i", min=0, metavar="SECONDS", help="From one to the next.")
    ] = 1.0,
    login: Annotated[
        bool, typer.Option("--login", help="Log in first, to try the login too; pings need none.")
    ] = False,
    credentials: CredentialsFile = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """See whether the exchange answers, and how fast.

    For example:

    - `aioalphapoint ping --count 20 --interval 0.2`
    """
    session = _session(credentials, timeout, None, as_json=as_json, verbose=verbose)
    _end(session, lambda: ping(session, count=count, interval=interval, logs_in=login))


@app.command("tickets")
def _tickets(
    account: AccountFilter = None,
    all_accounts: Annotated[
        bool, typer.Option("--all-accounts", help="Of every account; an operator's right.")
    ] = False,
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="Only these: Pending, Failed, ..., or open, ended, failed, cancelled. May be repeated.",
            show_default=False,
        ),
    ] = None,
    credentials: CredentialsFile = None,
    timeout: Timeout = 10.0,
    oms_id: OmsId = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """List withdraw tickets: of the login's own account, of another one, or of all.

    For example:

    - `aioalphapoint tickets --account 7 --status open`
    - `aioalphapoint tickets --all-accounts --status Failed --json > failed.jsonl`
    """
    session = _session(credentials, timeout, oms_id, as_json=as_json, verbose=verbose)
    _end(
        session,
        lambda: show_tickets(session, account, checked_statuses(status or []), everyone=all_accounts),
    )


@app.command("cancel-withdraw")
def _cancel_withdraw(
    account_id: AccountId,
    request_code: Annotated[
        str, typer.Argument(help="The withdrawal's GUID: the request code of its ticket.", show_default=False)
    ],
    no_confirm: NoConfirm = False,
    confirm_timeout: ConfirmTimeout = 30.0,
    dry_run: DryRun = False,
    credentials: CredentialsFile = None,
    timeout: Timeout = 10.0,
    oms_id: OmsId = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Cancel one pending withdrawal (CancelWithdraw), and read its ticket until it has ended.

    For example:

    - `aioalphapoint cancel-withdraw 7 490b4fa3-53fc-44f4-bd29-7e16be86fba3`
    """
    session = _session(credentials, timeout, oms_id, as_json=as_json, verbose=verbose)
    after = Aftermath(dry_run=dry_run, confirm=not no_confirm, confirm_timeout=confirm_timeout)
    _end(session, lambda: cancel_withdraw(session, account_id, request_code, after))


@app.command("cancel-failed-ticket")
def _cancel_failed_ticket(
    ticket_number: Annotated[
        int, typer.Argument(min=0, help="The ticket's number (not its WithdrawId).", show_default=False)
    ],
    account: Annotated[
        int | None,
        typer.Option(
            "--account",
            min=0,
            metavar="ID",
            help="Look for the ticket there afterwards; else in all accounts.",
            show_default=False,
        ),
    ] = None,
    no_confirm: NoConfirm = False,
    confirm_timeout: ConfirmTimeout = 30.0,
    dry_run: DryRun = False,
    credentials: CredentialsFile = None,
    timeout: Timeout = 10.0,
    oms_id: OmsId = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Cancel one failed ticket (CancelFailedWithdrawTicket; an operator's right), and read it until it has ended.

    For example:

    - `aioalphapoint cancel-failed-ticket 292 --account 7`
    """
    session = _session(credentials, timeout, oms_id, as_json=as_json, verbose=verbose)
    after = Aftermath(dry_run=dry_run, confirm=not no_confirm, confirm_timeout=confirm_timeout)
    _end(session, lambda: cancel_failed_ticket(session, ticket_number, account, after))


@app.command("cancel-pending")
def _cancel_pending(
    account_id: AccountId,
    yes: Yes = False,
    dry_run: DryRun = False,
    journal: JournalFile = None,
    no_confirm: NoConfirm = False,
    confirm_timeout: ConfirmTimeout = 30.0,
    concurrency: Concurrency = 50,
    rate: Rate = None,
    credentials: CredentialsFile = None,
    timeout: Timeout = 10.0,
    oms_id: OmsId = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """The panic button: cancel every withdrawal of an account that has not ended.

    Lists, asks (or takes --yes), sends every cancel, reads the tickets until they have ended, and lists again until
    nothing is open that was not tried.

    For example:

    - `aioalphapoint cancel-pending 7 --dry-run`
    - `aioalphapoint cancel-pending 7 --yes`
    """
    session = _session(credentials, timeout, oms_id, as_json=as_json, verbose=verbose)
    manner = Manner(
        yes=yes,
        dry_run=dry_run,
        confirm=not no_confirm,
        confirm_timeout=confirm_timeout,
        concurrency=concurrency,
        rate=rate,
        journal=journal,
    )
    _end(session, lambda: cancel_pending(session, account_id, manner))


@app.command("cancel-failed")
def _cancel_failed(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Cancel the tickets of this list (- is standard input): CSV with a column ticket_number, numbers, or "
            "what `tickets --json` prints. Else all that the exchange lists as failed.",
            show_default=False,
        ),
    ] = None,
    account: AccountFilter = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    journal: JournalFile = None,
    no_confirm: NoConfirm = False,
    confirm_timeout: ConfirmTimeout = 30.0,
    concurrency: Concurrency = 8,
    rate: Rate = None,
    credentials: CredentialsFile = None,
    timeout: Timeout = 10.0,
    oms_id: OmsId = None,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Clear failed tickets (CancelFailedWithdrawTicket; an operator's right): all, or those of a list.

    With --journal it can be stopped at any moment, by Ctrl-C or a crash: run again with the same file it goes on, and
    sends nothing twice that it has not read in between.

    For example:

    - `aioalphapoint cancel-failed --dry-run`
    - `aioalphapoint cancel-failed --yes --journal tonight.journal --rate 8`
    - `aioalphapoint cancel-failed --from tickets.csv --yes --journal tonight.journal`
    """
    session = _session(credentials, timeout, oms_id, as_json=as_json, verbose=verbose)
    manner = Manner(
        yes=yes,
        dry_run=dry_run,
        confirm=not no_confirm,
        confirm_timeout=confirm_timeout,
        concurrency=concurrency,
        rate=rate,
        journal=journal,
    )
    _end(session, lambda: cancel_failed(session, account, None if source is None else _read(source), manner))


@app.command("call")
def _call(
    function: Annotated[str, typer.Argument(help="The exchange's name of it.", show_default=False)],
    payload: Annotated[str, typer.Argument(help="Its parameters: a JSON object.")] = "{}",
    dry_run: DryRun = False,
    credentials: CredentialsFile = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
    verbose: Verbose = 0,
) -> None:
    """Call any function of the exchange, and print what it answers.

    For example:

    - `aioalphapoint call GetWithdraws '{"OMSId":1,"AccountId":7}'`
    """
    session = _session(credentials, timeout, None, as_json=as_json, verbose=verbose)
    _end(session, lambda: call_function(session, function, payload, dry_run=dry_run))


def _session(file: Path | None, timeout: float, oms_id: int | None, *, as_json: bool, verbose: int) -> Session:
    return Session(screen=Screen(as_json=as_json, verbose=verbose), file=file, timeout=timeout, oms_id=oms_id)


def _end(session: Session, begin: Callable[[], Coroutine[Any, Any, Exit]]) -> None:
    raise typer.Exit(run(session.screen, begin))


def _read(source: str) -> list[WithdrawTicket]:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return read_tickets(data.decode(), "standard input" if source == "-" else source)
    except OSError as error:
        raise Misuse(f"cannot read {source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misuse(f"cannot read {source}: it is not text in UTF-8") from None
