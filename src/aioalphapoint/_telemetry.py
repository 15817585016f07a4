"""The hook for telemetry: what a client tells of its calls and its dials. It knows no product.

Invariants:

* Each start has one end, however the work ends, its caller's cancellation included.
* A recorder is foreign code: whatever it raises is logged, once a client, and changes nothing for the call.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeAlias, TypeVar, runtime_checkable

from ._logging import HarmlessLog
from .stats import Stats

__all__ = ["ClientRecorder", "End", "Observation", "Telemetry"]

_log = HarmlessLog(logging.getLogger("aioalphapoint"), {})

_Answer = TypeVar("_Answer")
_Told = TypeVar("_Told")
_Arguments = ParamSpec("_Arguments")

End: TypeAlias = Callable[[BaseException | None], None]
"""Called once when the work has ended: with what it raised, or with None."""


class ClientRecorder(Protocol):
    """Records what one client does."""

    def call(self, function: str) -> End:
        """Start recording a call of a function of the exchange."""
        ...

    def connect(self) -> End:
        """Start recording a dial: handshake and login belong to it."""
        ...


@runtime_checkable
class Telemetry(Protocol):
    """What `Client(telemetry=...)` takes. One may serve many clients."""

    def client(self, host: str, stats: Stats) -> ClientRecorder:
        """Make the recorder of a client, which the client holds as long as it lives.

        Args:
            host: Where it leads, such as `wss://HOST:PORT`.
            stats: What it counts; it goes on counting there.
        """
        ...


class Observation:
    """One client under the eyes of a telemetry."""

    def __init__(self, telemetry: Telemetry, host: str, stats: Stats) -> None:
        self._has_failed = False
        self._recorder = self._guarded(telemetry.client, host, stats)

    async def call(self, function: str, work: Awaitable[_Answer]) -> _Answer:
        """Carry out a call and record it."""
        end = None if self._recorder is None else self._guarded(self._recorder.call, function)
        return await self._watched(work, end)

    async def connect(self, work: Awaitable[_Answer]) -> _Answer:
        """Carry out a dial and record it."""
        end = None if self._recorder is None else self._guarded(self._recorder.connect)
        return await self._watched(work, end)

    async def _watched(self, work: Awaitable[_Answer], end: End | None) -> _Answer:
        if end is None:
            return await work
        try:
            answer = await work
        except BaseException as error:
            self._guarded(end, error)
            raise
        self._guarded(end, None)
        return answer

    def _guarded(
        self, tell: Callable[_Arguments, _Told], *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Told | None:
        try:
            return tell(*args, **kwargs)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  (told in the log: see the invariants)
            if not self._has_failed:
                self._has_failed = True
                # Without its words and its context: it was handed the call's error, and that may quote a secret.
                place = "".join(traceback.format_tb(error.__traceback__))
                text = "the telemetry failed with %s; its further failures are not logged\n%s"
                _log.error(text, type(error).__name__, place)
            return None
