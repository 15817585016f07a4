"""The caller's rate limiter around a call: foreign code that must not change what is known of the call."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from ._logging import HarmlessLog
from .errors import CallNotSent

__all__ = ["enter_limiter", "leave_limiter"]

_log = HarmlessLog(logging.getLogger("aioalphapoint"), {})


async def enter_limiter(
    limiter: AbstractAsyncContextManager[object], function: str, *, deadline: float, timeout: float
) -> AsyncExitStack:
    """Wait until the limiter lets the call through.

    Raises:
        CallNotSent: It did not by the deadline, or it failed.
    """
    entered = AsyncExitStack()
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            await entered.enter_async_context(limiter)
    except Exception as error:
        why = f"did not let it through within {timeout:g} s" if limit.expired() else f"failed: {type(error).__name__}"
        raise CallNotSent(f"{function} was not sent: the limiter {why}", function=function) from error
    return entered


async def leave_limiter(entered: AsyncExitStack, *, deadline: float) -> None:
    """Leave the limiter by the call's deadline, whatever it does; the call's own outcome stands."""
    try:
        async with asyncio.timeout_at(deadline):
            await entered.aclose()  # told of no exception, so it can swallow none
    except Exception:  # noqa: BLE001  (a failure here is told in the log: the caller must get the call's outcome)
        _log.warning("the limiter failed on being left", exc_info=True)
