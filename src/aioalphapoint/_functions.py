"""The exchange's functions as coroutine methods, each a thin one: what it sends, its name, how its answer reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

from ._caller import Caller
from ._envelope import Json
from ._events import Event, Gap
from ._pages import PAGE, all_pages
from ._replies import read_response, read_subscribed, read_ticket, read_tickets, read_value, read_withdraws
from ._requests import (
    CancelFailedWithdrawTicket,
    CancelWithdraw,
    GetAllWithdrawTickets,
    GetWithdraws,
    GetWithdrawTicket,
    GetWithdrawTickets,
    SubscribeAccountEvents,
    function_name,
    payload_text,
)
from ._subscription import Subscription
from .models import StandardResponse, Withdraw, WithdrawTicket

__all__ = ["Functions"]

_OPERATOR = 1  # in every document and capture
_QUEUE = 1000  # events kept for a reader that is slow


class Functions(Caller):
    """The functions that a client can call. Cancelling any of them ends that call alone; it may have been sent."""

    # The two calls for which this library exists.

    async def cancel_withdraw(
        self,
        *,
        account_id: int,
        request_code: UUID | str,
        user_id: int | None = None,
        oms_id: int | None = None,
        timeout: float | None = None,
    ) -> StandardResponse:
        """Ask the exchange to cancel a pending withdrawal (`CancelWithdraw`; permission: Withdraw).

        A good answer says that the request was **received**, not that the withdrawal is cancelled: read the
        ticket for that. Which statuses may be cancelled is not documented; the exchange decides. Whether
        cancelling twice is harmless is not documented either, so nothing here ever does it by itself.

        Args:
            account_id: The account that the withdrawal leaves.
            request_code: The withdrawal's GUID: `RequestCode` of its ticket, `WithdrawCode` in GetWithdraws.
            user_id: The user who cancels; left out, the one who is logged in.
            oms_id: The order management system; left out, the client's.
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Returns:
            The exchange's response, which accepts the request.

        Raises:
            CallNotSent: Nothing was sent; calling again is safe.
            OutcomeUnknown: It was sent, and no usable answer came: read the ticket before acting again.
            CallRejected: The exchange refused; the class tells the code, such as `OperationFailed` (101) for a
                ticket that is not there.
            AuthenticationFailed: The session was given up because a login was refused. Nothing was sent.
        """
        return await self._ask_as_user(
            CancelWithdraw, read_response, timeout, oms_id, user_id, account_id=account_id, request_code=request_code
        )

    async def cancel_failed_withdraw_ticket(
        self, *, ticket_id: int, oms_id: int | None = None, timeout: float | None = None
    ) -> StandardResponse:
        """Ask the exchange to cancel a failed withdraw ticket (`CancelFailedWithdrawTicket`; permission: Operator).

        It acts on one failed or resubmitted-failed ticket. A good answer says that the request was
        **received**, not that the ticket is cancelled: read the ticket for that.

        Args:
            ticket_id: The `TicketNumber` of the ticket (not its `WithdrawId`).
            oms_id: The order management system; left out, the client's.
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Returns:
            The exchange's response, which accepts the request.

        Raises:
            CallNotSent: Nothing was sent; calling again is safe.
            OutcomeUnknown: It was sent, and no usable answer came: read the ticket before acting again.
            CallRejected: The exchange refused; the class tells the code, such as `NotAuthorized` (20).
            AuthenticationFailed: The session was given up because a login was refused. Nothing was sent.
        """
        return await self._ask(CancelFailedWithdrawTicket, read_response, timeout, oms_id, ticket_id=ticket_id)

    # Reads.

    async def get_withdraws(
        self, *, account_id: int, oms_id: int | None = None, timeout: float | None = None
    ) -> list[Withdraw]:
        """List the withdrawals of an account (`GetWithdraws`; permission: Operator or Trading).

        The exchange gives them all in one message, some 500 bytes each. One that is larger than the client's
        `max_message_size` ends the connection; `iter_withdraw_tickets` reads page by page.

        A long list is read in turns of some 5 ms, with turns of the event loop in between. The time for that is not
        counted against the timeout, and cancelling in the middle leaves nothing behind.

        Args:
            account_id: The account.
            oms_id: The order management system; left out, the client's.
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Raises:
            CallNotSent: Nothing was sent.
            OutcomeUnknown: No usable answer came; reading again is safe.
            CallRejected: The exchange refused.
            AuthenticationFailed: The session was given up because a login was refused.
        """
        return await self._ask_for_rows(GetWithdraws, read_withdraws, timeout, oms_id, account_id=account_id)

    async def get_withdraw_ticket(
        self, *, account_id: int, request_code: UUID | str, oms_id: int | None = None, timeout: float | None = None
    ) -> WithdrawTicket:
        """Read one ticket (`GetWithdrawTicket`; permission: Operator or Trading).

        Args:
            account_id: The account that the withdrawal leaves.
            request_code: The withdrawal's GUID.
            oms_id: The order management system; left out, the client's.
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Raises:
            CallNotSent: Nothing was sent.
            OutcomeUnknown: No usable answer came, the ticket of another withdrawal included; reading again is
                safe.
            CallRejected: The exchange refused: there is no such ticket, for example.
            AuthenticationFailed: The session was given up because a login was refused.
        """
        read = partial(read_ticket, account_id=account_id, request_code=str(request_code))
        return await self._ask(
            GetWithdrawTicket, read, timeout, oms_id, account_id=account_id, request_code=request_code
        )

    async def get_withdraw_tickets(
        self,
        *,
        account_id: int,
        start_index: int | None = None,
        limit: int | None = None,
        oms_id: int | None = None,
        timeout: float | None = None,
    ) -> list[WithdrawTicket]:
        """Read one page of an account's tickets (`GetWithdrawTickets`; permission: Operator or Trading).

        The documents contradict themselves on which end `start_index` counts from, so do not rely on an order:
        `iter_withdraw_tickets` reads all pages.

        Args:
            account_id: The account.
            start_index: How many tickets to pass by; left out, the exchange decides.
            limit: How many tickets to give at most; left out, the exchange decides (200 by its documents).
            oms_id: The order management system; left out, the client's.
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Errors, and how a long list is read, are as with `get_withdraws`.
        """
        arguments = {"account_id": account_id, "start_index": start_index, "limit": limit}
        return await self._ask_for_rows(GetWithdrawTickets, read_tickets, timeout, oms_id, **arguments)

    async def get_all_withdraw_tickets(
        self,
        *,
        operator_id: int = _OPERATOR,
        start_index: int | None = None,
        limit: int | None = None,
        include_comments: bool | None = None,
        oms_id: int | None = None,
        timeout: float | None = None,
    ) -> list[WithdrawTicket]:
        """Read one page of every account's tickets (`GetAllWithdrawTickets`; permission: Operator).

        Args:
            operator_id: The exchange's number of the operator; 1 in every document and capture.
            start_index: How many tickets to pass by; left out, the exchange decides.
            limit: How many tickets to give at most; left out, the exchange decides.
            include_comments: Whether to give the tickets' comments; left out, the exchange decides.
            oms_id: The order management system; left out, the client's.
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Errors, and how a long list is read, are as with `get_withdraws`.
        """
        page = {"start_index": start_index, "limit": limit, "include_comments": include_comments}
        return await self._ask_for_rows(
            GetAllWithdrawTickets, read_tickets, timeout, oms_id, operator_id=operator_id, **page
        )

    async def iter_withdraw_tickets(
        self, *, account_id: int, page_size: int = PAGE, oms_id: int | None = None, timeout: float | None = None
    ) -> AsyncGenerator[WithdrawTicket, None]:
        """Read all tickets of an account, page by page (`GetWithdrawTickets`).

        No ticket comes twice. None that was there at the start is left out, from whichever end the exchange counts,
        as long as it does not change the order of older tickets meanwhile. Errors are those of
        `get_withdraw_tickets`, by page.

        Args:
            account_id: The account.
            page_size: Tickets asked for at a time. An exchange that gives fewer at a time does no harm.
            oms_id: The order management system; left out, the client's.
            timeout: Seconds that each page may take; left out, the client's `timeout`.
        """

        async def page(start: int) -> list[WithdrawTicket]:
            return await self.get_withdraw_tickets(
                account_id=account_id, start_index=start, limit=page_size, oms_id=oms_id, timeout=timeout
            )

        async for ticket in all_pages("GetWithdrawTickets", page, page_size):
            yield ticket

    async def iter_all_withdraw_tickets(
        self,
        *,
        operator_id: int = _OPERATOR,
        page_size: int = PAGE,
        include_comments: bool | None = None,
        oms_id: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[WithdrawTicket, None]:
        """Read all tickets of every account, page by page (`GetAllWithdrawTickets`; permission: Operator).

        All else is as with `iter_withdraw_tickets`.

        Args:
            operator_id: The exchange's number of the operator; 1 in every document and capture.
            page_size: Tickets asked for at a time.
            include_comments: Whether to give the tickets' comments; left out, the exchange decides.
            oms_id: The order management system; left out, the client's.
            timeout: Seconds that each page may take.
        """

        async def page(start: int) -> list[WithdrawTicket]:
            return await self.get_all_withdraw_tickets(
                operator_id=operator_id,
                start_index=start,
                limit=page_size,
                include_comments=include_comments,
                oms_id=oms_id,
                timeout=timeout,
            )

        async for ticket in all_pages("GetAllWithdrawTickets", page, page_size):
            yield ticket

    # Subscriptions.

    @asynccontextmanager
    async def subscribe_account_events(
        self, *, account_id: int, oms_id: int | None = None, timeout: float | None = None, size: int = _QUEUE
    ) -> AsyncIterator[AsyncIterator[Event | Gap]]:
        """Hear what happens on an account (`SubscribeAccountEvents`; permission: Trading).

            async with client.subscribe_account_events(account_id=7) as events:
                async for event in events:
                    match event:
                        case WithdrawTicketUpdateEvent(ticket=ticket): ...
                        case Gap(): ...  # something may have been missed: read the tickets

        Events of other accounts are not among them. After a reconnect the subscription is made again, and then
        the iterator gives a `Gap`. It ends when the client is closed or given up. Only newer versions of the
        exchange send `WithdrawTicketUpdateEvent`. Leaving tells the exchange nothing, because no function for
        that is documented. Cancelling a step of the iterator loses nothing.

        Args:
            account_id: The account.
            oms_id: The order management system; left out, the client's.
            timeout: Seconds that subscribing may take; left out, the client's `timeout`.
            size: Events kept for a reader that is slow; beyond it the oldest are dropped, which gives a `Gap`.

        Raises:
            CallNotSent: Nothing was sent.
            OutcomeUnknown: No usable answer came; subscribing again is safe.
            CallRejected: The exchange refused, now or after a reconnect.
            AuthenticationFailed: The session was given up because a login was refused.
        """

        async def subscribe() -> None:
            await self._ask(SubscribeAccountEvents, read_subscribed, timeout, oms_id, account_id=account_id)

        with self._listen(size) as listener:
            await subscribe()
            yield Subscription(listener, subscribe, account_id)

    @asynccontextmanager
    async def subscribe_all_account_events(
        self, *, timeout: float | None = None, size: int = _QUEUE
    ) -> AsyncIterator[AsyncIterator[Event | Gap]]:
        """Hear what happens on every account (`SubscribeAllAccountEvents`; permission: Operator).

        All else is as with `subscribe_account_events`.

        Args:
            timeout: Seconds that subscribing may take; left out, the client's `timeout`.
            size: Events kept for a reader that is slow.
        """

        async def subscribe() -> None:
            await self._call("SubscribeAllAccountEvents", lambda: "{}", read_subscribed, timeout)

        with self._listen(size) as listener:
            await subscribe()
            yield Subscription(listener, subscribe)

    # Everything else.

    async def call(
        self, function: str, payload: Mapping[str, object] | None = None, *, timeout: float | None = None
    ) -> Json:
        """Call any function of the exchange that has no method here.

        Args:
            function: The exchange's name of it, such as `GetWithdraws`.
            payload: Its parameters, keys in the case that its document shows. `Decimal` is written with every
                digit.
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Returns:
            What the payload of the reply holds, numbers with a point as `Decimal`; plain text as a string.

        Raises:
            CallNotSent: Nothing was sent; calling again is safe.
            OutcomeUnknown: It was sent, and no usable answer came.
            CallRejected: The exchange refused, by its gateway or by a standard response that does not accept.
            AuthenticationFailed: The session was given up because a login was refused. Nothing was sent.
        """
        return await self._call(function_name(function), lambda: payload_text(function, payload), read_value, timeout)
