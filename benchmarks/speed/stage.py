"""The programs of the benchmark, seen from outside: started, pinned, asked in turn, and ended.

Invariants:

* The exchange has one core and whoever is measured another, where there are two.
* Contestants take turns, round by round (A B C A B C ...), so what else the machine does hits all alike. The first
  round warms up and is not counted.
* A program that does not answer in time is ended, and so is the benchmark.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self, TypeVar

import trustme

from .program import Answer, Settings

__all__ = ["Program", "ProgramFailed", "Stage", "in_turn"]

_Turn = TypeVar("_Turn", bound=Hashable)

_HOME = Path(__file__).parents[1]
_PATIENCE = 180.0  # seconds that an answer may take
_FAREWELL = 10.0  # seconds in which a program ends once its input has ended


class ProgramFailed(Exception):
    """A program of the benchmark ended early, or took too long."""


class Program:
    """A child process that answers a line with a line."""

    def __init__(self, module: str, settings: Settings, python: str = sys.executable) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [python, "-m", f"speed.{module}"], cwd=_HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self._tell(asdict(settings))
        except ProgramFailed:
            self.close()
            raise

    def ask(self, order: str, **options: object) -> Answer:
        """Have one command carried out.

        Raises:
            ProgramFailed: It ended, or took too long. Its own words are on stderr.
        """
        return self._tell({"do": order, **options})

    def _tell(self, order: Mapping[str, object]) -> Answer:
        assert self._process.stdin is not None  # for the type checker
        assert self._process.stdout is not None
        limit = threading.Timer(_PATIENCE, self._process.kill)
        limit.start()
        try:
            self._process.stdin.write(f"{json.dumps(order)}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            limit.cancel()
        if not line:
            raise ProgramFailed(f"{self._name} ended, or took more than {_PATIENCE:g} s")
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """End it: politely by the end of its input, then without asking."""
        try:
            self._process.communicate(timeout=_FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Stage:
    """Where a scenario is played: the exchange, and what it takes to start contestants.

    Attributes:
        is_quick: Whether small sizes will do, to see that everything works.
        settings: What contestants are told, but for the address.
        exchange: The exchange's program.
        port: Where it listens.
        tls_port: Where it listens with TLS.
        certificate: A file with its certificate and key.
        cores: The core of whoever is measured, and that of everybody else.
    """

    is_quick: bool
    settings: Settings
    exchange: Program
    port: int
    tls_port: int
    certificate: str
    cores: tuple[int | None, int | None]

    @classmethod
    @contextmanager
    def built(cls, *, is_quick: bool) -> Iterator[Stage]:
        """Start the exchange, and end it afterwards."""
        cores = _cores()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            authority, certificate = folder / "authority.pem", folder / "certificate.pem"
            ca = trustme.CA()
            ca.cert_pem.write_to_path(authority)
            ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
            settings = Settings(core=cores[1], certificate=str(certificate))
            exchange = stack.enter_context(Program("exchange", settings))
            ports = exchange.ask("listen")
            yield cls(
                is_quick=is_quick,
                settings=Settings(core=cores[0], authority=str(authority)),
                exchange=exchange,
                port=ports["port"],
                tls_port=ports["tls_port"],
                certificate=str(certificate),
                cores=cores,
            )

    def program(
        self, module: str, *, path: str = "WSGateway", port: int | None = None, tls: bool = False, python: str = ""
    ) -> Program:
        """Start a contestant that is connected to the exchange, or to the exchange behind another port."""
        scheme, default = ("wss", self.tls_port) if tls else ("ws", self.port)
        url = f"{scheme}://127.0.0.1:{port or default}/{path}/"
        return Program(module, replace(self.settings, url=url), python or sys.executable)


def in_turn(rounds: int, turns: Mapping[_Turn, Callable[[], Answer]]) -> dict[_Turn, list[Answer]]:
    """Let each have its turn, so many times after a first one that does not count."""
    answers: dict[_Turn, list[Answer]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            answer = turn()
            if number:
                answers[name].append(answer)
    return answers


def _cores() -> tuple[int | None, int | None]:
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]
