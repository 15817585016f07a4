"""What the exchange answers, as typed and frozen values.

Keys are read without regard to case, because the exchange's own case varies from call to call (protocol
captures show `OMSId`, `OMSID` and `omsId`). Unknown keys are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from ._envelope import INT64_MAX, write_json
from .statuses import WithdrawStatus

__all__ = ["Identity", "StandardResponse", "Withdraw", "WithdrawTicket"]

# The exchange accepted the request and is still at it; `result` is false all the same (order lists).
_OPERATION_IN_PROCESS = 107

_DIGITS_OF_INT64 = 19
_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")


# What is remembered of the exchange's keys: it has some three hundred, none half as long.
_MOST_NAMES = 1000
_LONGEST_NAME = 100  # characters


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


class _Names(dict[str, str]):
    """Names by the keys that mean them; remembered, because each row of a listing has the same."""

    def __missing__(self, key: str) -> str:
        name = _folded(key)
        if len(self) < _MOST_NAMES and len(key) <= _LONGEST_NAME:
            self[key] = name
        return name


_names = _Names()


def _agree(one: object, other: object) -> bool:
    try:
        return one == other
    except RecursionError:  # nested deeper than can be compared: nobody can tell
        return False


# defer_build: what a program does not use, it does not pay for at import; a first use takes a millisecond or two, the
# first of all some ten. Whatever gives a model that was not validated by itself has it built: before pydantic 2.14 an
# instance of one that is not cannot be dumped inside another.
class FromExchange(BaseModel, frozen=True, extra="ignore", alias_generator=_folded, defer_build=True):
    """Fields are snake_case here and match the exchange's keys without regard to case.

    Each class says `frozen` again, for type checkers alone: they do not inherit it (PEP 681).
    """

    must_agree: ClassVar[frozenset[str]] = frozenset()
    """Fields that decide something: where keys differ in case alone, their values must not differ."""

    none_in_doubt: ClassVar[frozenset[str]] = frozenset()
    """Fields of which nothing is said where keys differ in case alone, and their values too."""

    def __setstate__(self, state: dict[Any, Any]) -> None:
        type(self).model_rebuild()
        super().__setstate__(state)

    @model_validator(mode="before")
    @classmethod
    def _fold_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        folded: dict[str, Any] = {_names[key]: item for key, item in value.items()}
        return folded if len(folded) == len(value) else cls._fold_twins(value)

    @classmethod
    def _fold_twins(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        folded: dict[str, Any] = {}
        for key, item in value.items():
            name = _names[key]
            if name in folded and not _agree(folded[name], item):
                if name in cls.must_agree:
                    raise ValueError(f"{name} stands there twice with different values")
                item = None if name in cls.none_in_doubt else item  # noqa: PLW2901  (what is read is what counts)
            folded[name] = item
        return folded


class Otherwise:
    """Reads a value as its type alone would, and one that the type refuses by way of a function.

    So the usual value is read by pydantic-core without a call of Python: with one for each of its thirty values, a row
    of a listing takes half as long again. What the type takes must be what the function would make of it.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        usual = handler(source)
        odd = core_schema.no_info_before_validator_function(self._function, usual)
        return core_schema.union_schema([usual, odd], mode="left_to_right")


def _whole(value: Any) -> Any:
    # Some answers hold numbers as text. Anything else than digits is no number: pydantic alone would read
    # True as 1, "1_0" as 10, and compute an int out of 1E+99999999.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS_OF_INT64:
        return int(value)
    return value


WholeNumber: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=INT64_MAX), Otherwise(_whole)]


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return Decimal(value)
    if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value):
        return Decimal(value)
    raise ValueError("not a decimal number")


Amount: TypeAlias = Annotated[Decimal, Field(strict=True), Otherwise(_exact)]


def _note(value: Any) -> Any:
    # Notes to a clear answer must not make it unreadable: whatever stands there becomes text.
    if value is None or isinstance(value, str):
        return value
    try:
        return write_json(value)
    except ValueError:
        with suppress(RecursionError):  # it was read a few calls less deep than this
            return repr(value)
        return "nested too deep to be shown"


Note: TypeAlias = Annotated[str | None, Field(strict=True), Otherwise(_note)]


def _zero_for_null(value: object) -> object:
    return 0 if value is None else value


class StandardResponse(FromExchange, frozen=True):
    """The exchange's answer to a request that changes something.

    A good one means that the request was **received**, not that its effect has come: read the ticket for that.

    Attributes:
        result: What the exchange says of the receipt. Not enough alone: see `is_accepted`.
        errormsg: The exchange's message; None or empty when all is well.
        errorcode: 0 when all is well.
        detail: Message text that the exchange may add; usually None. Some versions put the RequestCode here.
    """

    # `{"result": true, "Result": false}` says nothing that one could act on.
    must_agree: ClassVar[frozenset[str]] = frozenset({"result", "errorcode"})

    result: Annotated[bool, Field(strict=True)]
    errormsg: Note = None
    errorcode: Annotated[int, Field(strict=True), Otherwise(_zero_for_null)] = 0
    detail: Note = None

    @property
    def is_accepted(self) -> bool:
        """The request was received: `result` is true and the code 0, or the code says "in process" (107).

        The documents contradict themselves (CancelWithdraw's sample has `result: true` beside code 101, a
        sister call's has `result: false` beside code 0), so either sign of refusal counts as one.
        """
        return (self.result and self.errorcode == 0) or self.errorcode == _OPERATION_IN_PROCESS


class Identity(FromExchange, frozen=True):
    """Who is logged in, as the exchange answered the login; None where it did not say."""

    user_id: WholeNumber | None = None
    user_name: Note = None
    account_id: WholeNumber | None = None
    oms_id: WholeNumber | None = None


_T = TypeVar("_T")


def _none(_: object) -> None:
    return None


# What a ticket says beside its number must not make a list of tickets unreadable: None where it makes no sense.
Told: TypeAlias = Annotated[_T | None, Otherwise(_none)]

_YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC)


def _moment(value: Any) -> Any:
    """Read a timestamp as aware UTC: ISO text on the wire, ticks of 100 ns since year 1 in the documents.

    The exchange writes year 1 for "none", with or without a Z.
    """
    try:
        if type(value) is int:
            value = _YEAR_ONE + timedelta(microseconds=value // 10)
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime) or moment.year == 1:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return None


# Not by `Otherwise`: pydantic-core reads more than ISO text, and gives time zones of its own.
Moment: TypeAlias = Annotated[datetime | None, BeforeValidator(_moment)]


def _status(value: Any) -> WithdrawStatus:
    # A status that nobody knows, or none at all, claims nothing, and is not in the way of the rest.
    name: Any = value if type(value) is int else _note(value) or ""
    return WithdrawStatus(name)


Status: TypeAlias = Annotated[WithdrawStatus, Otherwise(_status)]


def _parts(value: Any) -> Any:
    # Lists on the wire; the documents print a string, which stays one.
    return () if value in (None, "", "[]") else (value,)


Parts: TypeAlias = Annotated[tuple[object, ...], Otherwise(_parts)]


def _zero(_: object) -> int:
    return 0


Account: TypeAlias = Annotated[WholeNumber, Otherwise(_zero)]


def _empty(_: object) -> str:
    return ""


Code: TypeAlias = Annotated[str, Field(strict=True), Otherwise(_empty)]


class WithdrawTicket(FromExchange, frozen=True):
    """One withdrawal as the exchange keeps it.

    The number is always there, and so is the status, though nothing is claimed of one that nobody knows. What else
    the exchange left out, or what cannot be read, is None, or empty as told below. Keys that are not listed here are
    left out.

    Attributes:
        ticket_number: The exchange's number of the ticket; `cancel_failed_withdraw_ticket` takes it.
        request_code: The GUID of the withdrawal; `cancel_withdraw` takes it. As the exchange wrote it; empty
            where it wrote none.
        account_id: The account that the money leaves; 0 where the exchange wrote none.
        amount: What is withdrawn, every digit that the exchange sent.
        fee_amt: The fee, likewise.
        status: Where it stands.
        created_timestamp: Aware, UTC.
        created_timestamp_tick: The same in units of 100 ns since year 1.
        template_form: JSON in a string, as it came: where the money goes.
        withdraw_transaction_details: JSON in a string, as it came.
        comments: As they came: objects or JSON in strings.
    """

    must_agree: ClassVar[frozenset[str]] = frozenset({"ticketnumber", "accountid", "requestcode", "status"})
    none_in_doubt: ClassVar[frozenset[str]] = frozenset({"amount", "feeamt", "notionalvalue"})

    ticket_number: WholeNumber
    account_id: Account = 0
    request_code: Code = ""
    status: Status = WithdrawStatus("")
    account_name: Note = None
    asset_id: Told[WholeNumber] = None
    asset_name: Note = None
    amount: Told[Amount] = None
    fee_amt: Told[Amount] = None
    notional_value: Told[Amount] = None
    notional_product_id: Told[WholeNumber] = None
    oms_id: Told[WholeNumber] = None
    operator_id: Told[WholeNumber] = None
    asset_manager_id: Told[WholeNumber] = None
    account_provider_id: Told[WholeNumber] = None
    request_user_id: Told[WholeNumber] = None
    request_user_name: Note = None
    request_ip: Note = None
    updated_by_user: Told[WholeNumber] = None
    updated_by_user_name: Note = None
    reject_reason: Note = None
    template_form_type: Note = None
    template_form: Note = None
    withdraw_transaction_details: Note = None
    created_timestamp: Moment = None
    last_update_timestamp: Moment = None
    created_timestamp_tick: Told[WholeNumber] = None
    last_update_timestamp_tick: Told[WholeNumber] = None
    comments: Parts = ()
    attachments: Parts = ()
    audit_log: Parts = ()


class Withdraw(FromExchange, frozen=True):
    """One withdrawal as a row of `GetWithdraws`, which has other names for what a ticket holds.

    `request_code` and `status` give the ticket's names, so that one can stand where a ticket can. What the
    exchange left out, or what cannot be read, is None.

    Attributes:
        ticket_number: The number of its ticket.
        account_id: The account that the money leaves; 0 where the exchange wrote none.
        withdraw_code: The GUID of the withdrawal: the `request_code` of its ticket.
        withdraw_id: A number of its own: not the ticket's.
        ticket_status: Where it stands.
        amount: What is withdrawn, every digit that the exchange sent.
        fee_amount: The fee, likewise.
    """

    must_agree: ClassVar[frozenset[str]] = frozenset({"ticketnumber", "accountid", "withdrawcode", "ticketstatus"})
    none_in_doubt: ClassVar[frozenset[str]] = frozenset({"amount", "feeamount", "notionalvalue"})

    ticket_number: WholeNumber
    account_id: Account = 0
    withdraw_code: Code = ""
    ticket_status: Status = WithdrawStatus("")
    withdraw_id: Told[WholeNumber] = None
    asset_id: Told[WholeNumber] = None
    asset_type: Note = None
    amount: Told[Amount] = None
    fee_amount: Told[Amount] = None
    notional_value: Told[Amount] = None
    notional_product_id: Told[WholeNumber] = None
    oms_id: Told[WholeNumber] = None
    asset_manager_id: Told[WholeNumber] = None
    withdraw_type: Note = None
    template_form_type: Note = None
    template_form: Note = None
    withdraw_transaction_details: Note = None
    reaccepted: Told[bool] = None

    @property
    def request_code(self) -> str:
        """The `withdraw_code`, by the ticket's name of it."""
        return self.withdraw_code

    @property
    def status(self) -> WithdrawStatus:
        """The `ticket_status`, by the ticket's name of it."""
        return self.ticket_status
