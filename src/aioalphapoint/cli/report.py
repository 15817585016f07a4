"""Tickets and outcomes as tables for a person, and as rows for a program. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from decimal import Context, Decimal

from rich.table import Column, Table
from rich.text import Text

from aioalphapoint import CallRejected, WithdrawTicket
from aioalphapoint.bulk import Outcome, OutcomeState
from aioalphapoint.errors import quote

__all__ = [
    "amounts_in_words",
    "outcome_in_words",
    "outcome_row",
    "outcome_table",
    "summary_in_words",
    "ticket_row",
    "ticket_table",
    "trouble_table",
]

_EXACT = Context(prec=200)  # the default of 28 digits would round sums of what the exchange sends

_STYLES = {
    OutcomeState.CONFIRMED: "green",
    OutcomeState.ACCEPTED: "yellow",
    OutcomeState.REFUSED: "red",
    OutcomeState.NOT_SENT: "red",
    OutcomeState.UNKNOWN: "bold red",
}

_MEANINGS = {
    OutcomeState.CONFIRMED: "seen cancelled",
    OutcomeState.ACCEPTED: "received by the exchange, not seen cancelled",
    OutcomeState.REFUSED: "the exchange said no",
    OutcomeState.NOT_SENT: "nothing left this machine",
    OutcomeState.UNKNOWN: "sent, and not known to be done: read the ticket",
}


def ticket_row(ticket: WithdrawTicket) -> dict[str, object]:
    """Give a ticket for a program. Amounts are strings: many a reader of JSON makes floats of its numbers."""
    return {name: _plain(value) for name, value in ticket.model_dump().items()}


def outcome_row(outcome: Outcome, function: str) -> dict[str, object]:
    """Give an outcome for a program."""
    ticket = _best(outcome)
    error = outcome.error
    rejected = error if isinstance(error, CallRejected) else None
    return {
        "function": function,
        "ticket_number": ticket.ticket_number,
        "account_id": ticket.account_id,
        "request_code": ticket.request_code,
        "amount": _plain(ticket.amount),
        "asset_name": ticket.asset_name,
        "outcome": str(outcome.state),
        "status": None if outcome.seen is None else str(outcome.seen.status),
        "error": None if error is None else type(error).__name__,
        "message": None if error is None else str(error),
        "code": None if rejected is None else rejected.code,
    }


def ticket_table(tickets: Iterable[WithdrawTicket]) -> Table:
    """Show tickets. Nothing is cut off: a code that is not whole is of no use."""
    table = _table(
        Column("Ticket", justify="right"),
        Column("Account", justify="right"),
        Column("Amount", justify="right", overflow="fold"),
        Column("Asset"),
        Column("Status", overflow="fold"),
        Column("Created", overflow="fold"),
        Column("Request code", overflow="fold", min_width=18),
    )
    for ticket in tickets:
        table.add_row(
            str(ticket.ticket_number),
            str(ticket.account_id),
            _amount(ticket.amount),
            quote(ticket.asset_name or ""),
            Text(quote(ticket.status), style="" if ticket.status.is_open else "dim"),
            _moment(ticket.created_timestamp),
            quote(ticket.request_code),
        )
    return table


def outcome_table(outcomes: Collection[Outcome]) -> Table:
    """Show how many tickets came to what, and how much that is."""
    table = _table(
        Column("Outcome"),
        Column("Tickets", justify="right"),
        Column("Amount", justify="right", overflow="fold"),
        Column("What is known", overflow="fold"),
    )
    for state in sorted({outcome.state for outcome in outcomes}, key=list(_STYLES).index):
        of_state = [_best(outcome) for outcome in outcomes if outcome.state is state]
        name = Text(str(state), style=_STYLES[state])
        table.add_row(name, f"{len(of_state):,}", amounts_in_words(of_state), _MEANINGS[state])
    return table


def trouble_table(outcomes: Iterable[Outcome]) -> Table:
    """Show each ticket that was not seen cancelled, and why."""
    table = _table(
        Column("Ticket", justify="right"),
        Column("Account", justify="right"),
        Column("Amount", justify="right", overflow="fold"),
        Column("Outcome"),
        Column("Why", overflow="fold"),
    )
    for outcome in outcomes:
        ticket = _best(outcome)
        table.add_row(
            str(ticket.ticket_number),
            str(ticket.account_id),
            f"{_amount(ticket.amount)} {quote(ticket.asset_name or '')}".strip(),
            Text(str(outcome.state), style=_STYLES[outcome.state]),
            str(outcome.error or ""),
        )
    return table


def amounts_in_words(tickets: Iterable[WithdrawTicket]) -> str:
    """Add amounts up, each asset for itself: `3.30 BTC, 25 USDT`."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for ticket in tickets:
        if ticket.amount is not None:
            asset = quote(ticket.asset_name or "")
            sums[asset] = _EXACT.add(sums[asset], ticket.amount)
    return ", ".join(f"{amount:f} {asset}".strip() for asset, amount in sorted(sums.items()))


def outcome_in_words(outcome: Outcome) -> str:
    """Tell what is known of one ticket, in a sentence or two."""
    ticket = _best(outcome)
    what = f"ticket {ticket.ticket_number}" if ticket.ticket_number else f"withdrawal {ticket.request_code}"
    seen = ""
    if outcome.seen is not None:
        amount = f"{_amount(ticket.amount)} {quote(ticket.asset_name or '')}".strip()
        seen = f": {amount}, now {quote(ticket.status)}"
    why = f". {outcome.error}" if outcome.error is not None else ""
    return f"{what.capitalize()}{seen}. {str(outcome.state).capitalize()}: {_MEANINGS[outcome.state]}{why}"


def summary_in_words(outcomes: Iterable[Outcome]) -> str:
    """Count outcomes: `198 confirmed, 2 refused`."""
    counts = Counter(outcome.state for outcome in outcomes)
    return ", ".join(f"{counts[state]:,} {state}" for state in _STYLES if counts[state])


def _table(*columns: Column) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def _best(outcome: Outcome) -> WithdrawTicket:
    """Give the ticket as it was last seen; else what is known of it from whoever named it."""
    if outcome.seen is not None:
        return outcome.seen
    ticket = outcome.ticket
    if isinstance(ticket, WithdrawTicket):
        return ticket
    return WithdrawTicket(
        ticket_number=ticket.ticket_number, account_id=ticket.account_id, request_code=ticket.request_code
    )


def _amount(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat()
        case tuple():
            return [_plain(item) for item in value]
    return value
