"""What was seen in a soak: how memory, descriptors and tasks went, and whether they may."""

from __future__ import annotations

import itertools
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .outages import KINDS
from .soak_client import RATE, WARM, Account, Sample
from .table import Line

__all__ = ["Report"]

_MIB = 2**20
_HOUR = 3600.0  # seconds

# By sizes of the soak: seconds that are not counted, seconds between outages, MiB an hour that are allowed.
#
# Memory that is resident is the measure of an hour. Until every outage has happened once, and its failures had room
# made for them, it grows: in 30 runs of a minute by 6 to 135 MiB an hour. Hence the bound of a minute, and the second
# measure, which is exact after a minute already; and hence each outage happens once in the first minutes of an hour.
_WHOLE = (300.0, 30.0, 1.0)
_SHORT = (float(WARM), 2.3, 250.0)

# Pieces of memory that may be kept from the first seconds to the end; in 30 runs of a minute it was -158 to 500. One
# object that a call leaves behind is one piece at least, and a minute has 2,250 calls after its first 15 s.
_KEPT = 600


@dataclass
class Report:
    """What was seen.

    Attributes:
        seconds: How long it was to last.
        samples: What the client told of itself, a second each.
        account: What came of its calls; None where it did not get that far.
        outages: What went wrong on purpose, by kind.
        complaints: What the client's process said on stderr, which is to be nothing.
    """

    seconds: float
    samples: list[Sample] = field(default_factory=list)
    account: Account | None = None
    outages: Counter[str] = field(default_factory=Counter)
    complaints: str = ""

    @property
    def _size(self) -> tuple[float, float, float]:
        return _SHORT if self.seconds < _HOUR / 2 else _WHOLE

    def pauses(self) -> Iterator[float]:
        """Give the seconds from each outage to the next."""
        beginning, every, _ = self._size
        if self._size is _WHOLE:
            yield from itertools.repeat(beginning / (len(KINDS) + 1), len(KINDS))
        yield from itertools.repeat(every)

    def slope(self) -> float:
        """Give the MiB an hour by which memory grew after the beginning.

        By least squares over all samples. The median of the slopes between all pairs (Theil and Sen) is the steadier
        one, and would be blind to memory that grows in one step.
        """
        counted = self._counted()
        slope, _ = statistics.linear_regression([it.second for it in counted], [it.memory for it in counted])
        return slope * _HOUR / _MIB

    def _counted(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.second >= self._size[0]]

    def _quiet(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.is_quiet]

    def hear(self, line: bytes) -> None:
        """Take in a line that the client has printed."""
        said = json.loads(line or "null")
        match said:
            case list():
                self.samples.append(Sample(*said))
            case dict():
                self.account = Account(**said | {key: Counter(said[key]) for key in ("calls", "ends")})

    def line(self, seed: int) -> Line:
        """Write the line of the table."""
        beginning, every, allowed = self._size
        counted, quiet, account = self._counted(), self._quiet(), self.account
        tried = f"{self.seconds / 60:.3g} min of {RATE} calls a second, an outage every {every:g} s, seed {seed}"
        allows = (
            f"memory: under {allowed:g} MiB an hour after the first {beginning:g} s, fewer than {_KEPT} objects; "
            "descriptors and tasks: at 0 moments; 0 hung; none"
        )
        complaint = (self.complaints.strip().splitlines() or ["none"])[-1]
        if account is None or len(account.blocks) < 2 or len(counted) < 2:
            return Line(tried, f"the client ended early; complaints: {complaint}", allows, holds=False)
        slope, kept = self.slope(), account.blocks[-1] - account.blocks[0]
        start = self.samples[0]
        more = [it for it in quiet if it.descriptors > start.descriptors or it.tasks > start.tasks]
        seen = (
            f"{account.calls.total():,} calls, {account.reconnects} reconnects; memory {slope:+.2f} MiB an hour, "
            f"{kept:+,} objects; more than {start.descriptors} descriptors or {start.tasks} tasks at {len(more)} "
            f"of {len(quiet):,} quiet moments; {account.hung} hung; complaints: {complaint}"
        )
        is_flat = slope < allowed and kept < _KEPT and not more
        was_seen = start.is_quiet and self.samples[-1].is_quiet
        return Line(tried, seen, allows, holds=is_flat and was_seen and not account.hung and not self.complaints)

    def details(self) -> str:
        """Write what the line leaves out."""
        account = self.account
        if account is None:
            return self.complaints
        start = self._size[0]
        before = [sample.memory for sample in self.samples if sample.second < start]
        after = [sample.memory for sample in self._counted()]
        parts = [
            f"Memory: {_range(before)} in the first {start:g} s, {_range(after)} after that; at most "
            f"{max(sample.in_flight for sample in self.samples)} calls in flight, "
            f"{max(sample.tasks for sample in self.samples)} tasks and "
            f"{max(sample.descriptors for sample in self.samples)} descriptors at any of {len(self.samples):,} "
            "samples.",
            f"Calls: {_counts(account.calls)}.",
            f"How they ended: {_counts(account.ends)}.",
            f"Outages, by the state of the session in which they began: {_counts(self.outages)}.",
            f"The session was set up again {account.reconnects} times; "
            f"{account.given_up} times it was given up, as after a login that was refused, and connected anew. "
            f"The subscription that was held all the time brought {account.heard:,} events.",
        ]
        return "\n\n".join(parts) + "\n"


def _range(numbers: Sequence[int]) -> str:
    return f"{min(numbers) / _MIB:.2f} to {max(numbers) / _MIB:.2f} MiB"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())
