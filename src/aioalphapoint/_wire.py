"""The logger `aioalphapoint.wire`: one record at DEBUG for each frame of a connection, its secrets removed.

Invariants:

* Until the login on the connection is through, a frame that arrives shows its type, number and size alone, one that
  leaves its function and number. So do logins that a program makes later by `call`, their replies included, however
  late or often those come.
* Every other frame is written anew, in ASCII and without a control character: first what stands under a secret's
  key is replaced, then each secret value that the client knows, wherever it stands.
* Logging changes nothing: whoever calls asks `is_logged` first, and nothing here raises.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import suppress

from ._envelope import Envelope, MessageType, decode, encode
from ._secrets import Secrets, is_private, without_keys

__all__ = ["Wire", "is_logged"]

_log = logging.getLogger("aioalphapoint.wire")

# Characters of a frame that a record shows, and bytes up to which a frame is searched for secrets at all: a
# listing of megabytes would hold up the loop.
_LONGEST = 2000
_LARGEST = 2**16

# Logins that a program may make by `call` on one connection before everything on it is hidden: their numbers are
# remembered for replies that come late or twice, and memory is bounded.
_MOST_LOGINS = 1000


def is_logged() -> bool:
    """Tell whether anybody wants to see frames. It costs less than 100 ns: `logging` remembers the answer."""
    return _log.isEnabledFor(logging.DEBUG)


class Wire:
    """The frames of one connection on their way to the log.

    Args:
        host: What the connection leads to.
        secrets: What the client knows.
    """

    def __init__(self, host: str, secrets: Secrets) -> None:
        self._host = host
        self._secrets = secrets
        self._is_open = False
        self.private: dict[int, None] = {}
        """The numbers of logins, in their order; their replies hold secrets, whenever they come."""

    def open(self) -> None:
        """Show frames from now on: the login is through."""
        self._is_open = True

    def hide(self, request: Envelope) -> None:
        """Show neither this login nor any reply to it, and learn the secrets that it holds."""
        self.private[request.sequence] = None
        if len(self.private) > _MOST_LOGINS:
            del self.private[next(iter(self.private))]
            self._is_open = False
        self.learn(request)

    def learn(self, login: Envelope) -> None:
        """Learn the secrets that a login or its answer holds."""
        self._secrets.learn(login.payload, is_own=not self._is_open)

    def sent(self, frame: bytes) -> None:
        """Log a frame that leaves."""

        def text() -> str:
            request = decode(frame)
            return self._shown(request, len(frame), f"{json.dumps(request.function)[1:-1]} {request.sequence}")

        self._write(">", text)

    def received(self, frame: Envelope, size: int) -> None:
        """Log a frame of so many bytes that has arrived."""
        self._write("<", lambda: self._shown(frame, size, f"{frame.type.name} {frame.sequence}"))

    def dropped(self, size: int) -> None:
        """Log that something of so many bytes has arrived that is no frame."""
        self._write("<", lambda: f"no frame, {size} bytes")

    def _shown(self, frame: Envelope, size: int, outline: str) -> str:
        # An event's number is the exchange's own count and says nothing about a login.
        is_reply_to_login = frame.type is not MessageType.EVENT and frame.sequence in self.private
        if not self._is_open or is_reply_to_login or is_private(frame.function):
            return f"{outline}, {size} bytes, not shown (login)"
        if size > _LARGEST:
            return f"{outline}, {size} bytes, not shown (too large)"
        return encode(frame._replace(payload=without_keys(frame.payload))).decode("ascii")

    def _write(self, direction: str, text: Callable[[], str]) -> None:
        # Whatever a handler or a filter of the program raises: it must not become the fate of a call, and it is
        # the log itself that could not be written.
        with suppress(Exception):
            words = self._secrets.out_of(text())
            if len(words) > _LONGEST:
                words = f"{words[:_LONGEST]}... ({len(words)} characters)"
            _log.debug("%s %s %s", self._host, direction, words)
