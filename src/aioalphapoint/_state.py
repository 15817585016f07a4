"""Where a session stands, in words that a program can wait for."""

from __future__ import annotations

import enum

__all__ = ["SessionState"]


class SessionState(enum.StrEnum):
    """Where a client's session stands."""

    IDLE = "idle"
    """Not connected yet."""
    CONNECTING = "connecting"
    """The first dial, handshake and login are under way."""
    READY = "ready"
    """Connected, and logged in where there are credentials: a call goes out at once."""
    RECONNECTING = "reconnecting"
    """The connection was lost; a call waits for the next one inside its own timeout."""
    FAILED = "failed"
    """Given up: each call fails at once. `connect()` starts anew."""
    CLOSED = "closed"
    """Closed by its owner. `connect()` starts anew."""
