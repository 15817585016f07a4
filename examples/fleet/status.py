"""How the work stands, for a person: counts, rate, time left, and the tickets that need somebody."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .ledger import Counts, Row, State

__all__ = ["picture", "printed"]

_WIDEST = 10_000  # columns of a file


def printed(counts: Counts, needing: Sequence[Row]) -> None:
    """Print it; a file gets each ticket in one line."""
    console = Console(width=None if sys.stdout.isatty() else _WIDEST)
    console.print(picture(counts, needing))


def picture(counts: Counts, needing: Sequence[Row]) -> RenderableType:
    """Draw it.

    Args:
        counts: How the whole work stands.
        needing: Tickets that need a person.
    """
    states = "   ".join(f"{state} {counts.by_state[state]:,}" for state in State)
    waiting = counts.by_state[State.REFUSED] + counts.by_state[State.UNKNOWN]
    parts: list[RenderableType] = [Text(states), Text(", ".join(_pace(counts)))]
    if needing:
        shown = f", the latest {len(needing):,} of them" if len(needing) < waiting else ""
        parts += [Text(), Text(f"{waiting:,} need a person{shown}:"), _table(needing)]
    return Group(*parts)


def _pace(counts: Counts) -> Iterator[str]:
    yield f"{counts.workers} worker{'' if counts.workers == 1 else 's'} at work"
    yield f"{counts.rate:.1f} tickets a second"
    if not counts.open:
        yield "nothing left to do" if sum(counts.by_state.values()) else "nothing was submitted"
    elif counts.rate:
        yield f"{timedelta(seconds=round(counts.open / counts.rate))} left"
    else:
        yield f"{counts.open:,} left, and none ended in the last minute"


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("ticket", "account"):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("state", "status", "why"):
        table.add_column(title, overflow="fold")
    for row in rows:
        cells = (f"{row.ticket_number}", f"{row.account_id}", row.state, row.status or "", row.why or "")
        table.add_row(*map(Text, cells))  # as it stands: an exchange's words are no markup
    return table
