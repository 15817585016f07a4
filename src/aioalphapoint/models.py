"""What the exchange answers, as typed and frozen values.

Keys are read without regard to case, because the exchange's own case varies from call to call (protocol
captures show `OMSId`, `OMSID` and `omsId`). Unknown keys are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ._envelope import INT64_MAX, write_json
from .statuses import WithdrawStatus

__all__ = ["Identity", "StandardResponse", "WithdrawTicket"]

# The exchange accepted the request and is still at it; `result` is false all the same (order lists).
_OPERATION_IN_PROCESS = 107

_DIGITS_OF_INT64 = 19
_PLAIN_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


class FromExchange(BaseModel):
    """Fields are snake_case here and match the exchange's keys without regard to case."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=_folded)

    must_agree: ClassVar[frozenset[str]] = frozenset()
    """Fields that decide something: where keys differ in case alone, their values must not differ."""

    @model_validator(mode="before")
    @classmethod
    def _fold_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        folded: dict[str, Any] = {}
        for key, item in value.items():
            name = _folded(key)
            if name in cls.must_agree and folded.get(name, item) != item:
                raise ValueError(f"{name} stands there twice with different values")
            folded[name] = item
        return folded


def _whole(value: Any) -> Any:
    # Some answers hold numbers as text. Anything else than digits is no number: pydantic alone would read
    # True as 1, "1_0" as 10, and compute an int out of 1E+99999999.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS_OF_INT64:
        return int(value)
    return value


WholeNumber: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=INT64_MAX), BeforeValidator(_whole)]


def _exact(value: Any) -> Any:
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return Decimal(value)
    if isinstance(value, str) and _PLAIN_DECIMAL.fullmatch(value):
        return Decimal(value)
    raise ValueError("not a decimal number")


Amount: TypeAlias = Annotated[Decimal, Field(strict=True), BeforeValidator(_exact)]


def _note(value: Any) -> Any:
    # Notes to a clear answer must not make it unreadable: whatever stands there becomes text.
    if value is None or isinstance(value, str):
        return value
    try:
        return write_json(value)
    except ValueError:
        return repr(value)


Note: TypeAlias = Annotated[str | None, BeforeValidator(_note)]


class StandardResponse(FromExchange):
    """The exchange's answer to a request that changes something.

    A good one means that the request was **received**, not that its effect has come: read the ticket for that.

    Attributes:
        result: What the exchange says of the receipt. Not enough alone: see `is_accepted`.
        errormsg: The exchange's message; None or empty when all is well.
        errorcode: 0 when all is well.
        detail: Message text that the exchange may add; usually None. Some versions put the RequestCode here.
    """

    # `{"result": true, "Result": false}` says nothing that one could act on.
    must_agree = frozenset({"result", "errorcode"})

    result: Annotated[bool, Field(strict=True)]
    errormsg: Note = None
    errorcode: Annotated[int, Field(strict=True)] = 0
    detail: Note = None

    @field_validator("errorcode", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        return 0 if value is None else value

    @property
    def is_accepted(self) -> bool:
        """The request was received: `result` is true and the code 0, or the code says "in process" (107).

        The documents contradict themselves (CancelWithdraw's sample has `result: true` beside code 101, a
        sister call's has `result: false` beside code 0), so either sign of refusal counts as one.
        """
        return (self.result and self.errorcode == 0) or self.errorcode == _OPERATION_IN_PROCESS


class Identity(FromExchange):
    """Who is logged in, as the exchange answered the login; None where it did not say."""

    user_id: WholeNumber | None = None
    user_name: Note = None
    account_id: WholeNumber | None = None
    oms_id: WholeNumber | None = None


def _moment(value: Any) -> Any:
    """Read a timestamp as aware UTC. The exchange writes year 1 for "none", with or without a Z."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime) or moment.year == 1:
            return None
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):  # a moment that cannot be read must not make a list of tickets unreadable
        return None


Moment: TypeAlias = Annotated[datetime | None, BeforeValidator(_moment)]


class WithdrawTicket(FromExchange):
    """One withdrawal as the exchange keeps it.

    Number, status, request code and account are always there; what else an exchange left out is None.

    Attributes:
        ticket_number: The exchange's number of the ticket; `cancel_failed_withdraw_ticket` takes it.
        request_code: The GUID of the withdrawal; `cancel_withdraw` takes it. As the exchange wrote it.
        account_id: The account that the money leaves.
        amount: What is withdrawn, every digit that the exchange sent.
        fee_amt: The fee, likewise.
        status: Where it stands.
        created_timestamp: Aware, UTC.
        created_timestamp_tick: The same in units of 100 ns since year 1.
        template_form: JSON in a string, as it came.
        withdraw_transaction_details: JSON in a string, as it came.
    """

    ticket_number: WholeNumber
    status: WithdrawStatus
    request_code: str
    account_id: WholeNumber
    account_name: str | None = None
    asset_id: WholeNumber | None = None
    asset_name: str | None = None
    amount: Amount | None = None
    fee_amt: Amount | None = None
    notional_value: Amount | None = None
    notional_product_id: WholeNumber | None = None
    oms_id: WholeNumber | None = None
    operator_id: WholeNumber | None = None
    asset_manager_id: WholeNumber | None = None
    account_provider_id: WholeNumber | None = None
    request_user_id: WholeNumber | None = None
    request_user_name: str | None = None
    request_ip: str | None = None
    updated_by_user: WholeNumber | None = None
    updated_by_user_name: str | None = None
    reject_reason: str | None = None
    template_form_type: str | None = None
    template_form: str | None = None
    withdraw_transaction_details: str | None = None
    created_timestamp: Moment = None
    last_update_timestamp: Moment = None
    created_timestamp_tick: WholeNumber | None = None
    last_update_timestamp_tick: WholeNumber | None = None
