"""The event loops under which the library has to hold."""

import asyncio
import sys
from collections.abc import Callable

import pytest
import uvloop

__all__ = ["LOOPS", "Factory"]

Factory = Callable[[], asyncio.AbstractEventLoop]


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]  # Python 3.12
    return loop


LOOPS = pytest.mark.parametrize(
    "factory",
    [
        asyncio.new_event_loop,
        uvloop.new_event_loop,
        pytest.param(
            _eager_loop,
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12"),
        ),
    ],
    ids=["asyncio", "uvloop", "eager tasks"],
)
"""Runs a test once under each, with what makes the loop as its argument `factory`."""
