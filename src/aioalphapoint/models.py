"""What the exchange answers, as typed and frozen values.

Keys are read without regard to case, because the exchange's own case varies from call to call (protocol
captures show `OMSId`, `OMSID` and `omsId`). Unknown keys are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ._envelope import write_json
from .statuses import WithdrawStatus

__all__ = ["Identity", "StandardResponse", "WithdrawTicket"]

# The exchange accepted the request and is still at it; `result` is false all the same (order lists).
_OPERATION_IN_PROCESS = 107


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


class _FromExchange(BaseModel):
    """Fields are snake_case here and match the exchange's keys without regard to case."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=_folded, populate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _fold_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {_folded(key): item for key, item in value.items()}


def _note(value: Any) -> Any:
    # Notes to a clear answer must not make it unreadable: whatever stands there becomes text.
    return value if value is None or isinstance(value, str) else write_json(value)


_Note: TypeAlias = Annotated[str | None, BeforeValidator(_note)]


class StandardResponse(_FromExchange):
    """The exchange's answer to a request that changes something.

    A good one means that the request was **received**, not that its effect has come: read the ticket for that.

    Attributes:
        result: What the exchange says of the receipt. Not enough alone: see `is_accepted`.
        errormsg: The exchange's message; None or empty when all is well.
        errorcode: 0 when all is well.
        detail: Message text that the exchange may add; usually None. Some versions put the RequestCode here.
    """

    result: Annotated[bool, Field(strict=True)]
    errormsg: _Note = None
    errorcode: Annotated[int, Field(strict=True)] = 0
    detail: _Note = None

    @model_validator(mode="before")
    @classmethod
    def _fold_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        folded: dict[str, Any] = {}
        for key, item in value.items():
            name = _folded(key)
            # `{"result": true, "Result": false}` says nothing that one could act on.
            if name in ("result", "errorcode") and folded.get(name, item) != item:
                raise ValueError(f"{name} stands there twice with different values")
            folded[name] = item
        if folded.get("errorcode", 0) is None:
            del folded["errorcode"]
        return folded

    @property
    def is_accepted(self) -> bool:
        """The request was received: `result` is true and the code 0, or the code says "in process" (107).

        The documents contradict themselves (CancelWithdraw's sample has `result: true` beside code 101, a
        sister call's has `result: false` beside code 0), so either sign of refusal counts as one.
        """
        return (self.result and self.errorcode == 0) or self.errorcode == _OPERATION_IN_PROCESS


class Identity(_FromExchange):
    """Who is logged in, as the exchange answered the login; None where it did not say."""

    user_id: int | None = None
    user_name: str | None = None
    account_id: int | None = None
    oms_id: int | None = None


def _moment(value: Any) -> Any:
    """Read a timestamp as aware UTC. The exchange writes year 1 for "none", with or without a Z."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime) or value.year == 1:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_Moment: TypeAlias = Annotated[datetime | None, BeforeValidator(_moment)]


class WithdrawTicket(_FromExchange):
    """One withdrawal as the exchange keeps it. What an exchange left out is None.

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

    ticket_number: int
    status: WithdrawStatus
    request_code: str
    account_id: int
    account_name: str | None = None
    asset_id: int | None = None
    asset_name: str | None = None
    amount: Decimal | None = None
    fee_amt: Decimal | None = None
    notional_value: Decimal | None = None
    notional_product_id: int | None = None
    oms_id: int | None = None
    operator_id: int | None = None
    asset_manager_id: int | None = None
    account_provider_id: int | None = None
    request_user_id: int | None = None
    request_user_name: str | None = None
    request_ip: str | None = None
    updated_by_user: int | None = None
    updated_by_user_name: str | None = None
    reject_reason: str | None = None
    template_form_type: str | None = None
    template_form: str | None = None
    withdraw_transaction_details: str | None = None
    created_timestamp: _Moment = None
    last_update_timestamp: _Moment = None
    created_timestamp_tick: int | None = None
    last_update_timestamp_tick: int | None = None
