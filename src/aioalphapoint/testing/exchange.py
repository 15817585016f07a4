"""The rules of the simulated exchange. Pure: who asks, what, and when go in; the answer comes out.

What it checks and in which shapes it answers follows the exchange's documents and captures of real gateways.
Assumptions, where neither says anything:

* `CancelWithdraw` takes tickets that are New, Pending or Pending2Fa, the statuses for which the vendor's own
  user interfaces offer it, and refuses others with code 101. A user's cancel leads to UserCanceled, an
  operator's to AdminCanceled. The detail of that refusal is invented.
* `CancelFailedWithdrawTicket` takes tickets that are Failed, leads to AdminCanceled, and answers an unknown
  ticket number with code 101 and an invented detail.
* `GetWithdrawTicket` answers an unknown RequestCode with code 104. StartIndex counts from the oldest ticket.
* Logins have assumptions of their own, listed in `aioalphapoint.testing.logins`.
* Keys of a request must stand in the case that its document shows.
* Cancelling a ticket a second time is refused with code 101, because its status no longer allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from aioalphapoint._envelope import Json, write_json
from aioalphapoint.models import WithdrawTicket
from aioalphapoint.statuses import WithdrawStatus

from .answers import Answer, Refused, fields_of, no_such_endpoint, number, standard, text
from .logins import LOGIN_FUNCTIONS, Logins
from .rows import ticket_row, ticks, withdraw_row
from .users import User, Visitor

__all__ = ["Exchange"]

_CANCELLABLE = frozenset({WithdrawStatus.NEW, WithdrawStatus.PENDING, WithdrawStatus.PENDING_2FA})


class Exchange:
    """Accounts and withdraw tickets, and what each function does with them.

    Args:
        oms_id: The only order management system that it knows.
        new_token: Gives a text that nobody can guess, another one each time; session tokens are made of it.
    """

    def __init__(self, *, oms_id: int = 1, new_token: Callable[[], str]) -> None:
        self.oms_id = oms_id
        self.logins = Logins(oms_id=oms_id, new_token=new_token)
        """The users, and what became of their logins."""
        self.tickets: dict[int, WithdrawTicket] = {}
        """Tickets by number, the oldest first."""
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
        """Answer one call, and note that its connection is active at the moment `now`."""
        self.logins.touch(visitor, now)
        if function == "Ping":
            return Answer('{"msg":"PONG"}')
        try:
            if function in LOGIN_FUNCTIONS:
                return self.logins.answer(visitor, function, fields_of(payload), now)
            handler = self._functions.get(function)
            if handler is None or visitor.user is None:
                return no_such_endpoint()
            return handler(visitor, visitor.user, fields_of(payload), now)
        except Refused as refusal:
            return standard(refusal.code, refusal.detail)

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
        return standard(0, changed=self._set_status(ticket, status, user, now))

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
        return standard(0, changed=self._set_status(ticket, WithdrawStatus.ADMIN_CANCELED, user, now))

    # Reads.

    def _get_withdraws(self, _visitor: Visitor, user: User, fields: Mapping[str, Json], _now: datetime) -> Answer:
        account_id = self._checked_account(user, fields)
        return Answer(write_json([withdraw_row(ticket) for ticket in self._of_account(account_id)]))

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
        start = number(fields, "StartIndex") if "StartIndex" in fields else 0
        limit = number(fields, "Limit") if "Limit" in fields else 200
        rows = [ticket_row(ticket) for ticket in self._of_account(account_id)]
        return Answer(write_json(rows[start : start + limit]))

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


def _check_operator(user: User) -> None:
    if not user.is_operator:
        raise Refused(20)
