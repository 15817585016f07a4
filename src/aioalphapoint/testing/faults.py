"""What can be made to go wrong on the simulated exchange."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Faults"]


class Faults:
    """Faults of a simulated exchange, each a context manager named after the event."""

    def __init__(self) -> None:
        self._mutes = 0

    @property
    def is_mute(self) -> bool:
        """Whether calls are carried out and not answered."""
        return self._mutes > 0

    @contextmanager
    def mute(self) -> Iterator[None]:
        """Carry calls out and answer none of them, as when the way back is lost."""
        self._mutes += 1
        try:
            yield
        finally:
            self._mutes -= 1
