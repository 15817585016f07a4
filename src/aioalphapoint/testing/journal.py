"""What arrived at the simulated exchange, and what went back."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Arrival"]


@dataclass(slots=True)
class Arrival:
    """One message that arrived, and what went back. Its repr leaves the texts out: a login's holds the password.

    Attributes:
        connection: Which connection it came on, counted from 1 over the life of the exchange.
        frame: The message as it came; a binary one as Python writes it.
        sequence: Its number; None where it was no frame.
        function: What it called; None where it was no frame.
        payload: The text of its payload; None where it was no frame.
        answer: The frame that went back, as it went; None where none did, or where it has yet to go.
        executed: Whether the call was carried out: it changed the exchange's state or read it. False for what was
            no call, for what was refused, by the exchange's rules or by a fault, and for what a fault let be
            accepted and no more.
        moment: When it came, in seconds on the event loop's clock; two arrivals are compared without it.
    """

    connection: int
    frame: str = field(repr=False)
    sequence: int | None = None
    function: str | None = None
    payload: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)
    executed: bool = False
    moment: float = field(default=0.0, compare=False)
