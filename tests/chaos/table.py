"""The table in which the campaign says what it tried and what it saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Line", "markdown"]


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        tried: What was done, and how often: "1,000,000 hostile frames".
        seen: What came of it: "0 crashes, 0 hangs, 12.1 MiB more memory".
        allowed: What may come of it: "0, 0, under 50 MiB".
        holds: Whether what was seen is allowed.
    """

    tried: str
    seen: str
    allowed: str
    holds: bool


def markdown(lines: Iterable[Line]) -> str:
    """Write lines as a table in Markdown."""
    rows = [f"| {line.tried} | {line.seen} | {line.allowed} | {'yes' if line.holds else '**no**'} |" for line in lines]
    return "\n".join(["| tried | seen | allowed | holds |", "| --- | --- | --- | --- |", *rows, ""])
