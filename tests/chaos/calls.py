"""The calls that the campaign makes: one of every kind, each about a ticket of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aioalphapoint import CallRejected, Client, StandardResponse, Withdraw, WithdrawTicket

from .witness import FIRST, code_of, no_code_of

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One kind of call.

    Attributes:
        name: What it is called in the campaign's own words.
        status: Where the ticket stands before it.
        send: Makes the call: with this client, about this ticket, within so many seconds.
        proof: Gives the number that the answer proves; None where it proves none.
    """

    name: str
    status: str
    send: Callable[[Client, int, float], Awaitable[object]]
    proof: Callable[[object], int | None]


def _detail(answer: object) -> int | None:
    match answer:
        case StandardResponse(detail=str(number)) | CallRejected(detail=str(number)):
            return int(number)
        case CallRejected(code=None, message=str(text)):  # the gateway's plain text
            return int(text.split(" ", 1)[0])
        case _:
            return None


def _only_ticket(answer: object) -> int | None:
    match answer:
        case WithdrawTicket(ticket_number=number) | [WithdrawTicket(ticket_number=number)]:
            return number
        case _:
            return _detail(answer)


def _only_withdraw(answer: object) -> int | None:
    match answer:
        case [Withdraw(ticket_number=number)]:
            return number
        case _:
            return _detail(answer)


def _token(answer: object) -> int | None:
    match answer:
        case {"Token": int(number)}:
            return number
        case _:
            return _detail(answer)


def _cancel_withdraw(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.cancel_withdraw(account_id=number, request_code=code_of(number), timeout=timeout)


def _cancel_failed(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.cancel_failed_withdraw_ticket(ticket_id=number, timeout=timeout)


def _read_ticket(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.get_withdraw_ticket(account_id=number, request_code=code_of(number), timeout=timeout)


def _read_no_ticket(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.get_withdraw_ticket(account_id=number, request_code=no_code_of(number), timeout=timeout)


def _list_tickets(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.get_withdraw_tickets(account_id=number, timeout=timeout)


def _list_withdraws(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.get_withdraws(account_id=number, timeout=timeout)


def _page_of_all(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.get_all_withdraw_tickets(start_index=number - FIRST, limit=1, timeout=timeout)


def _echo(client: Client, number: int, timeout: float) -> Awaitable[object]:
    return client.call("Echo", {"Token": number}, timeout=timeout)


KINDS = (
    Kind("cancel a withdrawal", "Pending", _cancel_withdraw, _detail),
    Kind("cancel a withdrawal that is past it", "FullyProcessed", _cancel_withdraw, _detail),
    Kind("cancel a failed ticket", "Failed", _cancel_failed, _detail),
    Kind("cancel a ticket that has not failed", "Pending", _cancel_failed, _detail),
    Kind("read a ticket", "Pending", _read_ticket, _only_ticket),
    Kind("read a ticket that is not there", "Pending", _read_no_ticket, _detail),
    Kind("list an account's tickets", "Failed", _list_tickets, _only_ticket),
    Kind("list an account's withdrawals", "Pending", _list_withdraws, _only_withdraw),
    Kind("list a page of all tickets", "Failed", _page_of_all, _only_ticket),
    Kind("call any function", "Pending", _echo, _token),
)
