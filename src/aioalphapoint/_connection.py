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
from websockets.exceptions import InvalidProxy, InvalidStatus, WebSocketException
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from ._envelope import BadEnvelope, Envelope, MessageType, decode, encode
from ._logging import WithoutFrames
from ._pending import PendingCalls
from ._process import Process
from ._secrets import Secrets, is_private
from ._wire import Wire, is_logged
from .errors import CallNotSent, ConnectFailed, ConnectionLost, quote
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

# Bytes by which the write buffer may grow while calls are held back, before the server counts as lost.
_MOST_UNREAD = 16 * 2**20

_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class ConnectionEnded(Exception):
    """The connection ended before the call was written: it may go out on another one."""


class Connection:
    """A WebSocket connection that brings each reply to its call. Made by `open`."""

    def __init__(
        self, host: str, stats: Stats, on_event: Callable[[Connection, Envelope], None], secrets: Secrets
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stats = stats
        self._on_event = on_event
        self._pending = PendingCalls(stats)
        self._resumed: asyncio.Future[None] | None = None  # laid out while the socket takes no bytes
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._socket: _Socket
        self._secrets = secrets
        self.wire = Wire(host, secrets)
        self.last_heard = self._loop.time()
        """The loop's time, in seconds, when the last text message came, or the dial began."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        host: str,
        stats: Stats,
        on_event: Callable[[Connection, Envelope], None],
        secrets: Secrets,
        max_message_size: int,
        ssl: SSLContext | None,
        proxy: str | bool | None,
    ) -> Connection:
        """Dial and shake hands, without a time limit of its own; cancelling it leaves no socket behind.

        `host` is the part of the address that may stand in errors and logs, `secrets` what may not.

        Raises:
            ConnectFailed: The server could not be reached, or refused the handshake. Redirects are refused:
                they could carry credentials to another host.
        """
        connection = cls(host, stats, on_event, secrets)

        def make_socket(protocol: ClientProtocol, **options: Any) -> _Socket:
            connection._socket = _Socket(connection, protocol, **options)
            return connection._socket

        tls: dict[str, Any] = {} if ssl is None else {"ssl": ssl}
        try:
            await _Dial(
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
        except InvalidStatus as error:
            status = error.response.status_code
            raise ConnectFailed(
                f"{host} refused the WebSocket handshake with HTTP status {status}", status=status
            ) from error
        except InvalidProxy:  # its text holds the address, and that the proxy's password
            raise ConnectFailed(f"cannot connect to {host}: the proxy's address cannot be used") from None
        except (OSError, EOFError, ImportError, ValueError, WebSocketException) as error:
            # ImportError: a SOCKS proxy needs another package. ValueError: the host's name cannot be encoded.
            raise ConnectFailed(f"cannot connect to {host}: {quote(str(error)) or type(error).__name__}") from error
        return connection

    @property
    def is_open(self) -> bool:
        """Whether a frame written now would be handed to the socket."""
        socket = self._socket
        return not self._ended.done() and not socket.transport.is_closing() and not socket.is_forked

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
        while self._resumed is not None:
            await asyncio.wait({self._resumed}, timeout=deadline - self._loop.time())
            if self._loop.time() >= deadline:
                break
        if not self.is_open:
            raise ConnectionEnded
        if self._loop.time() >= deadline:
            raise CallNotSent(
                f"{function} was not sent: its {timeout:g} s were over before the connection took it", function=function
            )
        call = self._pending.register(function, deadline=deadline, timeout=timeout)
        request = Envelope(MessageType.REQUEST, call.sequence, function, payload)
        is_login = is_private(function)
        try:
            if is_login:
                self.wire.hide(request)
            self._write(request)
            reply = await call.future
        finally:
            self._pending.forget(call)
            # A future's error holds this frame by its traceback, and the frame would hold the future: a thousand calls
            # that fail in an outage would take up memory until a whole garbage collection, minutes later perhaps.
            del call
        if is_login:
            self.wire.learn(reply)
        return reply

    async def wait_ended(self, timeout: float | None = None) -> str:
        """Wait until no reply can come any more, or for some seconds.

        Returns:
            Why, as the end of a sentence; nothing where it has not ended.
        """
        await asyncio.wait({self._ended}, timeout=timeout)
        return self._ended.result() if self._ended.done() else ""

    def cut(self, reason: str) -> None:
        """End the connection now, without a goodbye: nobody would answer it."""
        self.end(reason)
        if not self._socket.is_forked:
            self._socket.transport.abort()

    async def close(self, *, politely: bool = True) -> None:
        """Fail what is pending, say goodbye, and leave within 1.5 s whatever the server does.

        Cancelling it cuts the socket at once. Where its loop does not run it any more, and in a forked process,
        nothing is done: the socket is closed with its transport.

        Args:
            politely: With the closing handshake. Without it the socket is cut.
        """
        if self._socket.is_forked or not self._is_run_by_its_loop():
            return
        self.end("it was closed on this side")
        socket = self._socket
        lost = socket.connection_lost_waiter
        try:
            # Not by websockets' own `close`: it waits for the write buffer without a limit, and aborts a
            # transport that is gone already, which asyncio answers with an AttributeError.
            if politely and socket.protocol.state is State.OPEN and not socket.transport.is_closing():
                socket.write_close()
                await asyncio.wait({lost}, timeout=_CLOSE_TIMEOUT)
        finally:
            if not lost.done():
                socket.transport.abort()
        await asyncio.wait({lost}, timeout=_ABORT_TIMEOUT)

    def _is_run_by_its_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _write(self, request: Envelope) -> None:
        frame = encode(request)
        if is_logged():
            self.wire.sent(request, len(frame))
        self._stats.sent += 1
        try:
            self._socket.write_text(frame)
        except Exception as error:  # noqa: BLE001  (whatever the transport raises, part of the frame may be out)
            self.cut(f"writing failed: {quote(str(error))}")

    # What follows is called by the socket.

    def out_of(self, text: str) -> str:
        """Take the client's secrets out of the exchange's words."""
        return self._secrets.out_of(text)

    def receive(self, message: bytes | bytearray | memoryview) -> None:
        """Take one complete text message."""
        self.last_heard = self._loop.time()
        try:
            envelope = decode(message)
        except BadEnvelope:
            self.drop(len(message))
            return
        if is_logged():
            self.wire.received(envelope, len(message))
        if envelope.type is MessageType.EVENT:
            self._stats.events += 1
            self._on_event(self, envelope)
        else:
            self._pending.resolve(envelope)

    def drop(self, size: int) -> None:
        """Take one complete message of so many bytes that is no frame; the gateways send nothing binary either."""
        if is_logged():
            self.wire.dropped(size)
        self._stats.dropped_frames += 1

    def pause(self) -> None:
        """Hold calls back: the socket takes no bytes."""
        self._resumed = self._loop.create_future()

    def resume(self) -> None:
        """Let calls go on: the socket takes bytes again, or never will."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.set_result(None)

    def end(self, reason: str) -> None:
        """Fail every pending call: no reply can come any more. Only the first reason counts."""
        if self._ended.done():
            return
        self._ended.set_result(reason)
        self.resume()  # those who wait to write look at `is_open` next
        received = self._socket.protocol.close_rcvd
        close_code = int(CloseCode.ABNORMAL_CLOSURE) if received is None else received.code

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
        self._unread_at_pause = 0  # bytes
        self._forks = Process.forks

    @property
    def is_forked(self) -> bool:
        """Whether this is a fork's copy, whose socket is the parent's, as is the epoll that watches it.

        It may neither write nor abort: what it takes out of the epoll is gone for the parent too.
        """
        return self._forks != Process.forks

    def write_text(self, data: bytes) -> None:
        """Hand one text message to the transport, at once and without waiting."""
        self.protocol.send_text(data)
        self.send_data()

    def write_close(self) -> None:
        """Hand a close frame to the transport, likewise."""
        self.protocol.send_close(CloseCode.NORMAL_CLOSURE)
        self.send_data()

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
            self._owner.receive(message)
        else:
            self._owner.drop(len(message))

    def data_received(self, data: bytes) -> None:
        if self.is_forked:
            return  # a ping must not be answered twice
        super().data_received(data)
        if self.protocol.state > State.OPEN:
            self._tell_end()
        elif self.transport.get_write_buffer_size() > self._unread_at_pause + _MOST_UNREAD:
            # Calls wait for the buffer to drain; what grew it since are the answers to the server's pings.
            self._owner.cut("the server does not read")

    def eof_received(self) -> None:
        super().eof_received()
        self._tell_end()

    def connection_lost(self, exc: Exception | None) -> None:
        # A TLS handshake through a proxy can fail before `connection_made`: the dial reports that.
        if hasattr(self, "transport"):
            super().connection_lost(exc)
        self._tell_end()

    def _tell_end(self) -> None:
        received, broken = self.protocol.close_rcvd, self.protocol.parser_exc
        if received is not None:
            words = quote(self._owner.out_of(received.reason))  # it may echo a login
            reason = f"close code {received.code}{f', {words}' if words else ''}"
        elif broken is not None and not isinstance(broken, EOFError):
            reason = f"the server broke the protocol: {quote(str(broken))}"
        else:
            reason = "no close frame"
        self._owner.end(reason)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_at_pause = self.transport.get_write_buffer_size()
        self._owner.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._owner.resume()


class _Dial(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc
