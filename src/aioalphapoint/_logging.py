"""Loggers that change nothing for whoever logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["HarmlessLog", "WithoutFrames"]


class HarmlessLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose handlers and filters, which are the program's, cannot become the fate of a session or a call."""

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        exc_info: logging._ExcInfoType | None = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """Log, and let nothing that a handler or a filter raises get out of here."""
        with suppress(Exception):
            super().log(
                level,
                msg,
                *args,
                exc_info=exc_info,
                stack_info=stack_info,
                stacklevel=stacklevel + 1,
                extra=extra,
                **kwargs,
            )


class WithoutFrames(HarmlessLog):
    """Handed to websockets, everything but DEBUG: it logs every frame there, and a login's holds the password."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  (overrides)
        return level > logging.DEBUG and super().isEnabledFor(level)
