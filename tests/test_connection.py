"""One socket: what its reader and its writer promise, and the assumptions about websockets that they stand on."""

import asyncio
import base64
import hashlib
import logging
import socket as sockets
from collections.abc import AsyncIterator

import anyio
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from aioalphapoint import CallNotSent, CallTimeout, Client, ConnectFailed, ConnectionLost, Password
from aioalphapoint.testing import SimulatedExchange
from scripted import GOOD, answer_all, reply, scripted


def test_websockets_still_has_what_the_reader_overrides() -> None:
    assert callable(ClientConnection.process_event)
    assert set(Opcode) == {Opcode.CONT, Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG}
    assert Frame(Opcode.TEXT, b"x").fin


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
        await answer_all(socket)

    async with scripted(fragment) as url, Client(url, timeout=5) as client:
        await client.call("F")
        await client.call("F")
        assert (client.stats.replies, client.stats.dropped_frames) == (2, 1)


async def test_a_message_beyond_the_bound_ends_the_connection_and_not_the_session() -> None:
    payload = '{"result":true,"detail":"' + "x" * 2000 + '"}'

    async def large(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(reply(request, GOOD if "Small" in str(request) else payload))

    async with scripted(large) as url, Client(url, timeout=5, max_message_size=2000) as client:
        with pytest.raises(ConnectionLost, match="the server broke the protocol: .*2000"):
            await client.call("Large")
        await client.call("Small")
        assert client.stats.reconnects == 1
    async with scripted(large) as url, Client(url, timeout=5, max_message_size=4000) as client:
        await client.call("Large")


async def test_a_connection_that_takes_no_bytes_delays_calls_and_reports_them_as_not_sent() -> None:
    """Back-pressure: what was handed to the socket is unknown, what still waited for it was not sent."""
    leave = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = (await reader.readuntil(b"\r\n\r\n")).split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        writer.write(_handshake(key))
        await writer.drain()
        await leave.wait()
        writer.transport.abort()

    listener = sockets.create_server(("127.0.0.1", 0))
    listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    async with await asyncio.start_server(deaf, sock=listener) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/WSGateway/"
        async with Client(url, reconnect=None) as client:
            blob = {"blob": "x" * 500_000}
            results = await asyncio.gather(
                *(client.call("F", blob, timeout=1.0) for _ in range(30)), return_exceptions=True
            )
            sent = client.stats.sent
            assert 0 < sent < 30
            assert [type(result) for result in results] == [CallTimeout] * sent + [CallNotSent] * (30 - sent)
            assert str(results[-1]) == "F was not sent: the connection took no bytes for 1 s"
            waiting = asyncio.create_task(client.call("G", timeout=60))
            await anyio.wait_all_tasks_blocked()
            started = asyncio.get_running_loop().time()
            await client.close()
            assert asyncio.get_running_loop().time() - started < 2
            with pytest.raises(CallNotSent):
                await waiting
        leave.set()


def _handshake(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


async def test_a_write_that_fails_half_way_leaves_the_outcome_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(answer_all) as url, Client(url, timeout=5) as client:
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


async def test_no_frame_is_logged_at_any_level(caplog: pytest.LogCaptureFixture, exchange: SimulatedExchange) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client(exchange.url, Password("alice", "a password of alice")) as client:
        await client.call("Ping")
    assert "a password of alice" not in caplog.text
    assert "Ping" not in caplog.text


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
