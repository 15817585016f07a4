"""The exchange of the benchmark: a server that does next to nothing, in a process and on a core of its own.

All frames that one read brings are answered by one write. `SimulatedExchange` follows every rule of a real one and
would be what is measured.

What a call is called decides what it is answered with; whatever is not listed here gets a standard response. On the
path `/mute/` only a login is answered.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from websockets.http11 import Request
from websockets.server import ServerProtocol

from .program import Answer, Commands, Settings, serve
from .tickets import listing, ticket

__all__: list[str] = []

_CALL = re.compile(rb'"i": ?(\d+), ?"n": ?"(\w+)"')  # simplejson writes blanks
_LIMIT = re.compile(rb'Limit\\": ?(\d+)')
_CODE = re.compile(rb'RequestCode\\": ?\\"([\w-]+)')
_STORM = re.compile(rb'Bursts\\":(\d+),\\"Size\\":(\d+),\\"Every\\":([\d.]+)')

_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A
_SHORT, _MEDIUM = 126, 2**16  # bytes from which on a frame's length takes two bytes more, or eight


def _quoted(text: str) -> bytes:
    return json.dumps(text).encode()


_ACCEPTED = _quoted('{"result":true,"errormsg":null,"errorcode":0,"detail":null}')
_PONGED = _quoted('{"msg":"PONG"}')
_SUBSCRIBED = _quoted('{"Subscribed":true}')
_LOGIN = _quoted(
    '{"Authenticated":true,"SessionToken":"6f8b0ef7-3a5c-4b0e-9d5b-0d6f0f8ee6c1","User":{"UserId":96,'
    '"UserName":"alice","Email":"alice@example.com","EmailVerified":true,"AccountId":7,"OMSId":1,"Use2FA":false},'
    '"Locked":false,"Requires2FA":false,"EnforceEnable2FA":false,"TwoFAType":null,"TwoFAToken":null,"errormsg":null}'
)
_EVENT = (
    b'{"m":3,"i":2,"n":"Level1UpdateEvent","o":"{\\"OMSId\\":1,\\"InstrumentId\\":1,\\"BestBid\\":6423.57,'
    b'\\"BestOffer\\":6436.53,\\"LastTradedPx\\":6423.57,\\"LastTradedQty\\":0.96183964,'
    b'\\"LastTradeTime\\":1534862990343,\\"SessionOpen\\":6249.64,\\"SessionHigh\\":11111.0}"}'
)


def _framed(body: bytes, kind: int = _TEXT) -> bytes:
    size = len(body)
    if size < _SHORT:
        return bytes((kind, size)) + body
    if size < _MEDIUM:
        return bytes((kind, 126)) + size.to_bytes(2, "big") + body
    return bytes((kind, 127)) + size.to_bytes(8, "big") + body


@functools.cache
def _listing(count: int) -> bytes:
    return _quoted(listing(count))


def _tickets(message: bytes) -> bytes:
    limit = _LIMIT.search(message)
    return _listing(int(limit[1]) if limit else 200)


def _ticket(message: bytes) -> bytes:
    code = _CODE.search(message)
    return _quoted(ticket(code[1].decode() if code else ""))


_ANSWERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"AuthenticateUser": lambda _: _LOGIN,
    b"GetWithdrawTicket": _ticket,
    b"GetWithdrawTickets": _tickets,
    b"Ping": lambda _: _PONGED,
    b"SubscribeAccountEvents": lambda _: _SUBSCRIBED,
}


def _accept(_: bytes) -> bytes:
    return _ACCEPTED


class _Guest(asyncio.Protocol):
    """One connection."""

    def __init__(self, guests: set[_Guest]) -> None:
        self._guests = guests
        self._handshake: ServerProtocol | None = ServerProtocol()
        self._is_mute = False
        self._unread = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # for the type checker
        self._transport = transport
        self._guests.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._guests.discard(self)

    def cut(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._handshake is not None:
            self._shake_hands(self._handshake, data)
            return
        data, position, answers = self._unread + data, 0, []
        while (frame := _frame(data, position)) is not None:
            kind, body, position = frame
            answers.append(self._answer(kind, body))
        self._unread = data[position:]
        self._transport.write(b"".join(answers))

    def _shake_hands(self, handshake: ServerProtocol, data: bytes) -> None:
        handshake.receive_data(data)
        for request in handshake.events_received():
            assert isinstance(request, Request)  # nothing else comes before the response
            handshake.send_response(handshake.accept(request))
            self._is_mute = request.path.startswith("/mute/")
            self._transport.write(b"".join(handshake.data_to_send()))
            self._handshake = None

    def _answer(self, kind: int, message: bytes) -> bytes:
        if kind == _PING:
            return _framed(message, _PONG)
        if kind == _CLOSE:
            # Closed by the time that the answer is written.
            asyncio.get_running_loop().call_soon(self._transport.close)
            return _framed(message, _CLOSE)
        call = _CALL.search(message)
        if call is None:
            return b""
        number, function = call.groups()
        if function == b"Storm":
            self._storm(number, message)
            return b""
        if self._is_mute and function != b"AuthenticateUser":
            return b""
        return _reply(number, function, _ANSWERS.get(function, _accept)(message))

    def _storm(self, number: bytes, message: bytes) -> None:
        """Send bursts of events at a steady pace, and answer after the last one."""
        order = _STORM.search(message)
        assert order is not None  # one who calls a storm knows how
        bursts, size, every = int(order[1]), int(order[2]), float(order[3])
        loop = asyncio.get_running_loop()
        burst, started, sent = _framed(_EVENT) * size, loop.time(), 0

        def blow() -> None:
            nonlocal sent
            due = min(bursts, int((loop.time() - started) / every) + 1)
            self._transport.write(burst * (due - sent))
            sent = due
            if sent < bursts:
                loop.call_at(started + sent * every, blow)
            else:
                self._transport.write(_reply(number, b"Storm", _ACCEPTED))

        blow()


def _frame(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    """Read the masked frame that begins there: its first byte, what it holds, and where the next one begins."""
    if len(data) < start + 2:
        return None
    size, head = data[start + 1] & 127, start + 2
    if size == 126:  # noqa: PLR2004  (RFC 6455, section 5.2)
        size, head = int.from_bytes(data[head : head + 2], "big"), head + 2
    elif size == 127:  # noqa: PLR2004
        size, head = int.from_bytes(data[head : head + 8], "big"), head + 8
    end = head + 4 + size
    if len(data) < end:
        return None
    mask = data[head : head + 4] * (size // 4 + 1)
    body = int.from_bytes(data[head + 4 : end], "big") ^ int.from_bytes(mask[:size], "big")
    return data[start], body.to_bytes(size, "big"), end


def _reply(number: bytes, function: bytes, payload: bytes) -> bytes:
    return _framed(b'{"m":1,"i":%b,"n":"%b","o":%b}' % (number, function, payload))


class _Exchange:
    """The listening sockets, which can go away and come back."""

    def __init__(self, settings: Settings) -> None:
        self._guests: set[_Guest] = set()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(settings.certificate)
        self._servers: list[asyncio.Server] = []
        self._ports = (0, 0)

    async def listen(self) -> Answer:
        """Listen; again on the same ports, if it has gone away."""
        loop = asyncio.get_running_loop()
        contexts = zip((None, self._tls), self._ports, strict=True)
        self._servers = [
            await loop.create_server(lambda: _Guest(self._guests), "127.0.0.1", port, ssl=tls) for tls, port in contexts
        ]
        self._ports = tuple(server.sockets[0].getsockname()[1] for server in self._servers)
        return {"port": self._ports[0], "tls_port": self._ports[1], "when": time.monotonic()}

    async def leave(self) -> Answer:
        """Cut every connection and stop listening."""
        for server in self._servers:
            server.close()
        for guest in list(self._guests):
            guest.cut()
        await asyncio.sleep(0)
        return {}


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    exchange = _Exchange(settings)
    yield {"listen": exchange.listen, "leave": exchange.leave}
    await exchange.leave()


if __name__ == "__main__":
    serve(_program)
