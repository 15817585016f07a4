"""websockets' connection with our reader in the place of its queue, and whole text messages past its parser.

Invariants:

* Each complete text message is handed to the owner in the order of arrival, between the bytes of the socket: no queue
  and no reader task stand between socket and table.
* The owner is told of the end in the moment in which no message can come any more, not when the closing handshake is
  through.
* A fork's copy touches nothing: socket, and the epoll that watches it, are the parent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State

from ._frames import FrameSplitter, text_frames
from ._process import Process
from .errors import quote

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.protocol import Event

__all__ = ["Dial", "Owner", "Socket"]

# Bytes by which the write buffer may grow while calls are held back, before the server counts as lost.
_MOST_UNREAD = 16 * 2**20

# Lines that a handshake's response can have: websockets takes 128 headers. More are the body of a refusal.
_MOST_LINES = 130

_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


class Owner(Protocol):
    """Whoever is told what a socket hears."""

    def receive(self, message: bytes | bytearray | memoryview) -> None:
        """Take one complete text message."""

    def drop(self, size: int) -> None:
        """Take one complete message of so many bytes that is not text."""

    def pause(self) -> None:
        """The socket takes no bytes."""

    def resume(self) -> None:
        """The socket takes bytes again."""

    def end(self, reason: str) -> None:
        """No message can come any more."""

    def cut(self, reason: str) -> None:
        """The server is lost, and does not say so."""

    def out_of(self, text: str) -> str:
        """Take secrets out of the server's words."""


class Socket(ClientConnection):
    """One WebSocket.

    `process_event` is not documented; pyproject.toml bounds websockets' major version for it. It is called
    for each frame in the order of arrival.
    """

    def __init__(self, owner: Owner, max_message_size: int, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self._owner = owner
        self._frames = FrameSplitter(max_message_size)
        self._lines = 0  # of the handshake's response
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

    def write_texts(self, messages: Sequence[bytes]) -> None:
        """Hand text messages to the transport, in one write and without waiting."""
        self.transport.write(text_frames(messages))

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
        if self._forks != Process.forks:
            return  # a ping must not be answered twice
        if self.protocol.state is State.CONNECTING:
            data = self._shake_hands(data)
        for is_message, part in self._frames.split(data):
            if is_message and self.protocol.state is State.OPEN:
                self._owner.receive(part)
            elif not is_message:
                self._leave_to_websockets(part)

    def _shake_hands(self, data: bytes) -> bytes:
        """Give what comes behind the handshake's response: it ends with a line, and a frame may follow at once."""
        begin = 0
        while begin < len(data) and self.protocol.state is State.CONNECTING:
            end = data.find(b"\n", begin) + 1 if self._lines < _MOST_LINES else 0
            self._lines += end > 0  # not each piece: a response may come byte by byte
            super().data_received(data[begin : end or len(data)])
            begin = end or len(data)
        return data[begin:]

    def _leave_to_websockets(self, data: bytes) -> None:
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


class Dial(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        return exc
