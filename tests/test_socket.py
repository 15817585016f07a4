"""The socket: what it makes of a stream that is cut in odd places, and of what comes when nothing should any more."""

import asyncio
from collections.abc import Callable, Iterable

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode

from aioalphapoint import Client, ConnectFailed, _socket
from aioalphapoint._socket import Socket
from scripted import answer_all, raw, scripted

EVENT = Frame(Opcode.TEXT, f'{{"m":3,"i":2,"n":"E","o":"Á"{" " * 40}}}'.encode()).serialize(mask=False)


# Behind the first byte of a letter whose second one looks like the begin of a frame, too.
INSIDE_A_LETTER = EVENT.index("Á".encode()) + 1

Cut = Callable[[bytes, int], Iterable[bytes]]
"""Gives the pieces of what a server says first; its handshake ends at the index."""


async def check_that_both_events_arrive(monkeypatch: pytest.MonkeyPatch, cut: Cut) -> None:
    """Let a server say two events with its handshake, and all of it come in the pieces of `cut`."""
    over = asyncio.Event()
    held = bytearray()
    receive = Socket.data_received

    def recut(socket: Socket, data: bytes) -> None:
        held.extend(data)
        end = held.find(b"\r\n\r\n") + 4
        if len(held) - end < 2 * len(EVENT):
            return
        everything = bytes(held)
        held.clear()
        for piece in cut(everything, end):
            receive(socket, piece)

    async def speak_first(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENT * 2)
        await over.wait()

    monkeypatch.setattr(Socket, "data_received", recut)
    async with raw(speak_first) as url, Client(url) as client:
        assert (client.stats.events, client.stats.dropped_frames) == (2, 0)
        over.set()


@pytest.mark.parametrize(
    "place", [INSIDE_A_LETTER, -40, -4, -3, -1, 0, 1, 2, 30, len(EVENT) - 1, len(EVENT), len(EVENT) + 1]
)
async def test_what_comes_in_the_segment_of_the_handshake_arrives_wherever_it_is_cut(
    monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    await check_that_both_events_arrive(monkeypatch, lambda data, end: (data[: end + place], data[end + place :]))


async def test_a_handshake_that_comes_byte_by_byte_puts_nothing_out_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end comes together with an event and the begin of the next one, cut where its rest looks like a frame."""

    def drip(data: bytes, end: int) -> Iterable[bytes]:
        place = end + len(EVENT) + INSIDE_A_LETTER
        return (*(data[index : index + 1] for index in range(end - 1)), data[end - 1 : place], data[place:])

    monkeypatch.setattr(_socket, "_MOST_LINES", 10)  # there are five, in more than a hundred pieces
    await check_that_both_events_arrive(monkeypatch, drip)


async def test_a_refusal_with_a_body_of_empty_lines_is_not_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = 0
    receive = ClientConnection.data_received

    def counted(socket: ClientConnection, data: bytes) -> None:
        nonlocal pieces
        pieces += 1
        receive(socket, data)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100000\r\n\r\n" + b"\n" * 100_000)
        await writer.drain()
        writer.close()

    monkeypatch.setattr(ClientConnection, "data_received", counted)
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectFailed, match="HTTP status 403"):
            await Client(f"ws://127.0.0.1:{port}/").connect()
    assert pieces < 200


async def test_after_a_close_frame_nothing_is_heard_any_more() -> None:
    async with scripted(answer_all) as url, Client(url) as client:
        await client.call("F")
        connection = client._session._connection
        assert connection is not None
        connection._socket.data_received(EVENT + b"\x88\x02\x03\xe8" + EVENT * 2)
        assert client.stats.events == 1
        assert not connection.is_open
        await client.call("F")  # on the next one
        assert client.stats.reconnects == 1
