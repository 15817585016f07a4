"""A question to whoever sits at the terminal, while the event loop goes on: an answer may take minutes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

from .exits import Misuse

__all__ = ["ask", "has_terminal"]

_TERMINAL = "/dev/tty"  # not standard input: that may be a list of tickets
_LONGEST_LINE = 4096  # bytes: no terminal gives more in one line


def has_terminal() -> bool:
    """Tell whether somebody can be asked."""
    try:
        os.close(_opened())
    except OSError:
        return False
    return True


async def ask(question: str, *, hidden: bool = False) -> str:
    """Ask, and give the line that is typed, without blanks around it; an end of input is an empty answer.

    Cancelling it leaves the terminal as it was.

    Args:
        question: What to print before the answer.
        hidden: Do not show what is typed.

    Raises:
        Misuse: There is no terminal.
    """
    try:
        terminal = _opened()
    except OSError:
        raise Misuse(f"there is no terminal to ask at: {question.strip()}") from None
    import termios  # noqa: PLC0415  (POSIX alone has it, as it has the terminal)

    loop = asyncio.get_running_loop()
    answered = loop.create_future()
    try:
        with _hidden(terminal) if hidden else contextlib.nullcontext():
            termios.tcflush(terminal, termios.TCIFLUSH)  # what was typed before the question is no answer to it
            os.write(terminal, question.encode())
            loop.add_reader(terminal, _take, terminal, answered)
            try:
                line: bytes = await answered
            finally:
                loop.remove_reader(terminal)
                if hidden or not answered.done():
                    os.write(terminal, b"\n")  # the one that was typed was not shown
    finally:
        os.close(terminal)
    return line.decode(errors="replace").strip()


def _opened() -> int:
    return os.open(_TERMINAL, os.O_RDWR | getattr(os, "O_NOCTTY", 0))  # elsewhere there is no such file either


def _take(terminal: int, answered: asyncio.Future[bytes]) -> None:
    if answered.done():
        return
    try:
        answered.set_result(os.read(terminal, _LONGEST_LINE))
    except OSError:  # the terminal was closed: nobody answers any more
        answered.set_result(b"")


@contextlib.contextmanager
def _hidden(terminal: int) -> Iterator[None]:
    import termios  # noqa: PLC0415  (as above)

    before = termios.tcgetattr(terminal)
    silent = termios.tcgetattr(terminal)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
