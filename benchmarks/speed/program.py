"""A program of the benchmark, seen from within: it obeys one line of JSON after another, and answers each with one.

It stands on the standard library alone: a contestant may live in an environment that has nothing else in common.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["CODE", "Answer", "Commands", "Settings", "measured", "pin", "serve"]

Answer: TypeAlias = dict[str, Any]
"""What a program tells: names and figures. Seconds, bytes, and counts."""

Commands: TypeAlias = Mapping[str, Callable[..., Awaitable[Answer]]]

CODE = "88aaa5de-5ef2-4d1e-9f2b-6f8e6a4d2b5a"
"""The withdrawal that all contestants cancel, over and over."""


@dataclass(frozen=True)
class Settings:
    """What a program is told when it starts.

    Attributes:
        url: The exchange.
        core: The core that it keeps to; None for any.
        authority: A file with the certificate authority that a client trusts.
        certificate: A file with the server's certificate and key.
        port: Where a relay sends on to.
        delay: Seconds by which a relay delays each way.
    """

    url: str = ""
    core: int | None = None
    authority: str = ""
    certificate: str = ""
    port: int = 0
    delay: float = 0.0


def serve(program: Callable[[Settings], AbstractAsyncContextManager[Commands]]) -> None:
    """Run a program: its settings come as the first line, and it ends with its input."""
    settings = Settings(**json.loads(sys.stdin.readline()))
    pin(settings.core)
    asyncio.run(_serve(program, settings))


async def _serve(program: Callable[[Settings], AbstractAsyncContextManager[Commands]], settings: Settings) -> None:
    async with program(settings) as commands:
        _say({})
        # In a thread, so that a client keeps its session alive while others have their turn.
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            _say(await commands[order.pop("do")](**order))


def _say(answer: Answer) -> None:
    print(json.dumps(answer), flush=True)


def pin(core: int | None) -> None:
    """Keep this process to one core, where the system can do that."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


async def measured(work: Awaitable[object]) -> Answer:
    """Do some work, and tell the seconds that it took: `cpu`, of the whole process, and `wall`."""
    cpu, wall = time.process_time(), time.perf_counter()
    await work
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
