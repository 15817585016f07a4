"""A user's program, type-checked against the installed wheel. A marked line must be reported, no other may be."""

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import assert_type
from uuid import UUID

from aioalphapoint import (
    AlphaPointError,
    ApiKey,
    AuthenticationFailed,
    Backoff,
    CallRejected,
    CallTimeout,
    Client,
    Event,
    Gap,
    Identity,
    InvalidArguments,
    Json,
    NotCancelled,
    OutcomeUnknown,
    Password,
    SessionState,
    SessionToken,
    StandardResponse,
    Stats,
    Withdraw,
    WithdrawStatus,
    WithdrawTicket,
    WithdrawTicketUpdateEvent,
)
from aioalphapoint.bulk import Journal, Outcome, OutcomeState, cancel_failed_tickets, cancel_withdraws
from aioalphapoint.reconcile import confirm_cancelled
from aioalphapoint.testing import Arrival, SimulatedExchange

URL = "wss://exchange.invalid/WSGateway/"


async def two_factor() -> str:
    return "123456"


def clients() -> list[Client]:
    Client(URL, "alice")  # mypy: arg-type  pyright: reportArgumentType
    Client(URL, timeout="10")  # mypy: arg-type  pyright: reportArgumentType
    Client(URL, None, 10.0)  # mypy: call-arg  pyright: reportCallIssue
    ApiKey("the key", "the secret")  # mypy: call-arg  pyright: reportCallIssue
    Password("alice", "secret", two_factor="123456")  # mypy: arg-type  pyright: reportArgumentType
    return [
        Client(URL),
        Client(URL, ApiKey("the key", "the secret", user_id=96), reconnect=Backoff(first=0.5, cap=30)),
        Client(URL, Password("alice", "secret", two_factor=lambda: "123456"), reconnect=None, ping_interval=None),
        Client(URL, Password("alice", "secret", two_factor=two_factor)),
        Client(URL, SessionToken("a token"), proxy=True, oms_id=1, max_in_flight=5),
    ]


async def calls(client: Client, code: UUID) -> None:
    response = assert_type(await client.cancel_withdraw(account_id=7, request_code=code), StandardResponse)
    assert_type(response.is_accepted, bool)
    assert_type(response.detail, str | None)
    response.result = True  # mypy: misc  pyright: reportAttributeAccessIssue
    await client.cancel_withdraw(account_id=7, request_code=str(code), user_id=1, oms_id=1, timeout=2)
    await client.cancel_withdraw(7, code)  # mypy: call-arg  pyright: reportCallIssue
    await client.cancel_withdraw(account_id=7)  # mypy: call-arg  pyright: reportCallIssue
    await client.cancel_withdraw(account_id="7", request_code=code)  # mypy: arg-type  pyright: reportArgumentType
    assert_type(await client.cancel_failed_withdraw_ticket(ticket_id=292), StandardResponse)
    assert_type(await client.ping(), float)
    assert_type(await client.call("GetProducts", {"OMSId": 1}), Json)
    assert_type(await client.log_out(), StandardResponse)
    assert_type(client.state, SessionState)
    assert_type(client.identity, Identity | None)
    assert_type(client.stats, Stats)
    assert_type(await client.wait_for_state(SessionState.READY, timeout=5), SessionState)
    client.state = SessionState.READY  # mypy: misc  pyright: reportAttributeAccessIssue
    client.cancel_withdrawal()  # mypy: attr-defined  pyright: reportAttributeAccessIssue
    async for state in client.states():
        assert_type(state, SessionState)


async def reads(client: Client, request_code: str) -> Decimal:
    ticket = assert_type(await client.get_withdraw_ticket(account_id=7, request_code=request_code), WithdrawTicket)
    assert_type(ticket.status, WithdrawStatus)
    assert_type(ticket.status.is_final, bool)
    assert_type(ticket.created_timestamp, datetime | None)
    assert_type(await client.get_withdraws(account_id=7), list[Withdraw])
    assert_type(await client.get_withdraw_tickets(account_id=7), list[WithdrawTicket])
    async for each in client.iter_all_withdraw_tickets():
        assert_type(each, WithdrawTicket)
    amount: float = ticket.amount  # mypy: assignment  pyright: reportAssignmentType
    return ticket.amount if amount else Decimal(0)  # mypy: return-value  pyright: reportReturnType


async def many(client: Client, listing: AsyncIterator[WithdrawTicket], few: list[Withdraw]) -> None:
    outcomes = await cancel_withdraws(client, listing, concurrency=50, journal=Journal("tonight.journal"))
    assert_type(outcomes, list[Outcome])
    assert_type(outcomes[0].state, OutcomeState)
    assert_type(outcomes[0].error, AlphaPointError | None)
    await cancel_failed_tickets(client, few, on_outcome=lambda outcome: print(outcome.seen))
    await cancel_withdraws(client, [292])  # mypy: list-item  pyright: reportArgumentType
    await cancel_withdraws(client, few, journal="tonight.journal")  # mypy: arg-type  pyright: reportArgumentType


async def truth(client: Client, request_code: str) -> WithdrawTicket | None:
    try:
        return await confirm_cancelled(client, account_id=7, request_code=request_code, timeout=30)
    except NotCancelled as error:
        return assert_type(error.ticket, WithdrawTicket)
    except CallTimeout as error:
        assert_type(error.timeout, float | None)
    except OutcomeUnknown as error:
        assert_type(error.function, str | None)
    except InvalidArguments as error:
        value_error: ValueError = error
        raise value_error
    except AuthenticationFailed as error:
        assert_type(error.locked, bool)
    except CallRejected as error:
        assert_type(error.code, int | None)
        assert_type(error.response, StandardResponse | None)
        error.codes  # mypy: attr-defined  pyright: reportAttributeAccessIssue
    return None


async def listen(client: Client) -> None:
    async with client.subscribe_account_events(account_id=7) as events:
        async for event in events:
            match event:
                case WithdrawTicketUpdateEvent(ticket=ticket):
                    assert_type(ticket, WithdrawTicket)
                case Gap():
                    event.payload  # mypy: attr-defined  pyright: reportAttributeAccessIssue
                case _:
                    assert_type(event, Event)
    for ticket in client.iter_withdraw_tickets(account_id=7):  # mypy: attr-defined  pyright: reportGeneralTypeIssues
        print(ticket)


async def test_a_bot(simulated_exchange: SimulatedExchange, alphapoint_client: Client) -> None:
    ticket = simulated_exchange.add_withdraw(account_id=7, amount="1.10")
    await calls(alphapoint_client, UUID(ticket.request_code))
    with simulated_exchange.faults.cut(function="CancelWithdraw"):
        assert_type(simulated_exchange.ticket(ticket.ticket_number), WithdrawTicket)
    assert_type(simulated_exchange.journal[0], Arrival)
    simulated_exchange.add_withdraw(account_id=7, amount=1.1)  # mypy: arg-type  pyright: reportArgumentType
    simulated_exchange.add_user("a", "b", permissions=["Trade"])  # mypy: list-item  pyright: reportArgumentType
