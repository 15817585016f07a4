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

from aioalphapoint import AlphaPointError, Client, InvalidArguments, Password

from .access import read_access
from .exits import Exit, Misuse, exit_of
from .screen import Screen
from .terminal import ask

__all__ = ["Session", "run"]

# Seconds for a login during which a person has to find a code and type it.
_TYPING = 60.0


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
            connect_timeout=max(self.timeout, _TYPING) if isinstance(credentials, Password) else self.timeout,
            limiter=limiter,
            oms_id=self.oms_id,
        )
        async with contextlib.AsyncExitStack() as stack:
            with self.screen.waiting("Connecting ..."):
                await stack.enter_async_context(client)
            yield client

    async def _code(self) -> str:
        with self.screen.still():
            return await ask("Code of the second factor: ", hidden=True)


def run(screen: Screen, begin: Callable[[], Coroutine[Any, Any, Exit]]) -> Exit:
    """Begin a command, run it to its end, and say in one line what went wrong.

    Ctrl-C and SIGTERM end it cleanly: what was sent is told, what is on its way to the disk arrives there.
    """
    try:
        with screen.logs():
            status = asyncio.run(_stopped_by_sigterm(begin()))
    except KeyboardInterrupt:
        status = Exit.INTERRUPTED
    except asyncio.CancelledError:
        status = Exit.TERMINATED
    except (Misuse, InvalidArguments) as error:
        status = Exit.USAGE
        screen.note(str(error))
    except AlphaPointError as error:
        status = exit_of(error)
        screen.fail(error, status)
    return screen.ended(status)


async def _stopped_by_sigterm(command: Coroutine[Any, Any, Exit]) -> Exit:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  (a coroutine runs in one)
    with contextlib.suppress(NotImplementedError, RuntimeError):  # on Windows, and in a thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await command
