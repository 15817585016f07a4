"""What was measured, as medians with their spread, as lines of a table, and as numbers for whoever draws them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

__all__ = ["Line", "Result", "Spread", "lines_table", "spread", "spread_of_ratios", "table"]


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles between which half of what was measured lies."""

    median: float
    low: float
    high: float

    def words(self, unit: str = "", scale: float = 1.0) -> str:
        """Write it, as in `13.2 µs (12.9 to 13.8)`; `scale` is how many of the unit there are in one."""
        size = abs(self.median * scale)
        digits = sum(size < bound for bound in (1, 10, 100))
        median, low, high = (f"{value * scale:,.{digits}f}" for value in (self.median, self.low, self.high))
        return f"{median}{f' {unit}' if unit else ''} ({low} to {high})"


def spread(values: Iterable[float]) -> Spread:
    """Tell the median and the quartiles of some values, of which there is one at least."""
    sample = sorted(values)
    if len(sample) == 1:
        return Spread(sample[0], sample[0], sample[0])
    low, median, high = statistics.quantiles(sample, n=4, method="inclusive")
    return Spread(median, low, high)


def spread_of_ratios(ones: Sequence[float], others: Sequence[float]) -> Spread:
    """Tell the spread of the ratios, round by round: what disturbs a round disturbs both."""
    return spread(one / other for one, other in zip(ones, others, strict=True))


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        what: What was measured.
        seen: What came of it.
        allowed: What may come of it; empty where nothing was promised.
        holds: Whether what was seen is allowed; None where nothing was promised, or nothing could be measured.
    """

    what: str
    seen: str
    allowed: str = ""
    holds: bool | None = None


@dataclass
class Result:
    """What a scenario brought.

    Attributes:
        lines: For the table of what is promised.
        tables: Further tables, in Markdown.
        figures: Numbers, as they were measured, by name.
        versions: Of the packages that were measured.
    """

    lines: list[Line] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether no promise was missed."""
        return all(line.holds is not False for line in self.lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join([*lines, ""])


def lines_table(lines: Iterable[Line]) -> str:
    """Write the table of what is promised."""
    words = {True: "yes", False: "**no**", None: ""}
    rows = [(line.what, line.seen, line.allowed, words[line.holds]) for line in lines]
    return table(("measured", "median (quartiles)", "allowed", "holds"), rows)
