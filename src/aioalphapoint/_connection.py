"""One connection, from its dial to its end: its writer, its reader, and its futures table.

A connection dies once and takes its table with it. It knows nothing of logins, of redials, or of what a
function means.

Invariants:

* A call is registered, written, waited for, forgotten, in this order. It is written at once, or together with the
  others of the same turn of the loop at the turn's end; a call whose connection ends before that was not sent.
* Between the last look at whether the socket is open and the write there is no await, so the line between "not sent"
  and "sent" is exact.
* Nothing that the server sends can raise here: what is no frame is counted and dropped.
* The connection has ended as soon as no reply can come any more (a close frame, the end of the stream, a
  protocol error, a lost transport), not when the closing handshake is through. In that moment all pending
  calls fail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, cast

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidProxy, InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.protocol import State

from ._envelope import BadEnvelope, Envelope, MessageType, decode, encode
from ._logging import WithoutFrames
from ._pending import PendingCall, PendingCalls
from ._secrets import Secrets, is_private
from ._socket import Dial, Socket
from ._wire import Wire, is_logged
from .errors import CallNotSent, ConnectFailed, ConnectionLost, quote
from .stats import Stats

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

__all__ = ["Connection", "ConnectionEnded"]

_log = WithoutFrames(logging.getLogger("aioalphapoint"), {})

# What a polite goodbye may take before the socket is cut, and what the loop may take to tell us that it is
# cut, in seconds. Together they stay under the 2 s in which `Client.close` promises to end.
_CLOSE_TIMEOUT = 1.0
_ABORT_TIMEOUT = 0.5

# So many bytes of calls are written before the loop's turn is over: the first of a thousand need not wait for the last,
# and a record of TLS holds as many.
_MOST_HELD = 2**14


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
        self._outbox: list[PendingCall] = []  # what is written when this turn of the loop ends
        self._held = 0  # bytes of frames
        self._resumed: asyncio.Future[None] | None = None  # laid out while the socket takes no bytes
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._socket: Socket
        self._secrets = secrets
        self.wire = Wire(host, secrets)
        self.last_heard = self._loop.time()
        """The loop's time, in seconds, when the last text message came, or the dial began."""
        self.has_served = False
        """Whether a caller's call got a reply on it, and no refusal by the gateway; told and asked by others."""

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

        def make_socket(protocol: ClientProtocol, **options: Any) -> Socket:
            connection._socket = Socket(connection, max_message_size, protocol, **options)
            return connection._socket

        tls: dict[str, Any] = {} if ssl is None else {"ssl": ssl}
        try:
            await Dial(
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

    @property
    def is_paused(self) -> bool:
        """Whether calls are held back, because the socket takes no bytes."""
        return self._resumed is not None

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
        if self._resumed is not None:
            await self.wait_for_room(deadline)
        call = self.start(function, payload, deadline=deadline, timeout=timeout)
        try:
            return await call.future
        finally:
            self.finish(call)
            # A future's error holds this frame by its traceback, and the frame would hold the future: a thousand calls
            # that fail in an outage would take up memory until a whole garbage collection, minutes later perhaps.
            del call

    async def wait_for_room(self, deadline: float) -> None:
        """Wait while calls are held back, until the deadline at most. Whoever gives up here has not been sent."""
        while self._resumed is not None and (remaining := deadline - self._loop.time()) > 0:
            await asyncio.wait({self._resumed}, timeout=remaining)

    def start(self, function: str, payload: str, *, deadline: float, timeout: float) -> PendingCall:
        """Give a call its number and write it, now or at the end of this turn of the loop.

        Arguments are those of `call`. Whoever starts a call waits for its `future`, and hands it to `finish`, however
        that ends.

        Raises:
            ConnectionEnded: Nothing was sent; another connection may be tried.
            CallNotSent: The deadline has come. Nothing was sent.
        """
        if not self.is_open:
            raise ConnectionEnded
        if self._loop.time() >= deadline:
            raise CallNotSent(
                f"{function} was not sent: its {timeout:g} s were over before the connection took it", function=function
            )
        call = self._pending.register(function, deadline=deadline, timeout=timeout)
        try:
            request = Envelope(MessageType.REQUEST, call.sequence, function, payload)
            if is_private(function):
                self.wire.hide(request)
            self._post(call, encode(request))
        except BaseException:
            self.finish(call)
            raise
        return call

    def finish(self, call: PendingCall) -> None:
        """Take a call out of the table: whoever started it does so, however it ended."""
        self._pending.forget(call)

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

    def _post(self, call: PendingCall, frame: bytes) -> None:
        call.frame = frame
        if len(self._pending) == 1:  # nobody is likely to follow
            self._write([call])
            return
        self._outbox.append(call)
        self._held += len(frame)
        if self._held > _MOST_HELD:
            self._write_outbox()
        elif len(self._outbox) == 1:
            self._loop.call_soon(self._write_outbox)

    def _write_outbox(self) -> None:
        """Write what was posted and has not ended: one write for many calls costs about as much as for one."""
        calls, now = [], self._loop.time()
        for call in self._take_outbox():
            if call.deadline <= now:
                self._pending.expire(call)
            if not call.future.done():
                calls.append(call)
        if not self.is_open:  # the transport knows before it tells us
            self._return(calls)
        elif calls:
            self._write(calls)

    def _write(self, calls: Sequence[PendingCall]) -> None:
        self._stats.sent += len(calls)
        frames = []
        for call in calls:
            frames.append(call.frame)
            call.frame, call.is_written = b"", True
        try:
            if is_logged():
                for frame in frames:
                    self.wire.sent(frame)
            self._socket.write_texts(frames)
        except Exception as error:  # noqa: BLE001  (whatever the transport raises, part of the frames may be out)
            self.cut(f"writing failed: {quote(str(error))}")

    def _take_outbox(self) -> list[PendingCall]:
        outbox, self._outbox, self._held = self._outbox, [], 0
        return outbox

    def _return(self, calls: Sequence[PendingCall]) -> None:
        for call in calls:
            self._pending.fail(call, ConnectionEnded())

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
            if envelope.sequence in self.wire.private:  # whether or not anybody waits for it, or listens
                self.wire.learn(envelope)
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
        self._return(self._take_outbox())
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
