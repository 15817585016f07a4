"""Programs of the tests that run beside them, without the measuring of coverage."""

from __future__ import annotations

import os

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Give the environment for a child process in which coverage is not measured.

    A process that is killed could not write down what it measured, and measuring takes memory of its own.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
