"""The rules of the simulated exchange. Pure: who asks, what, and when go in; the answer comes out.

What it checks and in which shapes it answers follows the exchange's documents and captures of real gateways.
Assumptions, where neither says anything:

* `CancelWithdraw` takes tickets that are New, Pending or Pending2Fa, the statuses for which the vendor's own
  user interfaces offer it, and refuses others with code 101. A user's cancel leads to UserCanceled, an
  operator's to AdminCanceled. The detail of that refusal is invented.
* `CancelFailedWithdrawTicket` takes tickets that are Failed, leads to AdminCanceled, and answers an unknown
  ticket number with code 101 and an invented detail.
* `GetWithdrawTicket` answers an unknown RequestCode with code 104. StartIndex counts from the oldest ticket.
* Keys of a request must stand in the case that its document shows.
* Cancelling a ticket a second time is refused with code 101, because its status no longer allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeAlias

from aioalphapoint._envelope import Json, MessageType, read_json, write_json
from aioalphapoint.models import WithdrawTicket
from aioalphapoint.statuses import WithdrawStatus

__all__ = ["Answer", "Exchange", "Permission", "User", "Visitor"]

Permission: TypeAlias = str
"""A permission by the exchange's name of it: `Withdraw`, `Trading`, `Operator`."""

_MESSAGES = {
    20: "Not Authorized",
    100: "Invalid Request",
    101: "Operation Failed",
    104: "Resource Not Found",
    909: "Already Subscribed.",
}

_CANCELLABLE = frozenset({WithdrawStatus.NEW, WithdrawStatus.PENDING, WithdrawStatus.PENDING_2FA})
_NO_SUCH_ENDPOINT = "Endpoint Not Found"  # also the gateway's answer to a call that needs a login
_YEAR_ONE = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    user_id: int
    user_name: str
    password: str = field(repr=False)
    account_ids: frozenset[int]
    permissions: frozenset[Permission]

    @property
    def is_operator(self) -> bool:
        """Whether the user may act for every account."""
        return "Operator" in self.permissions


@dataclass(slots=True)
class Visitor:
    """What the exchange knows of one connection."""

    user: User | None = None
    subscribed_accounts: set[int] = field(default_factory=set)
    subscribed_to_all: bool = False

    def log_in(self, user: User | None) -> None:
        """Change who is logged in. Subscriptions belong to the login before."""
        self.user = user
        self.subscribed_accounts.clear()
        self.subscribed_to_all = False

    def hears_of(self, account_id: int) -> bool:
        """Whether events of this account go to this connection."""
        return self.subscribed_to_all or account_id in self.subscribed_accounts


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, and the ticket that changed on the way, of which subscribers hear."""

    payload: str
    type: MessageType = MessageType.REPLY
    changed: WithdrawTicket | None = None


class _Refused(Exception):
    def __init__(self, code: int, detail: str | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class Exchange:
    """Users, accounts and withdraw tickets, and what each function does with them."""

    def __init__(self, *, oms_id: int = 1) -> None:
        self.oms_id = oms_id
        self.users: dict[str, User] = {}
        self.tickets: dict[int, WithdrawTicket] = {}
        self._functions: dict[str, Callable[[Visitor, User, Mapping[str, Json], datetime], Answer]] = {
            "CancelWithdraw": self._cancel_withdraw,
            "CancelFailedWithdrawTicket": self._cancel_failed_withdraw_ticket,
            "GetWithdraws": self._get_withdraws,
            "GetWithdrawTicket": self._get_withdraw_ticket,
            "GetWithdrawTickets": self._get_withdraw_tickets,
            "LogOut": self._log_out,
            "SubscribeAccountEvents": self._subscribe_account_events,
            "SubscribeAllAccountEvents": self._subscribe_all_account_events,
        }

    def answer(self, visitor: Visitor, function: str, payload: str, now: datetime) -> Answer:
        """Answer one call."""
        if function == "Ping":
            return Answer('{"msg":"PONG"}')
        try:
            if function == "AuthenticateUser":
                return self._authenticate_user(visitor, _fields(payload))
            handler = self._functions.get(function)
            if handler is None or visitor.user is None:
                return Answer(_NO_SUCH_ENDPOINT, MessageType.ERROR)
            return handler(visitor, visitor.user, _fields(payload), now)
        except _Refused as refusal:
            return _standard(refusal.code, refusal.detail)

    # Login.

    def _authenticate_user(self, visitor: Visitor, fields: Mapping[str, Json]) -> Answer:
        user = self.users.get(_text(fields, "UserName"))
        if user is None or user.password != fields.get("Password"):
            return Answer('{"authenticated":false,"locked":false,"errormsg":"Invalid username or password"}')
        visitor.log_in(user)
        return Answer(
            write_json(
                {
                    "Authenticated": True,
                    "SessionToken": f"simulated-session-of-{user.user_id}",
                    "User": {
                        "UserId": user.user_id,
                        "UserName": user.user_name,
                        "Email": f"{user.user_name}@example.com",
                        "EmailVerified": True,
                        "AccountId": min(user.account_ids, default=0),
                        "OMSId": self.oms_id,
                        "Use2FA": False,
                    },
                    "Locked": False,
                    "Requires2FA": False,
                    "EnforceEnable2FA": False,
                    "TwoFAType": None,
                    "TwoFAToken": None,
                    "errormsg": None,
                }
            )
        )

    def _log_out(self, visitor: Visitor, _user: User, _fields: Mapping[str, Json], _now: datetime) -> Answer:
        visitor.log_in(None)
        return _standard(0)

    # The two calls.

    def _cancel_withdraw(self, _visitor: Visitor, user: User, fields: Mapping[str, Json], now: datetime) -> Answer:
        oms_id, user_id = _number(fields, "OMSId"), _number(fields, "UserId")
        account_id, request_code = _number(fields, "AccountId"), _text(fields, "RequestCode")
        self._check_oms(oms_id)
        is_own = user_id == user.user_id and account_id in user.account_ids and "Withdraw" in user.permissions
        if not is_own and not user.is_operator:
            raise _Refused(20)
        ticket = self._find(account_id, request_code)
        if ticket is None:
            raise _Refused(101, "Withdraw Ticket not found for OmsId, AccountId, RequestCode")
        if ticket.status not in _CANCELLABLE:
            raise _Refused(101, f"Withdraw Ticket is {ticket.status}")
        status = WithdrawStatus.USER_CANCELED if is_own else WithdrawStatus.ADMIN_CANCELED
        return _standard(0, changed=self._set_status(ticket, status, user, now))

    def _cancel_failed_withdraw_ticket(
        self, _visitor: Visitor, user: User, fields: Mapping[str, Json], now: datetime
    ) -> Answer:
        oms_id, ticket_id = _number(fields, "omsId"), _number(fields, "ticketId")
        self._check_oms(oms_id)
        _check_operator(user)
        ticket = self.tickets.get(ticket_id)
        if ticket is None:
            raise _Refused(101, "Withdraw Ticket not found for OmsId, TicketId")
        if ticket.status is not WithdrawStatus.FAILED:
            raise _Refused(101, f"Withdraw Ticket is {ticket.status}")
        return _standard(0, changed=self._set_status(ticket, WithdrawStatus.ADMIN_CANCELED, user, now))

    # Reads.

    def _get_withdraws(self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime) -> Answer:
        account_id = self._checked_account(user, fields)
        return Answer(write_json([_withdraw_row(ticket) for ticket in self._of_account(account_id)]))

    def _get_withdraw_ticket(self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime) -> Answer:
        account_id, request_code = self._checked_account(user, fields), _text(fields, "RequestCode")
        ticket = self._find(account_id, request_code)
        if ticket is None:
            raise _Refused(104)
        return Answer(write_json(ticket_row(ticket)))

    def _get_withdraw_tickets(
        self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime
    ) -> Answer:
        account_id = self._checked_account(user, fields)
        start = _number(fields, "StartIndex") if "StartIndex" in fields else 0
        limit = _number(fields, "Limit") if "Limit" in fields else 200
        rows = [ticket_row(ticket) for ticket in self._of_account(account_id)]
        return Answer(write_json(rows[start : start + limit]))

    # Subscriptions.

    def _subscribe_account_events(
        self, visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime
    ) -> Answer:
        account_id = self._checked_account(user, fields)
        if account_id in visitor.subscribed_accounts:
            raise _Refused(909)
        visitor.subscribed_accounts.add(account_id)
        return Answer('{"Subscribed":true}')

    def _subscribe_all_account_events(
        self, visitor: Visitor, user: User, _fields: Mapping[str, Json], _now: datetime
    ) -> Answer:
        _check_operator(user)
        if visitor.subscribed_to_all:
            raise _Refused(909)
        visitor.subscribed_to_all = True
        return Answer('{"Subscribed":true}')

    # What they share.

    def _check_oms(self, oms_id: int) -> None:
        if oms_id != self.oms_id:
            raise _Refused(100, "Invalid OMSId")

    def _checked_account(self, user: User, fields: Mapping[str, Json]) -> int:
        self._check_oms(_number(fields, "OMSId"))
        account_id = _number(fields, "AccountId")
        is_own = account_id in user.account_ids and "Trading" in user.permissions
        if not is_own and not user.is_operator:
            raise _Refused(20)
        return account_id

    def _of_account(self, account_id: int) -> list[WithdrawTicket]:
        return [ticket for ticket in self.tickets.values() if ticket.account_id == account_id]

    def _find(self, account_id: int, request_code: str) -> WithdrawTicket | None:
        wanted = request_code.lower()
        for ticket in self._of_account(account_id):
            if ticket.request_code.lower() == wanted:
                return ticket
        return None

    def _set_status(self, ticket: WithdrawTicket, status: WithdrawStatus, user: User, now: datetime) -> WithdrawTicket:
        changed = ticket.model_copy(
            update={
                "status": status,
                "updated_by_user": user.user_id,
                "updated_by_user_name": user.user_name,
                "last_update_timestamp": now,
                "last_update_timestamp_tick": ticks(now),
            }
        )
        self.tickets[ticket.ticket_number] = changed
        return changed


def ticks(moment: datetime) -> int:
    """Count the 100 ns since year 1, as the exchange's tick values do."""
    span = moment - _YEAR_ONE
    return (span.days * 86_400 + span.seconds) * 10_000_000 + span.microseconds * 10


def ticket_row(ticket: WithdrawTicket) -> dict[str, object]:
    """Write a ticket as the wire shows it: PascalCase, the status by name, plain decimals.

    Spelled out by hand rather than derived from the model, so that one mistake cannot hide in both.
    """
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


def _withdraw_row(ticket: WithdrawTicket) -> dict[str, object]:
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


def _standard(code: int, detail: str | None = None, changed: WithdrawTicket | None = None) -> Answer:
    response = {"result": code == 0, "errormsg": _MESSAGES.get(code), "errorcode": code, "detail": detail}
    return Answer(write_json(response), changed=changed)


def _check_operator(user: User) -> None:
    if not user.is_operator:
        raise _Refused(20)


def _fields(payload: str) -> dict[str, Json]:
    try:
        fields = read_json(payload)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise _Refused(100, "Not all required fields are provided")
    return fields


def _number(fields: Mapping[str, Json], key: str) -> int:
    value = fields.get(key)
    if type(value) is not int or value < 0:
        raise _Refused(100, "Not all required fields are provided")
    return value


def _text(fields: Mapping[str, Json], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise _Refused(100, "Not all required fields are provided")
    return value


def _iso(moment: datetime | None) -> str:
    if moment is None:
        return "0001-01-01T00:00:00"
    return f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond // 1000:03d}Z"
