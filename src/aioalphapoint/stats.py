"""What a client counts."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(slots=True)
class Stats:
    """Counts since the client was made, over all its connections.

    `client.stats` gives a copy: it does not change under the reader's eyes.
    """

    in_flight: int = 0
    """Calls under way now, those waiting for a session included."""
    sent: int = 0
    """Frames handed to the socket."""
    replies: int = 0
    """Replies that reached their caller."""
    late_replies: int = 0
    """Replies to a number that was in use and no longer is: too late, or doubled. Dropped."""
    dropped_frames: int = 0
    """Messages that were no frame, binary, or replies to a number never used. Dropped."""
    events: int = 0
    """Events that came, listened to or not."""
    dropped_events: int = 0
    """Events that a listener did not read in time: the oldest of its queue."""
    reconnects: int = 0
    """Sessions set up again after one was lost."""
    last_round_trip: float | None = None
    """Seconds from the last completed call's frame to its reply; None before the first."""
