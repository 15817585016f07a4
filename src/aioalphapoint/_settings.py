"""How a session is set up: what a client was given, once it was found to make sense."""

from __future__ import annotations

from dataclasses import dataclass, field
from ssl import SSLContext

from ._auth import Credentials
from ._backoff import Backoff
from ._telemetry import Observation

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a session is set up; what the fields mean is told at `Client`."""

    url: str = field(repr=False)  # some venues put tokens into it
    host: str
    credentials: Credentials | None
    connect_timeout: float
    ping_interval: float | None
    reconnect: Backoff | None
    max_message_size: int
    ssl: SSLContext | None
    proxy: str | bool | None = field(repr=False)  # its address may hold a password
    observation: Observation | None
