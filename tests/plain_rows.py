"""What a row of a listing means, written plainly and without pydantic: the oracle of the quick way to read it."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from aioalphapoint import Withdraw, WithdrawStatus, WithdrawTicket
from aioalphapoint._envelope import write_json

__all__ = ["FIELDS", "Unreadable", "plain_row"]


class Unreadable(Exception):
    pass


def number(value: object) -> int:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,19}", value):
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**63:
        raise Unreadable
    return value


def number_or_none(value: object) -> int | None:
    with suppress(Unreadable):
        return number(value)
    return None


def number_or_zero(value: object) -> int:
    return number_or_none(value) or 0


def amount(value: object) -> Decimal | None:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
        return Decimal(value)
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def note(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    try:
        return write_json(value)
    except ValueError:
        return repr(value)


def code(value: object) -> str:
    return value if isinstance(value, str) else ""


def status(value: object) -> WithdrawStatus:
    text = str(value) if type(value) is int else note(value) or ""
    if type(value) is int or re.fullmatch("[0-9]{1,2}", text):
        members = dict(enumerate(WithdrawStatus))
        return members.get(int(text), WithdrawStatus(str(int(text))))
    names = {member.value.casefold(): member for member in WithdrawStatus}
    return names.get(text.casefold().replace("cancelled", "canceled"), WithdrawStatus(text))


def moment(value: object) -> datetime | None:
    with suppress(ValueError, OverflowError):
        if type(value) is int:
            value = datetime(1, 1, 1, tzinfo=UTC) + timedelta(microseconds=value // 10)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime) and value.year != 1:
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return None


def parts(value: object) -> tuple[object, ...]:
    if isinstance(value, list):
        return tuple(value)
    return () if value is None or value in ("", "[]") else (value,)


def yes_or_no(value: object) -> bool | None:
    text = value.lower() if isinstance(value, str) else value
    if text in ("0", "off", "f", "false", "n", "no", 0):
        return False
    return True if text in ("1", "on", "t", "true", "y", "yes", 1) else None


_READERS: Mapping[str, Callable[[object], object]] = {
    **dict.fromkeys(("account_id",), number_or_zero),
    **dict.fromkeys(("ticket_number",), number),
    **dict.fromkeys(("request_code", "withdraw_code"), code),
    **dict.fromkeys(("status", "ticket_status"), status),
    **dict.fromkeys(("amount", "fee_amt", "fee_amount", "notional_value"), amount),
    **dict.fromkeys(("created_timestamp", "last_update_timestamp"), moment),
    **dict.fromkeys(("comments", "attachments", "audit_log"), parts),
    "reaccepted": yes_or_no,
}
_NUMBERS = {"created_timestamp_tick", "last_update_timestamp_tick", "updated_by_user"}
_DECIDING = {"ticketnumber", "accountid", "requestcode", "status", "withdrawcode", "ticketstatus"}
_MONEY = {"amount", "feeamt", "feeamount", "notionalvalue"}


def _reader(field: str) -> Callable[[object], object]:
    is_number = field in _NUMBERS or field.endswith("_id")
    return _READERS.get(field, number_or_none if is_number else note)


FIELDS = {model: {field: _reader(field) for field in model.model_fields} for model in (WithdrawTicket, Withdraw)}


def plain_row(model: type[WithdrawTicket | Withdraw], row: Mapping[str, object]) -> dict[str, object]:
    """Give what each field says.

    Raises:
        Unreadable: The row cannot be read.
    """
    named: dict[str, object] = {}
    names = {field.replace("_", ""): field for field in FIELDS[model]}
    for key, value in row.items():
        name = key.replace("_", "").lower()
        if name not in names:
            continue
        differs = name in named and named[name] != value
        if differs and name in _DECIDING:
            raise Unreadable
        named[name] = None if differs and name in _MONEY else value
    if "ticketnumber" not in named:
        raise Unreadable
    absent = {"account_id": 0, "request_code": "", "withdraw_code": ""}
    absent |= dict.fromkeys(("status", "ticket_status"), "") | dict.fromkeys(
        ("comments", "attachments", "audit_log"), ""
    )
    return {
        field: read(named.get(name, absent.get(field)))
        for (name, field), read in zip(names.items(), FIELDS[model].values(), strict=True)
    }
