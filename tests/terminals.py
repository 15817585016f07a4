"""A terminal of its own for a program: what it prints there, what is typed there, and how it ends."""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

_PATIENCE = 30.0  # seconds


class Terminal:
    """A running program and the other end of its terminal."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self._process = process
        self._master = master
        self._news = asyncio.Event()
        self.shown = ""
        """All that was printed so far."""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux tells that the last of the other end's descriptors is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.shown += data.decode(errors="replace")
        self._news.set()

    async def expect(self, text: str) -> None:
        """Wait until a text was printed."""
        async with asyncio.timeout(_PATIENCE):
            while text not in self.shown:
                self._news.clear()
                await self._news.wait()

    def type(self, text: str) -> None:
        """Type, an Enter being a newline and Ctrl-C "\\x03"."""
        os.write(self._master, text.encode())

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def echoes(self) -> bool:
        """Tell whether what is typed is shown."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    async def ended(self) -> int:
        """Wait for the program's end, and give its exit status."""
        return await asyncio.wait_for(self._process.wait(), _PATIENCE)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        os.close(self._master)


@asynccontextmanager
async def terminal(
    *command: str | Path, environment: Mapping[str, str], columns: int = 120, stdin: int | None = None
) -> AsyncIterator[Terminal]:
    """Start a program at a terminal of its own; `stdin` takes the place of the terminal's input."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def at_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=slave if stdin is None else stdin,
        stdout=slave,
        stderr=slave,
        # Where the tests run, somebody may have said how wide things are: here the terminal says so.
        env={name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")},
        preexec_fn=at_the_terminal,
        pass_fds=(slave,),
    )
    os.close(slave)
    opened = Terminal(process, master)
    try:
        yield opened
    finally:
        await opened.close()
