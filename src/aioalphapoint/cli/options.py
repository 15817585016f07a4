"""What the commands can be told, each option written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = [
    "AccountFilter",
    "AccountId",
    "AsJson",
    "Concurrency",
    "ConfirmTimeout",
    "CredentialsFile",
    "DryRun",
    "JournalFile",
    "NoConfirm",
    "OmsId",
    "Rate",
    "Timeout",
    "Verbose",
    "Yes",
]

_COMMON = "Options of every command that reaches an exchange"

AccountId: TypeAlias = Annotated[
    int, typer.Argument(min=0, help="The account that the money leaves.", show_default=False)
]
AccountFilter: TypeAlias = Annotated[
    int | None, typer.Option("--account", min=0, metavar="ID", help="Only tickets of this account.", show_default=False)
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", rich_help_panel=_COMMON, help="Print one JSON object a line, for scripts.")
]
Concurrency: TypeAlias = Annotated[
    int, typer.Option("--concurrency", min=1, metavar="N", help="Cancels under way at once; afterwards, readings.")
]
ConfirmTimeout: TypeAlias = Annotated[
    float,
    typer.Option(
        "--confirm-timeout",
        metavar="SECONDS",
        help="How long a ticket is followed until it has ended.",
    ),
]
CredentialsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        rich_help_panel=_COMMON,
        help="Read ALPHAPOINT_URL and the login from this file, NAME=value a line; it must be yours alone (chmod 600).",
        show_default=False,
    ),
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; no cancel is sent.")]
JournalFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Write down here what is done; the same command with the same file goes on where it stopped.",
        show_default=False,
    ),
]
NoConfirm: TypeAlias = Annotated[
    bool, typer.Option("--no-confirm", help="Do not read the tickets afterwards: received is not yet cancelled.")
]
OmsId: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--oms-id",
        min=0,
        metavar="ID",
        rich_help_panel=_COMMON,
        help="The order management system; else the login's.",
        show_default=False,
    ),
]
Rate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--rate", metavar="N", help="The most calls a second, evenly spaced; else no bound.", show_default=False
    ),
]
Timeout: TypeAlias = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", rich_help_panel=_COMMON, help="How long a call may take.")
]
Verbose: TypeAlias = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        rich_help_panel=_COMMON,
        help="Tell of the session on standard error; -vv: of each frame.",
        show_default=False,
    ),
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
