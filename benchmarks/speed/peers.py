"""Who is measured: the contestants by name, and whether each can be measured here."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from .stage import Program, Stage

__all__ = ["FLOOR", "NOTBANK", "OURS", "PEERS", "PER_CALL", "PICOWS", "Peer"]

# notbank pins versions that go with no others.
_ELSEWHERE = Path(__file__).parents[2] / ".bench-peers"
_PYTHON = _ELSEWHERE / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


@dataclass(frozen=True)
class Peer:
    """A contestant.

    Attributes:
        name: As the tables show it.
        module: Its program, in `speed.contestants`.
        package: What has to be installed for it.
        lives_elsewhere: Whether that is installed in an environment of its own.
        one_at_a_time: Whether it makes no calls side by side.
    """

    name: str
    module: str
    package: str
    lives_elsewhere: bool = False
    one_at_a_time: bool = False

    @property
    def absence(self) -> str:
        """Why it cannot be measured; empty if it can."""
        if self.lives_elsewhere:
            is_here = any(_ELSEWHERE.glob(f"[Ll]ib*/**/{self.package}/__init__.py"))
        else:
            is_here = importlib.util.find_spec(self.package) is not None
        return "" if is_here else f"not measured: {self.package} is not installed"

    def start(self, stage: Stage, *, port: int | None = None, tls: bool = False) -> Program:
        """Start its program, connected to the exchange."""
        python = str(_PYTHON) if self.lives_elsewhere else ""
        return stage.program(f"contestants.{self.module}", port=port, tls=tls, python=python)


OURS = Peer("aioalphapoint", "ours", "aioalphapoint")
FLOOR = Peer("websockets: send and receive, no JSON", "raw", "websockets")
NOTBANK = Peer("notbank: a thread a call", "notbank_", "notbank_python_sdk", lives_elsewhere=True)
PER_CALL = Peer("websockets: a connection a call, no login", "per_call", "websockets", one_at_a_time=True)
PICOWS = Peer("picows, table of futures", "picows_", "picows")
PEERS = (
    OURS,
    FLOOR,
    PICOWS,
    Peer("aiohttp, table of futures", "aiohttp_", "aiohttp"),
    NOTBANK,
    PER_CALL,
)
