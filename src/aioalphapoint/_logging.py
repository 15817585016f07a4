"""The logger handed to websockets, for both ends."""

from __future__ import annotations

import logging

__all__ = ["WithoutFrames"]


class WithoutFrames(logging.LoggerAdapter[logging.Logger]):
    """Everything but DEBUG: websockets logs every frame there, and a login's frame holds the password."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802  (overrides)
        return level > logging.DEBUG and super().isEnabledFor(level)
