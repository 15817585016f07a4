"""One socket: what its reader and its writer promise, and the assumptions about websockets that they stand on."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from aioalphapoint import (
    CallNotSent,
    CallTimeout,
    Client,
    ConnectFailed,
    ConnectionLost,
    Event,
    Password,
    SessionState,
    _connection,
    _socket,
)
from aioalphapoint.testing import SimulatedExchange
from conftest import SOON
from scripted import GOOD, answer_all, raw, reply, scripted


async def test_websockets_hands_each_frame_to_the_reader_in_order_while_its_bytes_are_received() -> None:
    """What the reader stands on, and websockets does not document."""
    assert callable(ClientConnection.process_event)
    async with scripted(answer_all) as url, Client(url) as client:
        connection = client._session._connection
        assert connection is not None
        frames = [Frame(Opcode.TEXT, f'{{"m":3,"i":2,"n":"E","o":"{number}"}}'.encode()) for number in range(3)]
        with client.events() as events:
            connection._socket.data_received(b"".join(frame.serialize(mask=False) for frame in frames))
            assert client.stats.events == 3  # in this very moment: no queue, and no task, stands between
            assert [await anext(events) for _ in range(3)] == [Event("E", number) for number in "012"]
        await client.call("F")


async def test_a_goodbye_says_that_all_is_well_and_until_then_there_is_no_reason_for_an_end() -> None:
    codes: list[int | None] = []
    left = asyncio.Event()

    async def stay(socket: ServerConnection) -> None:
        await socket.wait_closed()
        codes.append(socket.close_code)
        left.set()

    async with scripted(stay) as url:
        async with Client(url) as client:
            connection = client._session._connection
            assert connection is not None
            assert await connection.wait_ended(timeout=0) == ""
        await left.wait()
        assert codes == [1000]
        assert await connection.wait_ended(timeout=0) == "it was closed on this side"


async def test_the_limits_and_pings_of_websockets_are_off_where_ours_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone it would end a dial after 10 s, ping every 20 s, and wait 10 s for a goodbye."""
    dials: list[_socket.Dial] = []

    class Noted(_socket.Dial):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            dials.append(self)

    monkeypatch.setattr(_connection, "Dial", Noted)
    async with scripted(answer_all) as url, Client(url) as client:
        connection = client._session._connection
        assert connection is not None
        assert [dial.open_timeout for dial in dials] == [None]
        assert connection._socket.ping_interval is None
        assert connection._socket.close_timeout == _connection._CLOSE_TIMEOUT


async def test_a_failure_without_words_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_arguments: object, **_options: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fail)
    with pytest.raises(ConnectFailed, match=r"^cannot connect to ws://127\.0\.0\.1:1: ConnectionResetError$"):
        await Client("ws://127.0.0.1:1/WSGateway/").connect()


async def test_a_transport_that_never_tells_its_end_holds_no_close_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _connection._CLOSE_TIMEOUT + _connection._ABORT_TIMEOUT < 2  # what `Client.close` promises
    for name in ("_CLOSE_TIMEOUT", "_ABORT_TIMEOUT"):
        monkeypatch.setattr(_connection, name, 0.02)
    over = asyncio.Event()

    async def deaf(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await over.wait()

    async with raw(deaf) as url:
        client = Client(url)
        await client.connect()
        connection = client._session._connection
        assert connection is not None
        transport = connection._socket.transport
        with monkeypatch.context() as patch:
            patch.setattr(transport, "abort", lambda: None)
            await asyncio.wait_for(client.close(), 1)
        assert not connection._socket.connection_lost_waiter.done()
        transport.abort()
        await connection._socket.connection_lost_waiter
        over.set()


async def test_no_compression_is_offered_and_no_proxy_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "ws_proxy", "all_proxy", "socks_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    headers: list[str] = []

    async def note(socket: ServerConnection) -> None:
        assert socket.request is not None
        headers.extend(key for key, _ in socket.request.headers.raw_items())
        await answer_all(socket)

    async with scripted(note) as url:
        async with Client(url) as client:
            await client.call("F")
        assert "Upgrade" in headers
        assert "Sec-WebSocket-Extensions" not in headers
        with pytest.raises(ConnectFailed):
            await Client(url, proxy=True).connect()


async def test_a_large_payload_to_a_server_that_reads_is_no_sign_of_a_dead_one() -> None:
    async def tell(socket: ServerConnection) -> None:
        for _ in range(5):
            await socket.send('{"m":3,"i":2,"n":"E","o":""}')
        await answer_all(socket)

    async with scripted(tell, max_size=2**26) as url, Client(url, timeout=30) as client:
        big = asyncio.create_task(client.call("Big", {"blob": "x" * 20 * 2**20}))
        await client.call("Small")
        await big
        assert client.stats.reconnects == 0


NOISE: dict[str, list[str | bytes]] = {
    "not JSON": ["hello", '{"m":1,'],
    "list": ["[]", '[1,2,"F","{}"]'],
    "number": ["42"],
    "missing keys": ["{}", '{"i":2,"n":"F","o":"{}"}', '{"m":1,"i":2,"n":"F"}', '{"m":1,"n":"F","o":"{}"}'],
    "i as text": ['{"m":1,"i":"2","n":"F","o":"{}"}'],
    "i as float": ['{"m":1,"i":2.0,"n":"F","o":"{}"}'],
    "i as true": ['{"m":1,"i":true,"n":"F","o":"{}"}'],
    "i as null": ['{"m":1,"i":null,"n":"F","o":"{}"}'],
    "i beyond int64": ['{"m":1,"i":9223372036854775808,"n":"F","o":"{}"}'],
    "nesting": ["[" * 100_000, '{"m":1,"i":2,"n":"F","o":' + "[" * 100_000 + "]" * 100_000 + "}"],
    "NaN": ["NaN", '{"m":1,"i":NaN,"n":"F","o":"{}"}', '{"m":1,"i":2,"n":"F","o":NaN}'],
    "binary": [b"\x00\x01", b'{"m":1,"i":2,"n":"F","o":"{}"}'],
    "empty": [""],
    "unknown number": ['{"m":1,"i":4,"n":"F","o":"{}"}', '{"m":5,"i":0,"n":"F","o":"no"}'],
    "request": ['{"m":0,"i":2,"n":"F","o":"{}"}'],
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE.keys())
async def test_noise_before_a_good_reply_harms_nobody(noise: list[str | bytes]) -> None:
    async def noisy(socket: ServerConnection) -> None:
        async for request in socket:
            for message in noise:
                await socket.send(message)
            await socket.send(reply(request))

    async with scripted(noisy) as url, Client(url, timeout=5) as client:
        assert (await client.cancel_failed_withdraw_ticket(ticket_id=292)).is_accepted
        assert client.stats.dropped_frames == len(noise)
        assert (client.stats.replies, client.stats.reconnects, client.stats.in_flight) == (1, 0, 0)


async def test_an_event_with_the_pending_calls_number_does_not_answer_it() -> None:
    async def eventful(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send('{"m":3,"i":2,"n":"CancelFailedWithdrawTicket","o":"{\\"result\\":false}"}')
            await socket.send(reply(request))

    async with scripted(eventful) as url, Client(url, timeout=5) as client:
        assert (await client.cancel_failed_withdraw_ticket(ticket_id=292)).is_accepted
        assert (client.stats.events, client.stats.replies, client.stats.dropped_frames) == (1, 1, 0)


async def test_a_reply_in_fragments_with_a_ping_between_them_is_one_reply() -> None:
    async def fragment(socket: ServerConnection) -> None:
        request = await socket.recv()
        text = reply(request)

        async def pieces() -> AsyncIterator[str]:
            yield text[:1]
            await socket.ping()
            for letter in text[1:]:
                yield letter

        await socket.send(pieces())
        await socket.send(iter([b"\x00", b"\x01"]))  # binary fragments are dropped as one message
        await socket.send(iter(reply(await socket.recv())))
        await answer_all(socket)

    async with scripted(fragment) as url, Client(url, timeout=5) as client:
        for _ in range(3):
            await client.call("F")
        assert (client.stats.replies, client.stats.dropped_frames) == (3, 1)


async def test_a_message_beyond_the_bound_ends_the_connection_and_not_the_session() -> None:
    payload = '{"result":true,"detail":"' + "x" * 2000 + '"}'

    async def large(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(reply(request, GOOD if "Small" in str(request) else payload))

    async with scripted(large) as url, Client(url, reconnect=SOON, timeout=5, max_message_size=2000) as client:
        with pytest.raises(ConnectionLost, match="the server broke the protocol: .*2000"):
            await client.call("Large")
        await client.call("Small")
        assert client.stats.reconnects == 1
    async with scripted(large) as url, Client(url, timeout=5, max_message_size=4000) as client:
        await client.call("Large")


async def test_a_connection_that_takes_no_bytes_delays_calls_and_reports_them_as_not_sent() -> None:
    """Back-pressure: what was handed to the socket is unknown, what still waited for it was not sent."""

    async def deaf(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with raw(deaf) as url, Client(url, reconnect=None) as client:
        blob = {"blob": "x" * 500_000}
        results = await asyncio.gather(
            *(client.call("F", blob, timeout=0.3) for _ in range(30)), return_exceptions=True
        )
        sent = client.stats.sent
        assert 0 < sent < 30
        assert [type(result) for result in results] == [CallTimeout] * sent + [CallNotSent] * (30 - sent)
        assert str(results[-1]) == "F was not sent: its 0.3 s were over before the connection took it"
        assert isinstance(results[-1], CallNotSent)
        assert results[-1].function == "F"
        waiting = asyncio.create_task(client.call("G", timeout=60))
        await anyio.wait_all_tasks_blocked()
        started = asyncio.get_running_loop().time()
        await client.close()
        assert asyncio.get_running_loop().time() - started < 2
        with pytest.raises(CallNotSent):
            await waiting


async def test_a_call_held_back_goes_out_once_the_connection_takes_bytes_again() -> None:
    read_on, read_all, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_on.wait()
        received = 0
        while received < 30 * 500_000:
            received += len(await reader.read(2**20))
        read_all.set()
        await over.wait()

    async with raw(slow) as url, Client(url, reconnect=None) as client:
        first = [asyncio.create_task(client.call("F", {"blob": "x" * 500_000}, timeout=60)) for _ in range(30)]
        await anyio.wait_all_tasks_blocked()
        assert client.stats.sent < 30
        read_on.set()
        await read_all.wait()
        assert client.stats.sent == 30
        over.set()
        await client.close()
        assert {type(error) for error in await asyncio.gather(*first, return_exceptions=True)} == {ConnectionLost}


async def test_a_socket_half_closed_under_a_full_buffer_is_lost_at_once_and_replaced() -> None:
    """asyncio loses such a transport without a word; an abort of it raises AttributeError."""
    connections = 0

    async def half_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await over.wait()
            return
        await full.wait()
        writer.write_eof()
        await lost.wait()
        while await reader.read(2**20):
            pass

    full, lost, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with raw(half_close) as url, Client(url, reconnect=SOON) as client:
        call = asyncio.create_task(client.call("Big", {"blob": "x" * 2**23}, timeout=60))
        await anyio.wait_all_tasks_blocked()
        full.set()
        with pytest.raises(ConnectionLost, match="no close frame"):
            await call
        lost.set()
        with pytest.raises(CallTimeout):
            await client.call("Small", timeout=0.5)
        assert (connections, client.state) == (2, SessionState.READY)
        over.set()


async def test_a_server_that_pings_and_never_reads_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_socket, "_MOST_UNREAD", 2**18)

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write((b"\x89\x7d" + b"p" * 125) * 500)
            await writer.drain()

    async with raw(flood) as url, Client(url, reconnect=None) as client:
        with pytest.raises(ConnectionLost, match=r"\(the server does not read\)"):
            await client.call("F", timeout=30)


async def test_a_call_made_before_the_loss_of_its_transport_is_told_goes_out_on_the_next_connection() -> None:
    async with scripted(answer_all) as url, Client(url, timeout=5, reconnect=SOON) as client:
        await client.call("F")
        connection = client._session._connection
        assert connection is not None
        connection._socket.transport.abort()  # as asyncio does in trouble: the loss is told a turn of the loop later
        await client.call("G")
        assert (client.stats.sent, client.stats.replies, client.stats.reconnects) == (2, 2, 1)


async def test_a_write_that_fails_half_way_leaves_the_outcome_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(answer_all) as url, Client(url, timeout=5, reconnect=SOON) as client:
        await client.call("F")
        connection = client._session._connection
        assert connection is not None

        class Broken:
            """A transport that lets half of a frame out before it fails."""

            def __init__(self, transport: asyncio.Transport) -> None:
                self.transport = transport

            def __getattr__(self, name: str) -> object:
                return getattr(self.transport, name)

            def write(self, data: bytes) -> None:
                self.transport.write(data[: len(data) // 2])
                raise RuntimeError("the wire is cut")

        monkeypatch.setattr(connection._socket, "transport", Broken(connection._socket.transport))
        with pytest.raises(ConnectionLost, match="writing failed: the wire is cut"):
            await client.call("G")
        await client.call("H")
        assert (client.stats.reconnects, client.stats.sent, client.stats.in_flight) == (1, 3, 0)


async def test_a_proxy_that_hangs_up_is_connect_failed_and_nothing_else() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectFailed):
            await Client("wss://exchange.example.com/WSGateway/", proxy=proxy).connect()
    assert complaints == []


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("ws://127.0.0.1/WSGateway/", "http://me:a-proxy-secret@127.0.0.1:1/path"),
        ("ws://127.0.0.1/WSGateway/", "http://127.0.0.1:99999"),
        ("ws://127.0.0.1/WSGateway/", "socks5://127.0.0.1:1"),
        ("ws://" + "a" * 70 + ".example.com/WSGateway/", None),
        ("ws://b\u00fccher..example.com/WSGateway/", None),
    ],
)
async def test_an_address_that_cannot_be_dialled_is_connect_failed_without_its_secrets(
    url: str, proxy: str | None
) -> None:
    client = Client(url, proxy=proxy)
    with pytest.raises(ConnectFailed, match="^cannot connect to ws://") as caught:
        await client.connect()
    assert "a-proxy-secret" not in "".join(traceback.format_exception(caught.value))
    assert client.state is SessionState.FAILED


async def test_websockets_logs_no_frame_at_any_level(
    caplog: pytest.LogCaptureFixture, exchange: SimulatedExchange
) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client(exchange.url, Password("alice", "a password of alice")) as client:
        await client.call("Ping")
    assert "a password of alice" not in caplog.text
    assert {record.name for record in caplog.records if "Ping" in record.message} == {"aioalphapoint.wire"}


@pytest.mark.parametrize("status", [302, 403, 404, 503])
async def test_a_refused_handshake_tells_the_status_and_a_redirect_is_not_followed(status: int) -> None:
    followed = asyncio.Event()

    async def elsewhere(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        followed.set()
        writer.close()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        location = f"ws://127.0.0.1:{other.sockets[0].getsockname()[1]}/"
        writer.write(f"HTTP/1.1 {status} No\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(elsewhere, "127.0.0.1", 0) as other,
        await asyncio.start_server(refuse, "127.0.0.1", 0) as server,
    ):
        port = server.sockets[0].getsockname()[1]
        client = Client(f"ws://127.0.0.1:{port}/WSGateway/?token=not-for-logs")
        sentence = f"^ws://127.0.0.1:{port} refused the WebSocket handshake with HTTP status {status}$"
        with pytest.raises(ConnectFailed, match=sentence) as caught:
            await client.connect()
        assert caught.value.status == status
        assert not followed.is_set()
