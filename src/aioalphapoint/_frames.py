"""WebSocket frames of the usual kind, a whole text message each, read and written without the generality of websockets.

Pure: bytes in, bytes out. websockets reads and checks every frame that is not of the usual kind, such as a ping, a part
of a message, or one that breaks the protocol (RFC 6455, section 5.2). When it was made, that saved 5 of the 17
microseconds that a call took without its checks.

Invariants:

* Not a byte is lost, doubled, or taken out of its order, wherever the stream is cut into pieces. Only when it ends in
  the first bytes of a frame does websockets not see these; that it ends, it is told.
* A message is taken out only where a frame can begin, and only outside a message in parts.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

# `apply_mask` is not documented, as little as what _socket.py stands on. It is written in C, as a rule.
from websockets.frames import Opcode, apply_mask  # type: ignore[attr-defined]  # imported there, not exported

__all__ = ["FrameSplitter", "text_frames"]

_WHOLE_TEXT = 0x81  # the last part of a message, and text
_LAST_PART = 0x80
_OPCODE = 0x0F
_FIRST_CONTROL = 0x8  # opcodes from here on are pings, pongs and close frames, which may stand between parts
_OPCODES = frozenset(int(opcode) for opcode in Opcode)
_MASKED = 0x80
_TWO_BYTES, _EIGHT_BYTES = 126, 127  # in the place of a length: it follows in so many bytes


def text_frames(messages: Sequence[bytes]) -> bytes:
    """Write text messages as a client has to, each masked by four random bytes of its own."""
    masks = secrets.token_bytes(4 * len(messages))
    parts: list[bytes] = []
    for position, message in enumerate(messages):
        mask = masks[4 * position : 4 * position + 4]
        parts += (_head(len(message)), mask, apply_mask(message, mask))
    return b"".join(parts)


def _head(length: int) -> bytes:
    if length < _TWO_BYTES:
        return bytes((_WHOLE_TEXT, _MASKED | length))
    if length < 2**16:
        return bytes((_WHOLE_TEXT, _MASKED | _TWO_BYTES)) + length.to_bytes(2)
    return bytes((_WHOLE_TEXT, _MASKED | _EIGHT_BYTES)) + length.to_bytes(8)


class FrameSplitter:
    """Takes the whole text messages out of the stream that a server sends.

    Args:
        max_size: Bytes that a message may have. A larger one is left to websockets, which refuses it.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._begun = b""  # of a frame: too little to tell its length
        self._owed = 0  # bytes of a frame that is left to websockets and has not arrived whole
        self._in_parts = False  # whether a message in parts has begun

    def split(self, data: bytes) -> Iterator[tuple[bool, bytes]]:
        """Give pairs, in order: True and a message, or False and bytes that are left to websockets."""
        if self._begun:
            data, self._begun = self._begun + data, b""
        size, left = len(data), 0  # from where on bytes are left to websockets
        position = min(self._owed, size)
        self._owed -= position
        while position < size:
            start, end = _extent(data, position)
            if self._is_message(data, position, start, end):
                if left < position:
                    yield False, data[left:position]
                yield True, data[start:end]
                position = left = end
            elif _is_breach(data, position):  # websockets ends the connection here, and reads nothing of what follows
                position = size
            elif not end:
                self._begun, size = data[position:], position
            else:
                self._note(data[position])
                self._owed, position = max(0, end - size), min(end, size)
        if left < size:
            yield False, data[left:size]

    def _is_message(self, data: bytes, position: int, start: int, end: int) -> bool:
        is_whole_text = data[position] == _WHOLE_TEXT and 0 < end <= len(data) and data[position + 1] < _MASKED
        return is_whole_text and end - start <= self._max_size and not self._in_parts

    def _note(self, first: int) -> None:
        if first & _OPCODE < _FIRST_CONTROL:
            self._in_parts = not first & _LAST_PART


def _is_breach(data: bytes, position: int) -> bool:
    """Whether what is here cannot be a server's frame, whatever follows."""
    second = position + 1
    return second < len(data) and (data[second] >= _MASKED or data[position] & _OPCODE not in _OPCODES)


def _extent(data: bytes, position: int) -> tuple[int, int]:
    """Tell where a frame's payload begins and ends; two zeros where too little of it is here."""
    start = position + 2
    if start > len(data):
        return 0, 0
    length = data[position + 1] % _MASKED
    if length >= _TWO_BYTES:
        begin, start = start, start + (2 if length == _TWO_BYTES else 8)
        if start > len(data):
            return 0, 0
        length = int.from_bytes(data[begin:start])
    return start, start + length
