"""How long to wait before a lost session is dialled again. Pure: chance is an argument."""

from __future__ import annotations

from dataclasses import dataclass

from ._arguments import seconds
from .errors import InvalidArguments

__all__ = ["Backoff"]

# 2.0 ** 64 seconds is past every cap that makes sense; without the bound an outage of weeks would overflow.
_MOST_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between dials that double up to a cap, each shortened at random by up to half.

    The jitter keeps a thousand clients of a restarted exchange from dialling in step; the lower half is never
    cut away, so that no pause is close to zero.

    Attributes:
        first: The longest first pause, in seconds.
        cap: The longest pause of all, in seconds.
    """

    first: float = 0.5
    cap: float = 30.0

    def __post_init__(self) -> None:
        seconds("first", self.first)
        seconds("cap", self.cap)
        if self.cap < self.first:
            raise InvalidArguments(f"cap must not be below first ({self.first!r} s), not {self.cap!r}")

    def pause(self, failures: int, chance: float) -> float:
        """Give the pause, in seconds, after `failures` failures in a row (0 for the first pause).

        Args:
            failures: Dials in a row that brought no working session.
            chance: A random number from 0 to 1.
        """
        longest = min(self.cap, self.first * 2.0 ** min(failures, _MOST_DOUBLINGS))
        return longest * (1.0 - chance / 2.0)
