"""Programs that run beside the tests, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["TESTS", "Beside", "environment", "running_beside"]

TESTS = Path(__file__).parents[1]
"""The folder from which the tests' packages are imported."""


def environment() -> dict[str, str]:
    """Give the environment for a child process in which coverage is not measured.

    A process that is killed could not write down what it measured, and measuring takes memory of its own.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


class Beside:
    """A program that runs."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process = process
        self._output = output

    def wait(self, seconds: float) -> int:
        """Wait for its end, and give its exit code; `subprocess.TimeoutExpired` where it takes longer."""
        return self._process.wait(seconds)

    def said(self) -> str:
        """Give what it has printed so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


@contextmanager
def running_beside(module: str, *arguments: str) -> Iterator[Beside]:
    """Run a module of the tests as a program, and end it if it is not over at the end of the block."""
    command = [sys.executable, "-m", module, *arguments]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=TESTS, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield Beside(process, output)
        finally:
            process.terminate()
            process.wait()
