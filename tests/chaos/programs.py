"""Programs of the tests' own, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["TESTS", "environment", "run_program"]

TESTS = Path(__file__).parents[1]
"""The folder from which the tests' packages are imported."""


def environment() -> dict[str, str]:
    """Give the environment for a child process in which coverage is not measured.

    A process that is killed could not write down what it measured, and measuring takes memory of its own.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def run_program(module: str, *arguments: str, seconds: float) -> tuple[int, str]:
    """Run a module of the tests to its end; gives its exit code, and what it printed.

    Raises:
        subprocess.TimeoutExpired: It took longer than so many seconds. It was told to end itself, and has.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=TESTS,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(seconds)
        finally:
            process.terminate()
            process.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace")
