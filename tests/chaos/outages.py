"""What goes wrong during the soak: one outage after another, each of a kind that networks and exchanges have."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from aioalphapoint.testing import SimulatedExchange

from .proxy import BOTH, Direction, Link, Proxy

__all__ = ["Outages"]

_CLOSE_CODES = (1000, 1001, 1011, 1012, 4000)
_LONGEST = 8.0  # seconds; an outage is over before the next one, too


@dataclass
class Outages:
    """Lets one outage happen after another, each kind once before any happens twice.

    Attributes:
        exchange: What the client talks to.
        proxy: What stands between.
        chance: Decides which and how.
        happened: How often each kind did.
    """

    exchange: SimulatedExchange
    proxy: Proxy
    chance: random.Random
    happened: Counter[str] = field(default_factory=Counter)

    async def run(self, every: float) -> None:
        """Let one happen every so many seconds, until it is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for name in self.chance.sample(list(_KINDS), len(_KINDS)):
                due += every
                await asyncio.sleep(due - loop.time())
                self.happened[name] += 1
                with _KINDS[name](self):
                    await asyncio.sleep(self.chance.uniform(0.1, min(_LONGEST, every / 2)))

    def some_way(self) -> frozenset[Direction]:
        """Choose which ways are concerned."""
        return self.chance.choice((BOTH, frozenset({Direction.UP}), frozenset({Direction.DOWN})))


_Kind = Callable[[Outages], AbstractContextManager[None]]


def _at_once(strike: Callable[[Outages], object]) -> _Kind:
    @contextmanager
    def kind(outages: Outages) -> Iterator[None]:
        strike(outages)
        yield

    return kind


def _at_a_dial(fault: _Kind) -> _Kind:
    """A fault that dials and logins meet: let it begin, and then make the client dial."""

    @contextmanager
    def kind(outages: Outages) -> Iterator[None]:
        with fault(outages):
            outages.proxy.reset()
            yield

    return kind


@contextmanager
def _close_frame(outages: Outages) -> Iterator[None]:
    with outages.exchange.faults.cut(outages.chance.choice(_CLOSE_CODES), before=outages.chance.random() < 0.5):
        yield


def _at_a_byte(outages: Outages) -> AbstractContextManager[None]:
    act = outages.chance.choice((Link.reset, Link.finish, Link.swallow))
    return outages.proxy.at(outages.chance.randint(0, 900), act, outages.chance.choice(tuple(Direction)))


def _late(outages: Outages) -> AbstractContextManager[None]:
    return outages.proxy.delay(0.2, jitter=0.2, chance=outages.chance)


_KINDS: dict[str, _Kind] = {
    # The way.
    "reset": _at_once(lambda outages: outages.proxy.reset()),
    "FIN": _at_once(lambda outages: outages.proxy.finish()),
    "black hole": lambda outages: outages.proxy.black_hole(),
    "black hole, some way": lambda outages: outages.proxy.black_hole(outages.some_way()),
    "frozen way": lambda outages: outages.proxy.freeze(outages.some_way()),
    "trickle": lambda outages: outages.proxy.trickle(outages.chance.choice((1, 50, 5000)), outages.some_way()),
    "every byte its own segment": lambda outages: outages.proxy.split(),
    "coalesced": lambda outages: outages.proxy.coalesce(0.05),
    "latency and jitter": _late,
    # Upwards a bit that was turned over could make the exchange lock the user for good.
    "corrupted": lambda outages: outages.proxy.corrupt(outages.chance, {Direction.DOWN}),
    "dial refused by TCP": _at_a_dial(lambda outages: outages.proxy.refuse()),
    "dial lost at a byte": _at_a_dial(_at_a_byte),
    # The exchange.
    "cut by a close code": _close_frame,
    "mute": lambda outages: outages.exchange.faults.mute(),
    "late replies": lambda outages: outages.exchange.faults.delay(outages.chance.uniform(0.1, 2.0)),
    "reordered": lambda outages: outages.exchange.faults.reorder(20, outages.chance),
    "doubled replies": lambda outages: outages.exchange.faults.duplicate(),
    "garbled replies": lambda outages: outages.exchange.faults.garble(),
    "refused calls": lambda outages: outages.exchange.faults.reject(102),
    "frozen exchange": lambda outages: outages.exchange.faults.freeze(),
    "accepted and not done": lambda outages: outages.exchange.faults.accept_only(),
    "dial refused by HTTP": _at_a_dial(lambda outages: outages.exchange.faults.refuse_dial(503)),
    "login refused": _at_a_dial(lambda outages: outages.exchange.faults.refuse_login()),
    "logged out": _at_once(lambda outages: outages.exchange.log_out_everybody()),
    "token expired": _at_a_dial(_at_once(lambda outages: outages.exchange.faults.expire_token())),
}
