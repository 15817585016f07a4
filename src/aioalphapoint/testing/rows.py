"""Withdraw tickets as the simulated exchange writes them. Pure.

Spelled out by hand rather than derived from the model, so that one mistake cannot hide in both.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from aioalphapoint._envelope import write_json
from aioalphapoint.models import WithdrawTicket

__all__ = ["amount_of", "ticket_row", "ticks", "withdraw_row"]

_YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC)


def ticks(moment: datetime) -> int:
    """Count the 100 ns since year 1, as the exchange's tick values do."""
    span = moment - _YEAR_ONE
    return (span.days * 86_400 + span.seconds) * 10_000_000 + span.microseconds * 10


def ticket_row(ticket: WithdrawTicket) -> dict[str, object]:
    """Write a ticket as the wire shows it: PascalCase, the status by name, plain decimals."""
    return {
        "AssetManagerId": ticket.asset_manager_id,
        "AccountProviderId": ticket.account_provider_id,
        "AccountId": ticket.account_id,
        "AccountName": ticket.account_name,
        "AssetId": ticket.asset_id,
        "AssetName": ticket.asset_name,
        "Amount": ticket.amount,
        "NotionalValue": ticket.notional_value,
        "NotionalProductId": ticket.notional_product_id,
        "TemplateForm": ticket.template_form,
        "TemplateFormType": ticket.template_form_type,
        "OMSId": ticket.oms_id,
        "RequestCode": ticket.request_code,
        "RequestIP": ticket.request_ip,
        "RequestUserId": ticket.request_user_id,
        "RequestUserName": ticket.request_user_name,
        "OperatorId": ticket.operator_id,
        "Status": str(ticket.status),
        "FeeAmt": ticket.fee_amt,
        "UpdatedByUser": ticket.updated_by_user,
        "UpdatedByUserName": ticket.updated_by_user_name,
        "TicketNumber": ticket.ticket_number,
        "WithdrawTransactionDetails": ticket.withdraw_transaction_details,
        "RejectReason": ticket.reject_reason,
        "CreatedTimestamp": _iso(ticket.created_timestamp),
        "LastUpdateTimestamp": _iso(ticket.last_update_timestamp),
        "CreatedTimestampTick": ticket.created_timestamp_tick,
        "LastUpdateTimestampTick": ticket.last_update_timestamp_tick,
        "Comments": [],
        "Attachments": [],
        "AuditLog": [],
    }


def withdraw_row(ticket: WithdrawTicket) -> dict[str, object]:
    """Write a row of GetWithdraws, which uses other names for the same things."""
    return {
        "Amount": ticket.amount,
        "FeeAmount": ticket.fee_amt,
        "NotionalValue": ticket.notional_value,
        "WithdrawId": ticket.ticket_number + 100_000,  # a number of its own: not the TicketNumber
        "AssetManagerId": ticket.asset_manager_id,
        "AccountId": ticket.account_id,
        "AssetId": ticket.asset_id,
        "TemplateForm": ticket.template_form,
        "TemplateFormType": ticket.template_form_type,
        "OMSId": ticket.oms_id,
        "TicketStatus": str(ticket.status),
        "TicketNumber": ticket.ticket_number,
        "WithdrawTransactionDetails": ticket.withdraw_transaction_details,
        "WithdrawType": "",
        "WithdrawCode": ticket.request_code,
        "AssetType": 0,
        "Reaccepted": False,
        "NotionalProductId": ticket.notional_product_id,
    }


def amount_of(value: str | int | Decimal) -> Decimal:
    """Read an amount for a ticket, every digit kept."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise TypeError(f"amount must be a str, int or Decimal, not {type(value).__name__}: floats lose digits")
    try:
        amount = Decimal(value)
        write_json(amount)  # what no reply could hold is refused here
    except (ArithmeticError, ValueError):
        raise ValueError(f"amount must be a plain decimal number, not {value!r}") from None
    return amount


def _iso(moment: datetime | None) -> str:
    if moment is None:
        return "0001-01-01T00:00:00"
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03d}Z"
