"""Lists of tickets in text: CSV with a header, bare ticket numbers, or what `tickets --json` prints. Pure.

A column's name is read without regard to case and underscores, as the exchange's keys are: `TicketNumber`,
`ticket_number` and `ticketnumber` are one. Columns that are not known are passed by.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from pydantic import ValidationError

from aioalphapoint import WithdrawTicket
from aioalphapoint._envelope import read_json

from .exits import Misuse

__all__ = ["is_complete", "read_tickets"]

_COLUMNS = frozenset({"ticketnumber", "accountid", "requestcode", "omsid"})

_DELIMITERS = ",;\t"  # the second is what spreadsheets write where the comma stands in numbers

# What else a ticket's fields are called: in the call that cancels it, and in GetWithdraws.
_OTHER_NAMES = {"ticketid": "ticketnumber", "withdrawcode": "requestcode", "ticketstatus": "status"}


def read_tickets(text: str, name: str) -> list[WithdrawTicket]:
    """Read a list, each ticket once: of two lines about one the last counts.

    Args:
        text: The list.
        name: What to call it in an error.

    Raises:
        Misuse: A line is no ticket, or gives a ticket another account or request code than a line before; the
            sentence names it.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("{"):
        rows = _json_rows(lines, name)
    elif first.isdigit():
        rows = ((number, {"ticketnumber": line.strip()}) for number, line in enumerate(lines, 1) if line.strip())
    else:
        rows = _csv_rows(lines, first, name)
    tickets: dict[tuple[int | None, int], WithdrawTicket] = {}
    for number, row in rows:
        ticket = _ticket(number, row, name)
        key = ticket.oms_id, ticket.ticket_number
        if _found_by(tickets.setdefault(key, ticket)) != _found_by(ticket):
            raise Misuse(
                f"line {number} of {name} gives ticket {ticket.ticket_number} another account_id or request_code"
            )
        tickets[key] = ticket
    return list(tickets.values())


def is_complete(ticket: WithdrawTicket) -> bool:
    """Tell whether a ticket can be read back: the exchange finds it by its account and request code alone."""
    return bool(ticket.account_id and ticket.request_code)


def _found_by(ticket: WithdrawTicket) -> tuple[int | None, str]:
    return ticket.account_id, (ticket.request_code or "").lower()


def _csv_rows(lines: list[str], header: str, name: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter)
    keys: list[str] | None = None
    for cells in _cells(reader, name):
        if not any(cell.strip() for cell in cells):
            continue
        if keys is None:
            keys = [_folded(cell) for cell in cells]
            _check_header(keys, name)
            continue
        if len(cells) != len(keys):  # a comma that is not quoted shifts numbers into other columns
            raise Misuse(f"line {reader.line_num} of {name} has {len(cells)} cells, and its header {len(keys)}")
        yield reader.line_num, dict(zip(keys, (cell.strip() for cell in cells), strict=True))


def _cells(reader: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise Misuse(f"{name} cannot be read as CSV: {error}") from None


def _check_header(keys: Iterable[str], name: str) -> None:
    if "ticketnumber" not in keys:
        raise Misuse(
            f"{name} must be CSV whose first line names a column ticket_number, or a ticket number a line, "
            "or what `aioalphapoint tickets --json` prints"
        )
    _check_once(keys, f"the header of {name}")


def _check_once(keys: Iterable[str], where: str) -> None:
    doubled = [key for key, count in Counter(keys).items() if count > 1 and key in _COLUMNS]
    if doubled:
        raise Misuse(f"{where} must name {doubled[0]} once, by whatever name")


def _json_rows(lines: list[str], name: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise Misuse(f"line {number} of {name} must be a JSON object")
        _check_once(map(_folded, row), f"line {number} of {name}")
        yield number, {_folded(key): value for key, value in row.items()}


def _folded(name: str) -> str:
    folded = name.strip().replace("_", "").replace(" ", "").lower()
    return _OTHER_NAMES.get(folded, folded)


def _ticket(number: int, row: Mapping[str, object], name: str) -> WithdrawTicket:
    try:
        return WithdrawTicket.model_validate(row)
    except ValidationError:
        raise Misuse(
            f"line {number} of {name} must have a ticket number from 0, not {row.get('ticketnumber', 'none')!r}"
        ) from None
