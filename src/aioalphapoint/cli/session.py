"""A command's run: its session with the exchange, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aioalphapoint import AlphaPointError, Backoff, Client

from .access import read_access
from .exits import Exit, Misuse
from .screen import Screen

__all__ = ["NOWHERE", "Session", "run"]

NOWHERE = "wss://localhost/"
"""The address of a client that is never connected: it checks what it is given, and sends nothing."""

_SHELLS_OFFSET = 128  # what shells add to a signal's number for an exit status

# On the day for which these commands are made, half a minute between two dials is too long.
_SOON = Backoff(first=0.2, cap=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """How a command reaches the exchange.

    Attributes:
        file: Where address and login stand, before the environment; None: nowhere else.
        timeout: Seconds that each call may take.
        oms_id: The order management system; None: the login's.
    """

    screen: Screen
    file: Path | None
    timeout: float
    oms_id: int | None

    @asynccontextmanager
    async def connected(
        self, *, logs_in: bool = True, limiter: AbstractAsyncContextManager[object] | None = None
    ) -> AsyncIterator[Client]:
        """Connect, log in, and close at the end.

        Args:
            logs_in: Whether the command needs a login.
            limiter: Entered before each call.

        Raises:
            Misuse: Address or login are missing or cannot be used.
        """
        access = read_access(os.environ, self.file, two_factor=self._code)
        credentials = access.credentials if logs_in else None
        if logs_in and credentials is None:
            raise Misuse(
                "no login is set: ALPHAPOINT_API_KEY with ALPHAPOINT_API_SECRET and ALPHAPOINT_USER_ID, or "
                "ALPHAPOINT_USER_NAME with ALPHAPOINT_PASSWORD, or ALPHAPOINT_SESSION_TOKEN"
            )
        client = Client(
            access.url,
            credentials,
            timeout=self.timeout,
            connect_timeout=self.timeout,
            limiter=limiter,
            reconnect=_SOON,
            oms_id=self.oms_id,
        )
        async with contextlib.AsyncExitStack() as stack:
            with self.screen.waiting("Connecting ..."):
                await stack.enter_async_context(client)
            yield client

    async def _code(self) -> str:
        return await self.screen.ask("Code of the second factor: ", hidden=True)


def run(screen: Screen, begin: Callable[[], Coroutine[Any, Any, Exit]]) -> Exit:
    """Begin a command, run it to its end, and say in one line what went wrong.

    Ctrl-C, SIGTERM and SIGHUP end it cleanly: what was sent is told, what is on its way to the disk arrives there. A
    second signal does not break into that: it takes some seconds at most.
    """
    signals: list[int] = []
    try:
        with screen.logs():
            status = asyncio.run(_stopped_by_signals(begin(), signals))
    except KeyboardInterrupt:  # before the event loop ran
        status = Exit.INTERRUPTED
    except asyncio.CancelledError:
        status = Exit(_SHELLS_OFFSET + signals[0])
    except (Misuse, AlphaPointError) as error:
        status = screen.fail(error)
    return screen.ended(status)


async def _stopped_by_signals(command: Coroutine[Any, Any, Exit], signals: list[int]) -> Exit:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  (a coroutine runs in one)

    def stop(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            task.cancel()

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # Windows lacks SIGHUP and such handlers; a thread that is not the main one may have none.
        with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError):
            number = getattr(signal, name)
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
    return await command
