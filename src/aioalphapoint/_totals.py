"""What many clients count together, those that are gone included: a total does not fall when a client is dropped.

Clients come and go on their loops' threads, are collected on any thread, at any moment, and are read on a thread of
an exporter. So what tells of a client's end takes no lock: whoever holds the lock next works it off.

Memory is bounded by the clients that live and the servers that were ever met.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import Counter, deque
from typing import TypeAlias

from .stats import Stats

__all__ = ["Server", "Totals"]

Server: TypeAlias = tuple[str, int]
"""A host's name or address, and its port."""


class Totals:
    """The counts of many clients, by server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._live: dict[int, tuple[Server, Stats]] = {}
        self._ended: deque[int] = deque()
        self._gone: dict[Server, Counter[str]] = {}

    def add(self, owner: object, server: Server, stats: Stats) -> None:
        """Count in what a client counts, from now on; it is gone when `owner` is."""
        with self._lock:
            self._work_off()
            number = next(self._numbers)
            self._live[number] = server, stats
        weakref.finalize(owner, self._ended.append, number).atexit = False

    def read(self) -> dict[Server, Counter[str]]:
        """Give the present totals, by the names of `Stats`."""
        with self._lock:
            self._work_off()
            totals = {server: counts.copy() for server, counts in self._gone.items()}
            for server, stats in self._live.values():
                counts = totals.setdefault(server, Counter())
                counts.update(_counts(stats))
                counts["in_flight"] += stats.in_flight  # nothing of it outlives a client
        return totals

    def _work_off(self) -> None:
        while self._ended:
            server, stats = self._live.pop(self._ended.popleft())
            self._gone.setdefault(server, Counter()).update(_counts(stats))


def _counts(stats: Stats) -> dict[str, int]:
    return {
        "reconnects": stats.reconnects,
        "late_replies": stats.late_replies,
        "dropped_frames": stats.dropped_frames,
        "dropped_events": stats.dropped_events,
    }
