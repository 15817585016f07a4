"""This process, told from the one that it was forked from.

A counter in the place of `os.getpid()`, which is a system call, and would be one for each call and each message.
"""

from __future__ import annotations

import os

__all__ = ["Process"]


class Process:
    """The running process.

    Attributes:
        forks: How many forks lie between the import of this module and here. What was made at another count belongs
            to a parent process.
    """

    forks = 0

    @classmethod
    def count(cls) -> None:
        """Count one fork more."""
        cls.forks += 1


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=Process.count)
