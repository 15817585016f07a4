"""Where a session lives: the event loop and the process of its task, in which alone it may be used.

Invariants:

* Whoever comes from elsewhere is turned away before anything is sent, and changes nothing.
* A session whose task has ended lives nowhere: it may be connected from any loop, in any process.
* A loop that was closed under the task runs it no more: it is ended by whoever looks next.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ._process import Process

__all__ = ["Home"]


class Home:
    """The home of one task, from its start; without a task, nowhere."""

    def __init__(self, task: asyncio.Task[object] | None = None) -> None:
        self._task = task
        self._loop = None if task is None else task.get_loop()
        self._forks = Process.forks
        self._is_lost = False  # whether the loop was closed under the task

    @property
    def is_forked(self) -> bool:
        """Whether this process is a fork of the one in which the task runs: all that it shares is the other's."""
        return self._forks != Process.forks and self._lives()

    def here(self) -> asyncio.AbstractEventLoop:
        """Give the running loop, having checked that it is this one.

        Raises:
            RuntimeError: It is another one, or in a forked process. It is a mistake in the program, as to connect
                twice is: no call could be repeated to any purpose.
        """
        if self._forks == Process.forks and (loop := asyncio.get_running_loop()) is self._loop:
            return loop
        self._turn_away()
        return asyncio.get_running_loop()

    def look(self) -> None:
        """End the task if its loop was closed under it: its `finally` blocks run now, and may not await."""
        if self._task is None or not self._lives() or not self._task.get_loop().is_closed():
            return
        self._is_lost = True
        work = self._task.get_coro()
        assert asyncio.iscoroutine(work)  # noqa: S101  (what `create_task` was given)
        work.close()

    def leave(self) -> bool:
        """Cancel the task, for nobody can reach the session any more. From any thread.

        Returns:
            Whether the task ran, or was cancelled by another than the session's owner, such as `asyncio.run`.
        """
        task = self._task
        if task is None or self._forks != Process.forks:
            return False
        self.look()
        if self._lives():
            with suppress(RuntimeError):  # the loop was closed in this moment, in its own thread
                task.get_loop().call_soon_threadsafe(task.cancel)
            return True
        return self._is_lost or task.cancelled()

    def _lives(self) -> bool:
        return self._task is not None and not self._task.done() and not self._is_lost

    def _turn_away(self) -> None:
        self.look()
        if self.is_forked:
            raise RuntimeError(
                "this client was connected by the process from which this one was forked: make another one here"
            )
        if self._lives():
            raise RuntimeError(
                "this client is connected on another event loop: use it there, or make a client for each loop"
            )
