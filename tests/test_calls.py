"""The calls as a program makes them, with the bytes on the wire."""

import asyncio
import gc
import weakref
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import anyio
import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    AlphaPointError,
    Backoff,
    CallNotSent,
    CallRejected,
    CallTimeout,
    Client,
    InvalidArguments,
    InvalidRequest,
    NotAuthorized,
    NotConnected,
    OperationFailed,
    Overloaded,
    Password,
    SessionState,
    StandardResponse,
    UnexpectedReply,
)
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE
from scripted import GOOD, answer_all, reply, scripted

CODE = UUID("490b4fa3-53fc-44f4-bd29-7e16be86fba3")


async def test_the_two_calls_are_on_the_wire_byte_by_byte_as_documented() -> None:
    arrived: list[str | bytes] = []

    async def record(socket: ServerConnection) -> None:
        async for request in socket:
            arrived.append(request)
            await socket.send(reply(request))

    async with scripted(record) as url, Client(url) as client:
        first = await client.cancel_withdraw(account_id=1, user_id=1, request_code=CODE)
        second = await client.cancel_failed_withdraw_ticket(ticket_id=292)
    assert arrived == [
        r'{"m":0,"i":2,"n":"CancelWithdraw","o":"{\"OMSId\":1,\"UserId\":1,\"AccountId\":1,'
        r'\"RequestCode\":\"490b4fa3-53fc-44f4-bd29-7e16be86fba3\"}"}',
        r'{"m":0,"i":4,"n":"CancelFailedWithdrawTicket","o":"{\"omsId\":1,\"ticketId\":292}"}',
    ]
    assert first == second == StandardResponse(result=True, errormsg=None, errorcode=0, detail=None)


async def test_a_user_stops_a_pending_withdrawal(exchange: SimulatedExchange, client: Client) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1.10", status="Pending")
    assert (await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)).is_accepted
    assert exchange.ticket(ticket.ticket_number).status == "UserCanceled"


async def test_an_operator_clears_a_failed_ticket(exchange: SimulatedExchange, operator: Client) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1.10", status="Failed")
    assert (await operator.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)).is_accepted
    assert exchange.ticket(ticket.ticket_number).status == "AdminCanceled"


async def test_each_refusal_is_an_error_of_its_own_class_and_the_next_call_is_right(
    exchange: SimulatedExchange, client: Client
) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1.10")
    with pytest.raises(OperationFailed, match="not found"):
        await client.cancel_withdraw(account_id=7, request_code=CODE)
    with pytest.raises(InvalidRequest, match="Invalid OMSId"):
        await client.cancel_withdraw(account_id=7, request_code=CODE, oms_id=2)
    with pytest.raises(NotAuthorized):
        await client.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)
    with pytest.raises(CallRejected, match="by the gateway: Endpoint Not Found") as caught:
        await client.call("NoSuchFunction")
    assert caught.value.code is None
    assert exchange.ticket(ticket.ticket_number).status == "Pending"
    assert (await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)).is_accepted
    assert client.stats.in_flight == 0


async def test_numbers_left_out_come_from_the_login(exchange: SimulatedExchange, client: Client) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)
    assert exchange.journal[-1].payload == (
        f'{{"OMSId":1,"UserId":1,"AccountId":7,"RequestCode":"{ticket.request_code}"}}'
    )


async def test_numbers_of_the_call_come_before_the_clients_and_those_before_the_logins() -> None:
    async with SimulatedExchange(oms_id=5) as exchange:
        exchange.add_user("root", "password", permissions=["Operator"])
        ticket = exchange.add_withdraw(account_id=1, amount="1", status="Failed")
        async with Client(exchange.url, Password("root", "password"), oms_id=6) as client:
            with pytest.raises(InvalidRequest):
                await client.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)
            await client.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number, oms_id=5)
        other = exchange.add_withdraw(account_id=1, amount="1", status="Failed")
        async with Client(exchange.url, Password("root", "password")) as client:
            await client.cancel_failed_withdraw_ticket(ticket_id=other.ticket_number)
        sent = [arrival.payload for arrival in exchange.journal if arrival.function == "CancelFailedWithdrawTicket"]
        assert sent == [f'{{"omsId":{oms},"ticketId":{number}}}' for oms, number in ((6, 292), (5, 292), (5, 293))]


async def test_arguments_are_refused_before_anything_is_sent(exchange: SimulatedExchange, client: Client) -> None:
    arrived = len(exchange.journal)
    bad: list[dict[str, Any]] = [
        {"account_id": True, "request_code": CODE},
        {"account_id": 7.0, "request_code": CODE},
        {"account_id": -7, "request_code": CODE},
        {"account_id": 2**63, "request_code": CODE},
        {"account_id": 7, "request_code": "not a GUID"},
        {"account_id": 7, "request_code": CODE, "timeout": 0},
        {"account_id": 7, "request_code": CODE, "timeout": float("nan")},
    ]
    for arguments in bad:
        with pytest.raises(InvalidArguments, match=r"^(account_id|request_code|timeout) must be"):
            await client.cancel_withdraw(**arguments)
    with pytest.raises(InvalidArguments, match="^ticket_id must be"):
        await client.cancel_failed_withdraw_ticket(ticket_id=True)
    with pytest.raises(InvalidArguments, match="^payload must be"):
        await client.call("F", {"a": float("nan")})
    async with Client(exchange.url) as nobody:
        with pytest.raises(InvalidArguments, match="^user_id must be given"):
            await nobody.cancel_withdraw(account_id=7, request_code=CODE)
    assert len(exchange.journal) == arrived
    assert client.stats.in_flight == 0
    assert await client.call("Ping") == {"msg": "PONG"}


async def test_any_other_function_is_reached_by_its_name(exchange: SimulatedExchange, client: Client) -> None:
    exchange.add_withdraw(account_id=7, amount="0.0010000000000000000000000000")
    rows = await client.call("GetWithdraws", {"OMSId": 1, "AccountId": 7})
    assert isinstance(rows, list)
    assert isinstance(rows[0], dict)
    assert str(rows[0]["Amount"]) == "0.0010000000000000000000000000"


async def test_a_reply_that_nobody_can_read_ends_its_own_call_alone() -> None:
    payloads = iter(['{"result":', "words", '{"result":"perhaps"}', GOOD])

    async def puzzle(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(reply(request, next(payloads)))

    async with scripted(puzzle) as url, Client(url) as client:
        for payload in ('{"result":', "words", '{"result":"perhaps"}'):
            with pytest.raises(UnexpectedReply) as caught:
                await client.cancel_failed_withdraw_ticket(ticket_id=292)
            assert caught.value.payload == payload
        assert (await client.cancel_failed_withdraw_ticket(ticket_id=292)).is_accepted
        assert (client.stats.in_flight, client.stats.reconnects) == (0, 0)


async def test_a_call_made_while_the_client_connects_takes_its_numbers_from_the_login() -> None:
    async with SimulatedExchange(oms_id=5) as exchange:
        exchange.add_user("root", "password", permissions=["Operator"])
        ticket = exchange.add_withdraw(account_id=1, amount="1", status="Failed")
        client = Client(exchange.url, Password("root", "password"))
        with pytest.raises(NotConnected, match="the client is not connected"):
            await client.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(0)
        assert client.state is SessionState.CONNECTING
        await client.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)
        await connecting
        assert exchange.journal[-1].payload == f'{{"omsId":5,"ticketId":{ticket.ticket_number}}}'
        await client.close()


async def test_a_call_whose_time_is_over_before_it_could_be_sent_is_not_sent(
    exchange: SimulatedExchange, client: Client
) -> None:
    with pytest.raises(CallNotSent, match="^Ping was not sent: its 1e-09 s were over"):
        await client.call("Ping", timeout=1e-9)
    await client.call("Ping")
    assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser", "Ping"]


async def test_a_call_that_is_carried_out_and_not_answered_is_unknown(
    exchange: SimulatedExchange, client: Client
) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    with exchange.faults.mute(), pytest.raises(CallTimeout):
        await client.cancel_withdraw(account_id=7, request_code=ticket.request_code, timeout=0.1)
    assert exchange.ticket(ticket.ticket_number).status.is_cancelled
    with pytest.raises(OperationFailed, match="UserCanceled"):
        await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)


async def failure_of(call: Awaitable[object]) -> weakref.ref[AlphaPointError]:
    try:
        await call
    except AlphaPointError as error:
        return weakref.ref(error)
    pytest.fail("it did not fail")


async def test_the_error_of_a_call_goes_with_its_last_holder_and_waits_for_no_garbage_collection(
    exchange: SimulatedExchange, client: Client
) -> None:
    gc.disable()
    try:
        with exchange.faults.mute():
            late = await failure_of(client.ping(timeout=0.02))
        with exchange.faults.cut():
            lost = await failure_of(client.ping())
        refused = await failure_of(client.call("GetNothing"))
        assert [late(), lost(), refused()] == [None, None, None]
    finally:
        gc.enable()


async def test_one_call_too_many_is_refused_at_once_and_the_others_go_on() -> None:
    release = asyncio.Event()

    async def hold(socket: ServerConnection) -> None:
        requests = [await socket.recv() for _ in range(3)]
        await release.wait()
        for request in requests:
            await socket.send(reply(request))
        await answer_all(socket)

    async with scripted(hold) as url, Client(url, max_in_flight=3) as client:
        calls = [asyncio.create_task(client.call("F")) for _ in range(3)]
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(Overloaded, match=r"^G was not sent: 3 calls are under way \(max_in_flight\)$"):
            await client.call("G")
        release.set()
        await asyncio.gather(*calls)
        assert client.stats.in_flight == 0
        await client.call("F")
        assert (client.stats.sent, client.stats.replies) == (4, 4)


async def test_a_deadline_is_one_however_many_connections_a_call_is_started_on() -> None:
    loop = asyncio.get_running_loop()

    async def mute(socket: ServerConnection) -> None:
        async for _ in socket:
            pass

    async with scripted(mute) as url, Client(url, reconnect=Backoff(first=5, cap=5)) as client:
        connection = client._session.current
        assert connection is not None
        connection.pause()  # the call waits there until it is cut, and then for another connection
        loop.call_later(0.2, connection.cut, "a test cuts it")
        began = loop.time()
        with pytest.raises(NotConnected):
            await client.call("F", timeout=0.3)
        assert 0.3 <= loop.time() - began < 0.45
        assert (client.stats.sent, client.stats.in_flight, len(connection._pending)) == (0, 0, 0)


async def test_what_needs_no_login_is_refused_at_once_while_the_client_connects() -> None:
    async def never(socket: ServerConnection) -> None:
        await asyncio.Event().wait()

    async with scripted(never) as url:
        client = Client(url, Password("alice", "a password"))
        connecting = asyncio.create_task(client.connect())
        await client.wait_for_state(SessionState.CONNECTING, timeout=5)
        async with asyncio.timeout(1):
            with pytest.raises(InvalidArguments):
                await client.call("F", {"a": object()})
            with pytest.raises(InvalidArguments):
                await client.cancel_failed_withdraw_ticket(ticket_id=-1, oms_id=1)
        connecting.cancel()
        await asyncio.wait({connecting})


async def test_numbers_that_a_login_told_are_at_hand_in_an_outage(exchange: SimulatedExchange) -> None:
    async with Client(exchange.url, ALICE, reconnect=Backoff(first=5, cap=5)) as client:
        await exchange.cut_now()
        await client.wait_for_state(SessionState.RECONNECTING, timeout=5)
        async with asyncio.timeout(1):
            with pytest.raises(InvalidArguments, match="request_code must be"):
                await client.cancel_withdraw(account_id=7, request_code="no GUID")


async def test_a_call_that_cannot_be_written_down_leaves_nothing_and_the_next_one_is_right() -> None:
    async with scripted(answer_all) as url, Client(url) as client:
        connection = client._session.current
        assert connection is not None
        deadline = asyncio.get_running_loop().time() + 5
        with pytest.raises(TypeError):
            connection.start("F", b"no text", deadline=deadline, timeout=5)  # type: ignore[arg-type]
        assert len(connection._pending) == 0
        assert (await client.cancel_failed_withdraw_ticket(ticket_id=292)).is_accepted
        assert client.stats.sent == 1
