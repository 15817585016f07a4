"""What a command shows: results on standard output, everything else on standard error.

Invariants:

* With `--json` standard output holds one JSON object a line and nothing else.
* Nothing moves (a progress bar) unless both outputs are terminals.
* An output that takes no more ends no run: cancels that are under way matter more than who reads of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console, RenderableType
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.progress import Progress, ProgressColumn
from rich.status import Status
from rich.text import Text

from aioalphapoint import AlphaPointError, CallRejected, InvalidArguments
from aioalphapoint._envelope import write_json

from .exits import Exit, Misuse, exit_of
from .terminal import ask

__all__ = ["Screen", "drop_output"]

_WIDE = 200  # columns, where no terminal sets them: a file is not to be folded

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)  # by how often --verbose was said


def drop_output() -> None:
    """Write to nowhere from here on: what is buffered would be tried once more at the process's end, and change it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Screen:
    """One command's two outputs.

    Args:
        as_json: Results are JSON objects, one a line.
        verbose: 1 tells of the session's life too, 2 of each frame.
    """

    def __init__(self, *, as_json: bool = False, verbose: int = 0) -> None:
        self.as_json = as_json
        self._out = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, markup=False)
        self._err = Console(stderr=True, highlight=False, markup=False)
        self.is_live: bool = not as_json and self._out.is_terminal and self._err.is_terminal
        self._moving: Progress | Status | None = None
        self._asking = asyncio.Lock()
        self._broken: OSError | None = None
        self._verbose = min(verbose, len(_LEVELS) - 1)

    def say(self, text: str | Text) -> None:
        """Show a result to a person; with JSON it is left out."""
        if not self.as_json:
            self._write(lambda: self._out.print(text, soft_wrap=True))

    def show(self, renderable: RenderableType) -> None:
        """Show a table to a person; with JSON it is left out."""
        if not self.as_json:
            self._write(lambda: self._out.print(renderable))

    def record(self, fields: Mapping[str, object]) -> None:
        """Show a result to a program: one JSON object in one line; without JSON it is left out."""
        if self.as_json:
            line = write_json(fields)
            self._write(lambda: sys.stdout.write(f"{line}\n"))

    def note(self, text: str) -> None:
        """Tell a person beside the results."""
        with contextlib.suppress(OSError):  # nobody is left to be told of it
            self._err.print(Text(text), soft_wrap=True)

    def fail(self, error: AlphaPointError | Misuse, known: Exit = Exit.DONE) -> Exit:
        """Tell a person, and a program, which error ended the command, and give its exit status.

        Args:
            error: The error.
            known: What is known of tickets beside it; the higher of both counts.
        """
        if isinstance(error.__cause__, Misuse):  # such as a second factor that nobody can be asked for
            error = error.__cause__
        status = max(known, Exit.USAGE if isinstance(error, Misuse) else exit_of(error))
        if isinstance(error, Misuse | InvalidArguments):
            self.note(str(error))
            return status
        rejected = error if isinstance(error, CallRejected) else None
        self.record(
            {
                "error": type(error).__name__,
                "message": str(error),
                "code": None if rejected is None else rejected.code,
                "exit_status": int(status),
            }
        )
        self.note(f"{type(error).__name__}: {error}")
        return status

    @contextlib.contextmanager
    def logs(self) -> Iterator[None]:
        """Show the library's log: warnings, or more as asked for by `verbose`."""
        log = logging.getLogger("aioalphapoint")
        before = log.handlers, log.level, log.propagate
        handler = RichHandler(
            console=self._err,
            show_time=self._verbose > 0,
            show_level=self._verbose > 0,
            show_path=False,
            markup=False,
            highlighter=NullHighlighter(),
            keywords=[],
            log_time_format="%H:%M:%S",
        )
        log.handlers, log.propagate = [handler], False
        log.setLevel(_LEVELS[self._verbose])
        try:
            yield
        finally:
            log.handlers, level, log.propagate = before
            log.setLevel(level)

    @contextlib.contextmanager
    def progress(self, *columns: str | ProgressColumn) -> Iterator[Progress]:
        """Show progress bars, where there is a terminal to show them on."""
        with Progress(*columns, console=self._err, disable=not self.is_live, transient=True) as progress:
            self._moving = progress
            try:
                yield progress
            finally:
                self._moving = None

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something is under way, where there is a terminal to show it on."""
        if not self.is_live:
            yield
            return
        with self._err.status(text) as status:
            self._moving = status
            try:
                yield
            finally:
                self._moving = None

    async def ask(self, question: str, *, hidden: bool = False) -> str:
        """Ask whoever sits at the terminal, one question at a time; the rest is told at `terminal.ask`."""
        async with self._asking:
            with self._still():
                return await ask(question, hidden=hidden)

    @contextlib.contextmanager
    def _still(self) -> Iterator[None]:
        moving = self._moving
        if moving is not None:
            moving.stop()
        try:
            yield
        finally:
            if moving is not None and self._moving is moving:
                moving.start()

    def ended(self, status: Exit) -> Exit:
        """Give the exit status, with what became of the output taken into account."""
        if self._broken is not None and not isinstance(self._broken, BrokenPipeError):
            self.note(f"The output is not whole: {self._broken.strerror}")
        return Exit.REFUSED if self._broken is not None and status is Exit.DONE else status

    def _write(self, write: Callable[[], object]) -> None:
        if self._broken is not None:
            return
        try:
            write()
            sys.stdout.flush()
        except OSError as error:
            self._broken = error
            drop_output()
