"""The persistent session: loss, redial, deadlines, cancelling, closing; and the state after each of them."""

import asyncio
import gc
import json
import random
import struct
import traceback
import warnings
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET

import anyio
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from aioalphapoint import (
    AuthenticationFailed,
    Backoff,
    CallRejected,
    CallTimeout,
    Client,
    ConnectFailed,
    ConnectionLost,
    NotConnected,
    Password,
    SessionState,
)
from aioalphapoint._connection import Connection
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, SOON
from scripted import answer_all, reply, scripted


def pending(client: Client) -> int:
    connection = client._session._connection
    return 0 if connection is None else len(connection._pending)


async def lost(client: Client) -> None:
    while client.state is SessionState.READY:
        await asyncio.wait({client._session._next_state()})


async def test_a_thousand_calls_at_once_with_replies_in_random_order_each_reach_their_caller() -> None:
    chance = random.Random(20)

    async def shuffle(socket: ServerConnection) -> None:
        while True:
            requests = [await socket.recv() for _ in range(1000)]
            chance.shuffle(requests)
            for request in requests:
                # The payload says which call it answers: the request's own payload, sent back.
                await socket.send(reply(request, str(request).split('"o":"')[1][:-2].replace("\\", "")))

    async with scripted(shuffle) as url, Client(url, timeout=30) as client:
        for round_number in range(3):
            answers = await asyncio.gather(
                *(client.call("Echo", {"caller": number, "round": round_number}) for number in range(1000))
            )
            assert answers == [{"caller": number, "round": round_number} for number in range(1000)]
            assert pending(client) == 0
        assert (client.stats.replies, client.stats.late_replies, client.stats.dropped_frames) == (3000, 0, 0)
        assert client.stats.in_flight == 0


async def close_with(socket: ServerConnection, code: int) -> None:
    await socket.close(code)


async def close_without_a_frame(socket: ServerConnection, _code: int) -> None:
    socket.transport.close()


async def reset(socket: ServerConnection, _code: int) -> None:
    """Not even an end of the stream: lingering for 0 s sends a reset."""
    socket.transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    socket.transport.abort()


async def close_and_keep_the_socket(socket: ServerConnection, _code: int) -> None:
    """A server that says goodbye and does not leave."""
    socket.protocol.send_close(1001)
    socket.transport.writelines(socket.protocol.data_to_send())
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        (close_with, 1000),
        (close_with, 1001),
        (close_with, 1011),
        (close_with, 1012),
        (close_with, 4000),
        (close_without_a_frame, 1006),
        (reset, 1006),
        (close_and_keep_the_socket, 1001),
    ],
)
async def test_a_hundred_pending_calls_end_at_once_and_the_next_call_works(
    leave: Callable[[ServerConnection, int], Awaitable[None]], code: int
) -> None:
    connections = 0
    left: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def leave_once(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await answer_all(socket)
        for _ in range(100):
            await socket.recv()
        left.set_result(asyncio.get_running_loop().time())
        await leave(socket, code)

    async with scripted(leave_once) as url, Client(url, timeout=5, reconnect=SOON) as client:
        outcomes = await asyncio.gather(*(client.call(f"F{number}") for number in range(100)), return_exceptions=True)
        took = asyncio.get_running_loop().time() - await left
        assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * 100
        assert [(loss.function, loss.sequence) for loss in outcomes if isinstance(loss, ConnectionLost)] == [
            (f"F{number}", 2 + 2 * number) for number in range(100)
        ]
        assert str(outcomes[0]).startswith("the connection ended before F0 was answered (")
        assert str(outcomes[0]).endswith("): whether it was carried out is unknown")
        assert {outcome.close_code for outcome in outcomes if isinstance(outcome, ConnectionLost)} == {code}
        assert took < 0.5
        assert client.stats.in_flight == 0
        await client.call("Next")
        # Well below what a goodbye may take: nobody waits for a server that has said its own.
        assert asyncio.get_running_loop().time() - left.result() < 0.9
        assert (client.state, client.stats.reconnects, pending(client)) == (SessionState.READY, 1, 0)
        assert connections == 2


async def test_a_call_is_sent_at_most_once_and_a_waiting_call_goes_out_on_the_next_connection() -> None:
    arrived: list[str] = []

    async def cut_after_one(socket: ServerConnection) -> None:
        request = str(await socket.recv())
        arrived.append(request)
        if "Cut" in request:
            socket.transport.abort()
        await socket.send(reply(request))
        await answer_all(socket)

    async with scripted(cut_after_one) as url, Client(url, timeout=5, reconnect=SOON) as client:
        with pytest.raises(ConnectionLost):
            await client.call("Cut")
        waiting = [asyncio.create_task(client.call(name)) for name in ("First", "Second")]
        await asyncio.gather(*waiting)
        # A new connection is a new table: its numbers start at 2 again.
        assert arrived == ['{"m":0,"i":2,"n":"Cut","o":"{}"}', '{"m":0,"i":2,"n":"First","o":"{}"}']


async def test_during_an_outage_a_call_waits_inside_its_own_timeout_and_is_then_not_connected() -> None:
    async with scripted(answer_all) as url:
        client = Client(url, reconnect=SOON)
        await client.connect()
        await client.call("F")
    await lost(client)
    assert client.state is SessionState.RECONNECTING
    started = asyncio.get_running_loop().time()
    with pytest.raises(NotConnected, match=r"^G was not sent: there was no session within 0\.2 s \("):
        await client.call("G", timeout=0.2)
    assert 0.19 <= asyncio.get_running_loop().time() - started < 1
    assert client.stats.sent == 1
    await client.close()


async def test_a_call_without_an_answer_ends_at_its_deadline_and_the_late_reply_reaches_nobody() -> None:
    release = asyncio.Event()

    async def late(socket: ServerConnection) -> None:
        request = await socket.recv()
        await release.wait()
        await socket.send(reply(request, '{"late":true}'))
        await answer_all(socket)

    async with scripted(late) as url, Client(url) as client:
        started = asyncio.get_running_loop().time()
        with pytest.raises(CallTimeout, match=r"^Slow got no reply within 0\.1 s"):
            await client.call("Slow", timeout=0.1)
        assert 0.09 <= asyncio.get_running_loop().time() - started < 1
        assert (client.stats.in_flight, pending(client)) == (0, 0)
        release.set()
        assert await client.call("Next") != {"late": True}
        assert (client.stats.late_replies, client.stats.replies, client.stats.reconnects) == (1, 1, 0)


async def test_a_thousand_cancelled_calls_leave_nothing_and_their_late_replies_reach_nobody() -> None:
    async def hold_a_thousand(socket: ServerConnection) -> None:
        held = [await socket.recv() for _ in range(1000)]
        all_here.set()
        await cancelled.wait()
        for request in held:
            await socket.send(reply(request, '{"late":true}'))
        await answer_all(socket)

    all_here, cancelled = asyncio.Event(), asyncio.Event()
    async with scripted(hold_a_thousand) as url, Client(url, timeout=30) as client:
        calls = [asyncio.create_task(client.call("F")) for _ in range(1000)]
        await all_here.wait()
        for call in calls:
            call.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
        assert (client.stats.in_flight, pending(client)) == (0, 0)
        cancelled.set()
        answers = await asyncio.gather(*(client.call("G") for _ in range(1000)))
        assert all(isinstance(answer, dict) and "late" not in answer for answer in answers)
        assert (client.stats.late_replies, pending(client)) == (1000, 0)


async def test_cancelling_one_caller_cancels_nobody_else() -> None:
    both_here = asyncio.Event()
    release = asyncio.Event()

    async def hold(socket: ServerConnection) -> None:
        requests = [await socket.recv(), await socket.recv()]
        both_here.set()
        await release.wait()
        for request in requests:
            await socket.send(reply(request))
        await answer_all(socket)

    async with scripted(hold) as url, Client(url, timeout=5) as client:
        one, other = asyncio.create_task(client.call("One")), asyncio.create_task(client.call("Other"))
        await both_here.wait()
        one.cancel()
        await asyncio.wait({one})
        assert one.cancelled()
        release.set()
        assert await other
        assert not other.cancelling()
        await client.call("Next")


async def test_without_reconnect_a_lost_session_stays_lost_and_says_so() -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(1001, "going home")

    async with scripted(leave) as url:
        client = Client(url, reconnect=None)
        await client.connect()
        with pytest.raises(ConnectionLost, match="close code 1001, going home"):
            await client.call("F")
        with pytest.raises(NotConnected, match=r"given up: the connection was lost \(close code 1001, going home\)"):
            await client.call("G")
        assert repr(client).startswith(f"<Client {url.removesuffix('/WSGateway/')} failed")
        await client.close()
        assert client.state is SessionState.CLOSED


async def test_a_server_that_takes_connections_and_never_answers_is_dialled_ever_more_slowly() -> None:
    dials: list[float] = []
    enough = asyncio.Event()

    async def slam(_socket: ServerConnection) -> None:
        dials.append(asyncio.get_running_loop().time())
        if len(dials) == 6:
            enough.set()

    async with scripted(slam) as url, Client(url, reconnect=Backoff(first=0.01, cap=10)):
        await enough.wait()
    # 0.02 (one failure already) + 0.04 + 0.08 + 0.16 + 0.32, each halved by chance at most.
    assert 0.31 <= dials[-1] - dials[0] < 2


async def test_a_server_that_cannot_be_reached_is_dialled_ever_more_slowly() -> None:
    dials: list[float] = []
    enough = asyncio.Event()

    def shut(connection: ServerConnection, _request: Request) -> Response | None:
        dials.append(asyncio.get_running_loop().time())
        if len(dials) == 7:
            enough.set()
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "") if len(dials) > 1 else None

    async def answer_one(socket: ServerConnection) -> None:
        await socket.send(reply(await socket.recv()))

    async with serve(answer_one, "127.0.0.1", 0, process_request=shut) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        async with Client(url, reconnect=Backoff(first=0.01, cap=10), timeout=5) as client:
            await client.call("F")
            await enough.wait()
    assert 0.31 <= dials[-1] - dials[1] < 2  # 0.02 + 0.04 + 0.08 + 0.16 + 0.32, each halved by chance at most


@pytest.mark.parametrize(("lives", "failures"), [(0.0, 1), (1.2, 0)], ids=["dropped at once", "lasted"])
async def test_a_session_that_served_nobody_counts_as_a_failure_unless_it_lasted(lives: float, failures: int) -> None:
    async def leave(_socket: ServerConnection) -> None:
        await asyncio.sleep(lives)

    async with scripted(leave) as url:
        client = Client(url, reconnect=Backoff(first=1, cap=1))
        await client.connect()
        await client.wait_for_state(SessionState.RECONNECTING, timeout=5)
        await anyio.wait_all_tasks_blocked()  # the pause before the redial, at least 0.5 s, has begun
        assert client._session._failures == failures
        await client.close()


async def test_an_answer_resets_the_backoff() -> None:
    dials: list[float] = []

    async def answer_one(socket: ServerConnection) -> None:
        dials.append(asyncio.get_running_loop().time())
        await socket.send(reply(await socket.recv()))

    async with scripted(answer_one) as url, Client(url, reconnect=Backoff(first=0.02, cap=100), timeout=5) as client:
        for _ in range(15):  # without the reset the last pause alone would be minutes
            await client.call("F")
        assert client.stats.reconnects >= 14
    assert len(dials) >= 15


async def test_a_refusal_by_the_gateway_resets_no_backoff() -> None:
    async def refuse_one(socket: ServerConnection) -> None:
        number = json.loads(await socket.recv())["i"]
        await socket.send(f'{{"m":5,"i":{number},"n":"F","o":"Endpoint Not Found"}}')

    async with scripted(refuse_one) as url, Client(url, reconnect=SOON, timeout=5) as client:
        for failures in range(1, 4):
            with pytest.raises(CallRejected):
                await client.call("F")
            await client.wait_for_state(SessionState.RECONNECTING, timeout=5)
            await client.wait_for_state(SessionState.READY, timeout=5)
            assert client._session._failures == failures


async def test_a_refused_login_is_tried_once_and_is_final(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url, Password("alice", "a wrong password"), reconnect=SOON)
    with pytest.raises(AuthenticationFailed, match="Invalid username or password"):
        await client.connect()
    assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser"]
    assert client.state is SessionState.FAILED
    with pytest.raises(AuthenticationFailed, match="^Ping was not sent: the exchange refused the login") as caught:
        await client.call("Ping")
    assert (caught.value.locked, caught.value.requires_two_factor, caught.value.function) == (False, False, "Ping")
    await client.close()


async def test_a_login_refused_at_a_reconnect_fails_the_calls_that_wait_and_is_tried_once() -> None:
    logins = 0

    async def refuse_later(socket: ServerConnection) -> None:
        nonlocal logins
        login = await socket.recv()
        logins += 1
        if logins > 1:
            await socket.send(reply(login, '{"authenticated":false,"locked":true,"errormsg":"User is locked"}'))
            await answer_all(socket)
        await socket.send(reply(login, '{"Authenticated":true,"User":{"UserId":1}}'))
        await socket.recv()
        socket.transport.abort()

    async with scripted(refuse_later) as url, Client(url, ALICE, reconnect=SOON, timeout=5) as client:
        with pytest.raises(ConnectionLost):
            await client.call("F")
        waiting = [asyncio.create_task(client.call("G")) for _ in range(3)]
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, AuthenticationFailed)
            assert outcome.locked
            assert outcome.function == "G"
        with pytest.raises(AuthenticationFailed):
            await client.call("H")
        assert logins == 2


async def test_a_gateway_that_takes_logins_and_drops_sessions_is_dialled_ever_more_slowly() -> None:
    logins: list[float] = []
    enough = asyncio.Event()

    async def drop(socket: ServerConnection) -> None:
        await socket.send(reply(await socket.recv(), '{"Authenticated":true}'))
        logins.append(asyncio.get_running_loop().time())
        if len(logins) == 6:
            enough.set()

    async with scripted(drop) as url, Client(url, ALICE, reconnect=Backoff(first=0.01, cap=10)):
        await enough.wait()
    assert logins[-1] - logins[0] >= 0.31


async def test_a_login_answered_in_a_shape_that_nobody_knows_is_final_and_shows_nothing_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logins = 0

    async def mumble(socket: ServerConnection) -> None:
        nonlocal logins
        async for login in socket:
            logins += 1
            await socket.send(reply(login, '{"SessionToken":"a-session-token","Authenticated":true,"x":NaN}'))

    async with scripted(mumble) as url:
        client = Client(url, ALICE, reconnect=SOON)
        with pytest.raises(
            AuthenticationFailed, match="^the login was answered in a shape that nobody knows$"
        ) as caught:
            await client.connect()
        with pytest.raises(AuthenticationFailed):
            await client.call("F")
    assert logins == 1
    assert "a-session-token" not in "".join(traceback.format_exception(caught.value)) + caplog.text


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(302, True), (401, True), (403, True), (404, True)]
    + [(status, False) for status in (200, 408, 425, 429, 500, 502, 503, 504)],
)
async def test_a_handshake_refused_at_a_redial_is_final_unless_the_server_asks_to_come_again(
    status: int, is_final: bool
) -> None:
    dials = 0

    def refuse_the_second(connection: ServerConnection, _request: Request) -> Response | None:
        nonlocal dials
        dials += 1
        return connection.respond(HTTPStatus(status), "") if dials == 2 else None

    async def answer_one(socket: ServerConnection) -> None:
        await socket.send(reply(await socket.recv()))

    async with serve(answer_one, "127.0.0.1", 0, process_request=refuse_the_second) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
        async with Client(url, reconnect=SOON, timeout=5) as client:
            await client.call("F")
            await lost(client)
            if is_final:
                with pytest.raises(NotConnected, match=f"given up: .*HTTP status {status}$"):
                    await client.call("G")
                with pytest.raises(NotConnected):
                    await client.call("H")
                assert (dials, client.state) == (2, SessionState.FAILED)
            else:
                await client.call("G")
                assert dials == 3


async def test_after_close_has_begun_no_call_is_written(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url, ALICE)
    await client.connect()
    closing = asyncio.create_task(client.close())
    call = asyncio.create_task(client.call("Ping"))
    with pytest.raises(NotConnected, match="the client is closed"):
        await call
    await closing
    assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser"]


async def test_a_mistake_inside_is_told_and_leaves_nobody_waiting(
    exchange: SimulatedExchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_args: object, **_options: object) -> None:
        raise LookupError("a mistake")

    client = Client(exchange.url, reconnect=SOON)
    with monkeypatch.context() as patch:
        patch.setattr(Connection, "open", broken)
        with pytest.raises(NotConnected, match="^internal error: LookupError$"):
            await client.connect()
        assert "a mistake" in caplog.text
        assert f"{exchange.url.removesuffix('/WSGateway/')}: session given up" in caplog.messages
        with pytest.raises(NotConnected, match="given up: internal error: LookupError"):
            await client.call("Ping")
    async with client:
        assert await client.call("Ping") == {"msg": "PONG"}


async def test_a_keeper_cancelled_from_outside_leaves_nobody_waiting(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url, timeout=5)
    connecting = asyncio.create_task(client.connect())
    await asyncio.sleep(0)
    assert client._session._keeper is not None
    client._session._keeper.cancel()  # before its first step
    with pytest.raises(NotConnected):
        await connecting
    async with client:
        client._session._keeper.cancel()
        await asyncio.wait({client._session._keeper})
        with pytest.raises(NotConnected, match="given up: its task was cancelled"):
            await client.call("Ping")


async def test_leaving_in_a_cancelled_scope_of_anyio_leaves_nothing(exchange: SimulatedExchange) -> None:
    with anyio.CancelScope() as scope:
        async with Client(exchange.url, ALICE) as client:
            scope.cancel()
            await anyio.sleep(60)
    assert client.state is SessionState.CLOSED
    assert {task.get_name() for task in asyncio.all_tasks() if "aioalphapoint" in task.get_name()} == set()
    async with client:
        assert await client.call("Ping") == {"msg": "PONG"}


async def test_connecting_while_it_closes_waits_for_the_end_of_that() -> None:
    deaf = Deaf()
    async with scripted(deaf) as url:
        client = Client(url)
        await client.connect()
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        connecting = asyncio.create_task(client.connect())
        await asyncio.wait({closing, connecting}, timeout=0.05)
        assert not closing.done()
        assert not connecting.done()
        deaf.hears.set()
        await connecting
        assert closing.done()
        assert client.state is SessionState.READY
        await client.close()


async def test_a_close_called_after_connect_wins_over_it() -> None:
    deaf = Deaf()
    async with scripted(deaf) as url:
        client = Client(url)
        await client.connect()
        first = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(0)
        second = asyncio.create_task(client.close())
        await asyncio.wait({first, connecting, second}, timeout=0.05)
        assert not first.done()
        deaf.hears.set()
        await second
        with pytest.raises(NotConnected, match="^the client was closed before it connected$"):
            await connecting
        await first
        assert client.state is SessionState.CLOSED
        assert await leftovers() == set()


async def test_an_old_connect_that_is_cancelled_does_not_spoil_a_newer_one(exchange: SimulatedExchange) -> None:
    for turns in range(1, 8):
        client = Client(exchange.url, ALICE)
        old = asyncio.create_task(client.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0)
        new = asyncio.create_task(client.connect())
        await asyncio.sleep(0)
        old.cancel()
        await asyncio.wait({old, closing})
        assert old.cancelled() or isinstance(old.exception(), NotConnected)
        assert closing.exception() is None
        await new
        assert await client.call("Ping") == {"msg": "PONG"}
        await client.close()
        assert await leftovers() == set()


async def test_a_close_that_was_itself_cancelled_does_not_spoil_the_next_one() -> None:
    deaf = Deaf()
    async with scripted(deaf) as url:
        client = Client(url)
        for _ in range(2):
            await client.connect()
            closing = asyncio.create_task(client.close())
            await anyio.wait_all_tasks_blocked()
            closing.cancel()
            await asyncio.wait({closing})
            assert closing.cancelled()
            connecting = asyncio.create_task(client.connect())  # waits for the rest of it
            await asyncio.wait({connecting}, timeout=0.05)
            assert not connecting.done()
            deaf.hears.set()
            await connecting
            await asyncio.wait_for(client.close(), 2)
            assert await leftovers() == set()
            deaf.hears.clear()


async def test_a_gateway_that_knows_no_login_refuses_it_for_good() -> None:
    async def gateway(socket: ServerConnection) -> None:
        async for _request in socket:
            await socket.send(f'{{"m":5,"i":2,"n":"AuthenticateUser","o":"{words}"}}')

    for words in ("Endpoint Not Found", "x" * 500_000):
        async with scripted(gateway) as url:
            with pytest.raises(AuthenticationFailed, match=f"^the exchange refused the login: {words[:200]}") as caught:
                await Client(url, ALICE).connect()
        assert len(str(caught.value)) < 300


async def test_a_login_without_an_answer_ends_in_time_as_connect_failed() -> None:
    gone = asyncio.Event()

    async def mute(socket: ServerConnection) -> None:
        await socket.wait_closed()
        gone.set()

    async def hang_up(socket: ServerConnection) -> None:
        await socket.recv()

    async with scripted(mute) as url:
        client = Client(url, ALICE, connect_timeout=0.1)
        with pytest.raises(ConnectFailed, match=r"within 0\.1 s"):
            await client.connect()
        await asyncio.wait_for(gone.wait(), 1)  # the socket is not left open
    async with scripted(black_hole) as url:
        started = asyncio.get_running_loop().time()
        with pytest.raises(ConnectFailed, match=r"within 0\.1 s"):
            await Client(url, ALICE, connect_timeout=0.1).connect()
        assert asyncio.get_running_loop().time() - started < 0.9  # a goodbye alone would take a second
    async with scripted(hang_up) as url:
        with pytest.raises(ConnectFailed, match="the login was not answered"):
            await Client(url, ALICE).connect()


async def test_a_first_connect_that_fails_can_be_tried_again() -> None:
    client = Client("ws://127.0.0.1:1/WSGateway/")
    for _ in range(2):
        with pytest.raises(ConnectFailed, match=r"^cannot connect to ws://127\.0\.0\.1:1: "):
            await client.connect()
        assert client.state is SessionState.FAILED
    with pytest.raises(NotConnected, match="given up: cannot connect"):
        await client.call("F")


async def test_a_call_before_connect_says_what_to_do() -> None:
    with pytest.raises(
        NotConnected, match="^F was not sent: the client is not connected; use `async with client:`"
    ) as caught:
        await Client("ws://127.0.0.1:1/WSGateway/").call("F")
    assert caught.value.function == "F"


async def test_a_client_that_never_connected_can_be_closed_and_says_so() -> None:
    client = Client("ws://127.0.0.1:1/WSGateway/")
    for _ in range(2):
        await client.close()
        assert client.state is SessionState.CLOSED
    with pytest.raises(NotConnected, match="^F was not sent: the client is closed$"):
        await client.call("F")


async def test_a_call_made_while_the_client_connects_waits_for_it(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url, ALICE)
    connecting = asyncio.create_task(client.connect())
    await asyncio.sleep(0)
    assert client.state is SessionState.CONNECTING
    assert await client.call("Ping") == {"msg": "PONG"}
    await connecting
    assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser", "Ping"]
    await client.close()


async def test_a_call_that_waited_for_the_first_connect_in_vain_names_no_trouble_where_there_was_none() -> None:
    async with await asyncio.start_server(handshake_black_hole, "127.0.0.1", 0) as server:
        client = Client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/WSGateway/")
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(0)
        with pytest.raises(NotConnected) as caught:
            await client.call("F", timeout=0.05)
        assert str(caught.value) == "F was not sent: there was no session within 0.05 s"
        assert caught.value.function == "F"
        await client.close()
        with pytest.raises(NotConnected):
            await connecting


async def test_a_client_connects_once_at_a_time_and_again_after_closing(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url)
    for _ in range(3):
        async with client:
            with pytest.raises(RuntimeError, match=r"^this client is connected already: close\(\) it before"):
                await client.connect()
            assert await leftovers() == {"aioalphapoint session"}  # what other tests look for afterwards
            assert await client.call("Ping") == {"msg": "PONG"}
        assert client.state is SessionState.CLOSED
        with pytest.raises(NotConnected, match="^Ping was not sent: the client is closed$"):
            await client.call("Ping")
    assert {arrival.sequence for arrival in exchange.journal} == {2}


async def leftovers() -> set[str]:
    for _ in range(20):  # anyio looks again after a tenth of a second only
        await asyncio.sleep(0)
    await anyio.wait_all_tasks_blocked()
    return {task.get_name() for task in asyncio.all_tasks() if "aioalphapoint" in task.get_name()}


async def black_hole(socket: ServerConnection) -> None:
    """Read nothing and answer nothing, the closing handshake included."""
    socket.transport.pause_reading()
    await asyncio.Event().wait()


class Deaf:
    """A server that reads nothing until it is told to, the closing handshake included."""

    def __init__(self) -> None:
        self.hears = asyncio.Event()

    async def __call__(self, socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        await self.hears.wait()
        socket.transport.resume_reading()
        await socket.wait_closed()


@pytest.mark.parametrize("script", [answer_all, black_hole])
async def test_close_ends_in_two_seconds_from_any_task_twice_with_calls_pending(
    script: Callable[[ServerConnection], Awaitable[None]],
) -> None:
    async with scripted(script) as url:
        client = Client(url, timeout=60)
        await client.connect()
        calls = [asyncio.create_task(client.call("F")) for _ in range(10)] if script is black_hole else []
        await anyio.wait_all_tasks_blocked()
        connection = client._session._connection
        assert connection is not None
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(asyncio.create_task(client.close()) for _ in range(3)))
        await client.close()
        assert asyncio.get_running_loop().time() - started < 2
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionLost] * len(calls)
        assert all("(it was closed on this side)" in str(outcome) for outcome in outcomes)
        assert connection._socket.connection_lost_waiter.done()
        assert await leftovers() == set()


async def test_calls_that_wait_for_a_session_end_when_the_client_is_closed() -> None:
    async with scripted(answer_all) as url:
        client = Client(url, reconnect=Backoff(first=50, cap=50), timeout=60)
        await client.connect()
    await lost(client)
    waiting = [asyncio.create_task(client.call("F")) for _ in range(10)]
    await anyio.wait_all_tasks_blocked()
    await client.close()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, NotConnected)
        assert str(outcome) == "F was not sent: the client is closed"
    assert await leftovers() == set()


async def handshake_black_hole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize("turns", range(1, 13))
async def test_connecting_can_be_cancelled_and_closed_at_any_moment_and_leaves_nothing(
    exchange: SimulatedExchange, turns: int
) -> None:
    """However far the dial has come, counted in turns of the loop."""
    async with await asyncio.start_server(handshake_black_hole, "127.0.0.1", 0) as server:
        black = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/WSGateway/"
        for url in (black, exchange.url):
            client = Client(url, ALICE)
            connecting = asyncio.create_task(client.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait({connecting})
            assert connecting.cancelled() or connecting.exception() is None
            if connecting.cancelled():
                assert await leftovers() == set()
            await client.close()
            assert client.state is SessionState.CLOSED

            connecting = asyncio.create_task(client.connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            await client.close()
            await asyncio.wait({connecting})
            left = connecting.exception()
            assert isinstance(left, NotConnected | None)
            assert left is None or str(left) == "the client was closed while it connected"
            assert await leftovers() == set()
            with pytest.raises(NotConnected):
                await client.call("Ping")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()


async def test_an_error_inside_the_context_closes_the_client_and_is_not_replaced(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url)
    with pytest.raises(KeyError, match="mine"):
        async with client:
            raise KeyError("mine")
    assert client.state is SessionState.CLOSED
    assert await leftovers() == set()


async def test_the_repr_and_the_stats_tell_what_stands(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url, ALICE)
    host = exchange.url.removesuffix("/WSGateway/")
    assert repr(client) == f"<Client {host} idle, 0 in flight>"
    async with client:
        await client.call("Ping")
        before = client.stats
        await client.call("Ping")
        assert repr(client) == f"<Client {host} ready, user 1, 0 in flight>"
        assert (before.sent, client.stats.sent, client.stats.replies) == (2, 3, 3)
        assert client.identity is not None
        assert (client.identity.user_id, client.identity.account_id, client.identity.oms_id) == (1, 7, 1)
    assert repr(client) == f"<Client {host} closed, user 1, 0 in flight>"


async def test_a_connect_that_failed_says_why_though_somebody_connects_anew_in_the_same_moment() -> None:
    async with SimulatedExchange() as exchange:
        client = Client(exchange.url)
        with exchange.faults.refuse_dial():
            first = asyncio.create_task(client.connect())
            while client.state is not SessionState.FAILED:
                await asyncio.sleep(0)  # each turn of the loop, to be there before the first one learns of it
            assert not first.done()
            second = asyncio.create_task(client.connect())
            outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectFailed, ConnectFailed]
        await client.connect()
        await client.close()
