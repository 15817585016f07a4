"""One socket, from its dial to its end: its reader, its writer, and its futures table.

A connection dies once and takes its table with it. It knows nothing of logins, of redials, or of what a
function means.

Invariants:

* A call is registered, written, waited for, forgotten, in this order. Between the last look at whether the
  socket takes bytes and the write there is no await, so the line between "not sent" and "sent" is exact.
* Nothing that the server sends can raise here: what is no frame is counted and dropped.
* The connection has ended as soon as no reply can come any more (a close frame, the end of the stream, a
  protocol error, a lost transport), not when the closing handshake is through. In that moment all pending
  calls fail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from ._envelope import BadEnvelope, Envelope, MessageType, decode, encode
from ._logging import WithoutFrames
from ._pending import PendingCalls
from .errors import CallNotSent, ConnectFailed, ConnectionLost
from .stats import Stats

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.protocol import Event

__all__ = ["Connection", "ConnectionEnded"]

_log = WithoutFrames(logging.getLogger("aioalphapoint"), {})

# What a polite goodbye may take before the socket is cut, and what the loop may take to tell us that it is
# cut, in seconds. Together they stay under the 2 s in which `Client.close` promises to end.
_CLOSE_TIMEOUT = 1.0
_ABORT_TIMEOUT = 0.5

_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class ConnectionEnded(Exception):
    """The connection ended before the call was written: it may go out on another one."""


class Connection:
    """A WebSocket connection that brings each reply to its call. Made by `open`."""

    def __init__(self, stats: Stats, on_event: Callable[[Envelope], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stats = stats
        self._on_event = on_event
        self._pending = PendingCalls(stats)
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._socket: _Socket

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        host: str,
        stats: Stats,
        on_event: Callable[[Envelope], None],
        max_message_size: int,
        ssl: SSLContext | None,
        proxy: str | bool | None,
    ) -> Connection:
        """Dial and shake hands, without a time limit of its own; cancelling it leaves no socket behind.

        `host` is the part of the address that may stand in an error.

        Raises:
            ConnectFailed: The server could not be reached, or refused the handshake. Redirects are refused:
                they could carry credentials to another host.
        """
        connection = cls(stats, on_event)

        def make_socket(protocol: ClientProtocol, **options: Any) -> _Socket:
            connection._socket = _Socket(connection, protocol, **options)
            return connection._socket

        tls: dict[str, Any] = {} if ssl is None else {"ssl": ssl}
        dial = _Dial(
            url,
            # websockets declares a class and documents "a wrapper or a subclass".
            create_connection=cast("type[ClientConnection]", make_socket),
            compression=None,  # the gateways offer none, and it would keep a window of memory per connection
            open_timeout=None,
            close_timeout=_CLOSE_TIMEOUT,
            ping_interval=None,  # gateways answer WebSocket pings even where they answer no call any more
            max_size=max_message_size,
            logger=_log,
            proxy=cast("Any", proxy),
            **tls,
        )
        try:
            await dial
        except InvalidStatus as error:
            status = error.response.status_code
            raise ConnectFailed(
                f"{host} refused the WebSocket handshake with HTTP status {status}", status=status
            ) from error
        except (OSError, EOFError, UnicodeError, WebSocketException) as error:
            raise ConnectFailed(f"cannot connect to {host}: {str(error) or type(error).__name__}") from error
        return connection

    @property
    def is_open(self) -> bool:
        """Whether a frame written now would be handed to the socket."""
        return not self._ended.done() and not self._socket.transport.is_closing()

    @property
    def has_answered(self) -> bool:
        """Whether any call got its reply on this connection."""
        return self._pending.has_answered

    async def call(self, function: str, payload: str, *, deadline: float, timeout: float) -> Envelope:
        """Send one call and wait for its reply. Cancelling it ends this call alone.

        Args:
            function: The exchange's name of the function.
            payload: JSON text.
            deadline: The loop's time, in seconds, when the call ends.
            timeout: The seconds that the caller was promised, for the error's sentence.

        Raises:
            ConnectionEnded: Nothing was sent; another connection may be tried.
            CallNotSent: The deadline came while the socket took no bytes. Nothing was sent.
            OutcomeUnknown: The frame was handed to the socket, and no reply came.
        """
        # Back-pressure comes before the number: a call that gives up here has not been sent.
        while not self._writable.is_set():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._writable.wait()
            except TimeoutError:
                raise CallNotSent(
                    f"{function} was not sent: the connection took no bytes for {timeout:g} s", function=function
                ) from None
        if not self.is_open:
            raise ConnectionEnded
        call = self._pending.register(function, deadline=deadline, timeout=timeout)
        try:
            self._write(encode(Envelope(MessageType.REQUEST, call.sequence, function, payload)))
            return await call.future
        finally:
            self._pending.forget(call)

    async def wait_ended(self) -> str:
        """Wait until no reply can come any more.

        Returns:
            Why, as the end of a sentence.
        """
        await asyncio.wait({self._ended})
        return self._ended.result()

    async def close(self, *, politely: bool = True) -> None:
        """Fail what is pending, say goodbye, and leave within 1.5 s whatever the server does.

        Cancelling it cuts the socket at once.

        Args:
            politely: With the closing handshake. Without it the socket is cut.
        """
        self._end("it was closed on this side")
        try:
            if politely:
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._socket.close()
        except TimeoutError:
            pass  # the server does not answer, or does not read: the socket is cut below
        finally:
            self._socket.transport.abort()
        await asyncio.wait({self._socket.connection_lost_waiter}, timeout=_ABORT_TIMEOUT)

    def _write(self, frame: bytes) -> None:
        self._stats.sent += 1
        try:
            self._socket.write_text(frame)
        except Exception as error:  # noqa: BLE001  (whatever the transport raises, part of the frame may be out)
            self._end(f"writing failed: {error}")
            self._socket.transport.abort()

    # What follows is called by the socket.

    def _receive(self, message: bytes | bytearray | memoryview) -> None:
        try:
            envelope = decode(message)
        except BadEnvelope:
            self._stats.dropped_frames += 1
            return
        if envelope.type is MessageType.EVENT:
            self._stats.events += 1
            self._on_event(envelope)
        else:
            self._pending.resolve(envelope)

    def _drop(self) -> None:
        self._stats.dropped_frames += 1

    def _pause(self) -> None:
        self._writable.clear()

    def _resume(self) -> None:
        self._writable.set()

    def _end(self, reason: str) -> None:
        if self._ended.done():
            return
        self._ended.set_result(reason)
        self._writable.set()  # those who wait to write look at `is_open` next
        close_code = self._socket.close_code_received

        def lost(function: str, sequence: int) -> ConnectionLost:
            return ConnectionLost(
                f"the connection ended before {function} was answered ({reason}): "
                "whether it was carried out is unknown",
                close_code=close_code,
                function=function,
                sequence=sequence,
            )

        self._pending.fail_all(lost)


class _Socket(ClientConnection):
    """websockets' connection, with our reader in the place of its queue.

    `process_event` is not documented; pyproject.toml bounds websockets' major version for it. It is called
    for each frame in the order of arrival, so no queue and no reader task stand between socket and table.
    """

    def __init__(self, owner: Connection, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self._owner = owner
        self._fragments = bytearray()
        self._is_text = False

    @property
    def close_code_received(self) -> int:
        received = self.protocol.close_rcvd
        return int(CloseCode.ABNORMAL_CLOSURE) if received is None else received.code

    def write_text(self, data: bytes) -> None:
        """Hand one text message to the transport, at once and without waiting."""
        self.protocol.send_text(data)
        for chunk in self.protocol.data_to_send():
            self.transport.write(chunk)

    def process_event(self, event: Event) -> None:
        if self.response is None or not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)  # the handshake's response; pings, pongs and close frames
            return
        if event.opcode is not Opcode.CONT:
            self._is_text = event.opcode is Opcode.TEXT
            if event.fin:
                self._deliver(event.data)
                return
        self._fragments += event.data  # bounded: websockets counts a message's fragments against max_size
        if event.fin:
            message, self._fragments = self._fragments, bytearray()
            self._deliver(message)

    def _deliver(self, message: bytes | bytearray | memoryview) -> None:
        if self._is_text:
            self._owner._receive(message)  # noqa: SLF001  (the two classes are one thing)
        else:
            self._owner._drop()  # noqa: SLF001  (the gateways send no binary messages)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.state > State.OPEN:
            self._tell_end()

    def eof_received(self) -> None:
        super().eof_received()
        self._tell_end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._tell_end()

    def _tell_end(self) -> None:
        received = self.protocol.close_rcvd
        if received is not None:
            reason = f"close code {received.code}{f', {received.reason}' if received.reason else ''}"
        elif self.protocol.parser_exc is not None and not isinstance(self.protocol.parser_exc, EOFError):
            reason = f"the server broke the protocol: {self.protocol.parser_exc}"
        else:
            reason = "no close frame"
        self._owner._end(reason)  # noqa: SLF001

    def pause_writing(self) -> None:
        super().pause_writing()
        self._owner._pause()  # noqa: SLF001

    def resume_writing(self) -> None:
        super().resume_writing()
        self._owner._resume()  # noqa: SLF001


class _Dial(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc
