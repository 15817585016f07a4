"""The rules of the simulated exchange. Pure: who asks, what, and when go in; the answer comes out.

What it checks and in which shapes it answers follows the exchange's documents and captures of real gateways.
Assumptions, where neither says anything:

* `CancelWithdraw` takes tickets that are New, Pending or Pending2Fa, the statuses for which the vendor's own
  user interfaces offer it, and refuses others with code 101. A user's cancel leads to UserCanceled, an
  operator's to AdminCanceled. The detail of that refusal is invented.
* `CancelFailedWithdrawTicket` takes tickets that are Failed, leads to AdminCanceled, and answers an unknown
  ticket number with code 101 and an invented detail.
* `GetWithdrawTicket` answers an unknown RequestCode with code 104.
* Listings begin with the oldest ticket, of all accounts in `GetAllWithdrawTickets`, and StartIndex counts from
  it. The documents contradict themselves on which end it counts from, so `newest_first` turns all of that round.
* `GetAllWithdrawTickets` answers an OperatorId that no ticket has with an empty list, and takes any IncludeComments.
* A change that the exchange makes by itself leaves UpdatedByUser and UpdatedByUserName as they were.
* An account has no two tickets of the same RequestCode; those of different accounts may share one.
* Logins have assumptions of their own, listed in `aioalphapoint.testing.logins`.
* Keys of a request must stand in the case that its document shows.
* Cancelling a ticket a second time is refused with code 101, because its status no longer allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from aioalphapoint._envelope import Json, write_json
from aioalphapoint.models import WithdrawTicket
from aioalphapoint.statuses import WithdrawStatus

from .answers import Answer, Refused, fields_of, no_such_endpoint, number, standard, text
from .logins import LOGIN_FUNCTIONS, Logins
from .rows import amount_of, ticket_row, ticks, withdraw_row
from .users import User, Visitor

__all__ = ["Exchange"]

_FIRST_TICKET = 292  # any number will do; small ones would look like the sequence numbers beside them

_CANCELLABLE = frozenset({WithdrawStatus.NEW, WithdrawStatus.PENDING, WithdrawStatus.PENDING_2FA})


class Exchange:
    """Accounts and withdraw tickets, and what each function does with them.

    Args:
        oms_id: The only order management system that it knows.
        newest_first: Whether listings begin with the newest ticket; else with the oldest.
        new_token: Gives a text that nobody can guess, another one each time; session tokens are made of it.
    """

    def __init__(self, *, oms_id: int = 1, newest_first: bool = False, new_token: Callable[[], str]) -> None:
        self.oms_id = oms_id
        self._newest_first = newest_first
        self.logins: Logins = Logins(oms_id=oms_id, new_token=new_token)
        """The users, and what became of their logins."""
        self.tickets: dict[int, WithdrawTicket] = {}
        """Tickets by number, the oldest first; `add` puts them there."""
        # By account, the oldest ticket first: the ticket's number by its RequestCode in lower case.
        self._numbers: dict[int, dict[str, int]] = {}
        self._functions: dict[str, Callable[[Visitor, User, Mapping[str, Json], datetime], Answer]] = {
            "CancelWithdraw": self._cancel_withdraw,
            "CancelFailedWithdrawTicket": self._cancel_failed_withdraw_ticket,
            "GetAllWithdrawTickets": self._get_all_withdraw_tickets,
            "GetWithdraws": self._get_withdraws,
            "GetWithdrawTicket": self._get_withdraw_ticket,
            "GetWithdrawTickets": self._get_withdraw_tickets,
            "LogOut": self._log_out,
            "SubscribeAccountEvents": self._subscribe_account_events,
            "SubscribeAllAccountEvents": self._subscribe_all_account_events,
        }

    def add(self, ticket: WithdrawTicket) -> None:
        """Take a ticket in. Its number must be above all others."""
        numbers, code = self._numbers.setdefault(ticket.account_id, {}), ticket.request_code.lower()
        if code in numbers:
            raise ValueError(f"account {ticket.account_id} already has a ticket of request_code {ticket.request_code}")
        numbers[code] = ticket.ticket_number
        self.tickets[ticket.ticket_number] = ticket

    def add_withdraw(
        self,
        *,
        account_id: int,
        amount: str | int | Decimal,
        status: str,
        asset_name: str,
        request_code: str,
        now: datetime,
    ) -> WithdrawTicket:
        """Make the ticket of a withdrawal, and take it in."""
        ticket = WithdrawTicket.model_validate(
            {
                "ticket_number": next(reversed(self.tickets), _FIRST_TICKET - 1) + 1,
                "status": status,
                "request_code": request_code,
                "account_id": account_id,
                "account_name": f"account-{account_id}",
                "asset_manager_id": 1,
                "account_provider_id": 1,
                "asset_id": 1,
                "asset_name": asset_name,
                "amount": amount_of(amount),
                "fee_amt": Decimal(0),
                "notional_value": amount_of(amount),
                "notional_product_id": 1,
                "request_user_id": 0,
                "updated_by_user": 0,
                "oms_id": self.oms_id,
                "operator_id": 1,
                "template_form": '{"TemplateType":"Standard"}',
                "template_form_type": "Standard",
                "withdraw_transaction_details": '{"TxId":null}',
                "created_timestamp": now,
                "created_timestamp_tick": ticks(now),
                "last_update_timestamp_tick": 0,
            }
        )
        self.add(ticket)
        return ticket

    def set_status(self, ticket_number: int, status: str, now: datetime) -> WithdrawTicket:
        """Change a ticket as the exchange does by itself. An unknown number is a KeyError."""
        ticket = _changed(self.tickets[ticket_number], WithdrawStatus(status), now)
        self.tickets[ticket_number] = ticket
        return ticket

    def answer(
        self, visitor: Visitor, function: str, payload: str, now: datetime, *, accept_only: bool = False
    ) -> Answer:
        """Answer one call, and note that its connection is active at the moment `now`.

        Args:
            visitor: Who calls.
            function: What.
            payload: With which arguments.
            now: When.
            accept_only: Answer a call that would change a ticket in the same way, and leave the ticket as it is.
        """
        self.logins.touch(visitor, now)
        if function == "Ping":
            return Answer('{"msg":"PONG"}')
        try:
            if function in LOGIN_FUNCTIONS:
                return self.logins.answer(visitor, function, fields_of(payload), now)
            handler = self._functions.get(function)
            if handler is None or visitor.user is None:
                return no_such_endpoint()
            answer = handler(visitor, visitor.user, fields_of(payload), now)
        except Refused as refusal:
            return standard(refusal.code, refusal.detail)
        if answer.changed is not None and accept_only:
            answer = replace(answer, executed=False, changed=None)
        if answer.changed is not None:
            self.tickets[answer.changed.ticket_number] = answer.changed
        return answer

    def _log_out(self, visitor: Visitor, _user: User, _fields: Mapping[str, Json], _now: datetime) -> Answer:
        self.logins.log_out(visitor)
        return standard(0)

    # The two calls.

    def _cancel_withdraw(self, _visitor: Visitor, user: User, fields: Mapping[str, Json], now: datetime) -> Answer:
        oms_id, user_id = number(fields, "OMSId"), number(fields, "UserId")
        account_id, request_code = number(fields, "AccountId"), text(fields, "RequestCode")
        self._check_oms(oms_id)
        is_own = user_id == user.user_id and account_id in user.account_ids and "Withdraw" in user.permissions
        if not is_own and not user.is_operator:
            raise Refused(20)
        ticket = self._find(account_id, request_code)
        if ticket is None:
            raise Refused(101, "Withdraw Ticket not found for OmsId, AccountId, RequestCode")
        if ticket.status not in _CANCELLABLE:
            raise Refused(101, f"Withdraw Ticket is {ticket.status}")
        status = WithdrawStatus.USER_CANCELED if is_own else WithdrawStatus.ADMIN_CANCELED
        return standard(0, changed=_changed(ticket, status, now, user))

    def _cancel_failed_withdraw_ticket(
        self, _visitor: Visitor, user: User, fields: Mapping[str, Json], now: datetime
    ) -> Answer:
        oms_id, ticket_id = number(fields, "omsId"), number(fields, "ticketId")
        self._check_oms(oms_id)
        _check_operator(user)
        ticket = self.tickets.get(ticket_id)
        if ticket is None:
            raise Refused(101, "Withdraw Ticket not found for OmsId, TicketId")
        if ticket.status is not WithdrawStatus.FAILED:
            raise Refused(101, f"Withdraw Ticket is {ticket.status}")
        return standard(0, changed=_changed(ticket, WithdrawStatus.ADMIN_CANCELED, now, user))

    # Reads.

    def _get_withdraws(self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime) -> Answer:
        account_id = self._checked_account(user, fields)
        return Answer(write_json([withdraw_row(ticket) for ticket in self._listed(self._of_account(account_id))]))

    def _get_withdraw_ticket(self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime) -> Answer:
        account_id, request_code = self._checked_account(user, fields), text(fields, "RequestCode")
        ticket = self._find(account_id, request_code)
        if ticket is None:
            raise Refused(104)
        return Answer(write_json(ticket_row(ticket)))

    def _get_withdraw_tickets(
        self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime
    ) -> Answer:
        account_id = self._checked_account(user, fields)
        return self._page(self._of_account(account_id), fields)

    def _get_all_withdraw_tickets(
        self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime
    ) -> Answer:
        oms_id, operator_id = number(fields, "OMSId"), number(fields, "OperatorId")
        self._check_oms(oms_id)
        _check_operator(user)
        return self._page((ticket for ticket in self.tickets.values() if ticket.operator_id == operator_id), fields)

    # Subscriptions.

    def _subscribe_account_events(
        self, visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime
    ) -> Answer:
        account_id = self._checked_account(user, fields)
        if account_id in visitor.subscribed_accounts:
            raise Refused(909)
        visitor.subscribed_accounts.add(account_id)
        return Answer('{"Subscribed":true}')

    def _subscribe_all_account_events(
        self, visitor: Visitor, user: User, _fields: Mapping[str, Json], _now: datetime
    ) -> Answer:
        _check_operator(user)
        if visitor.subscribed_to_all:
            raise Refused(909)
        visitor.subscribed_to_all = True
        return Answer('{"Subscribed":true}')

    # What they share.

    def _check_oms(self, oms_id: int) -> None:
        if oms_id != self.oms_id:
            raise Refused(100, "Invalid OMSId")

    def _checked_account(self, user: User, fields: Mapping[str, Json]) -> int:
        self._check_oms(number(fields, "OMSId"))
        account_id = number(fields, "AccountId")
        is_own = account_id in user.account_ids and "Trading" in user.permissions
        if not is_own and not user.is_operator:
            raise Refused(20)
        return account_id

    def _of_account(self, account_id: int) -> Iterable[WithdrawTicket]:
        return map(self.tickets.__getitem__, self._numbers.get(account_id, {}).values())

    def _find(self, account_id: int, request_code: str) -> WithdrawTicket | None:
        ticket_number = self._numbers.get(account_id, {}).get(request_code.lower())
        return None if ticket_number is None else self.tickets[ticket_number]

    def _listed(self, oldest_first: Iterable[WithdrawTicket]) -> list[WithdrawTicket]:
        tickets = list(oldest_first)
        if self._newest_first:
            tickets.reverse()
        return tickets

    def _page(self, oldest_first: Iterable[WithdrawTicket], fields: Mapping[str, Json]) -> Answer:
        start = number(fields, "StartIndex") if "StartIndex" in fields else 0
        limit = number(fields, "Limit") if "Limit" in fields else 200
        page = self._listed(oldest_first)[start : start + limit]
        return Answer(write_json([ticket_row(ticket) for ticket in page]))


def _changed(ticket: WithdrawTicket, status: WithdrawStatus, now: datetime, user: User | None = None) -> WithdrawTicket:
    update: dict[str, object] = {
        "status": status,
        "last_update_timestamp": now,
        "last_update_timestamp_tick": ticks(now),
    }
    if user is not None:
        update |= {"updated_by_user": user.user_id, "updated_by_user_name": user.user_name}
    return ticket.model_copy(update=update)


def _check_operator(user: User) -> None:
    if not user.is_operator:
        raise Refused(20)
