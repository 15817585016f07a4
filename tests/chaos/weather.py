"""What goes wrong in the campaign, by the state of the session in which it begins.

Each fault is an asynchronous context manager that lasts as long as its block; what happens at once has happened when
the block begins.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass

from aioalphapoint.testing.logins import LOGIN_FUNCTIONS

from .manners import BOTH, Direction
from .proxy import Link, Proxy
from .witness import Witness

__all__ = ["FAULTS", "Fault", "Weather"]

_CLOSE_CODES = (1000, 1001, 1011, 1012, 4000, None)

# Bytes that have gone each way when the WebSocket handshake is through, about, and when the login is (325 to 420 up,
# 550 to 770 down); with TLS its own handshake comes before.
_HANDSHAKE = 200
_LOGGED_IN = {Direction.UP: 320, Direction.DOWN: 550}
_TLS = {Direction.UP: 620, Direction.DOWN: 1450}


@dataclass(frozen=True)
class Weather:
    """What there is to go wrong, and the chance that decides how."""

    exchange: Witness
    proxy: Proxy
    chance: random.Random
    is_tls: bool
    has_token: bool
    """Whether the client logs in anew by a session token: only after a second factor does it do so."""

    def faults(self, state: str) -> Mapping[str, Fault]:
        """Give those of `FAULTS` in this state of the session that can be felt here."""
        # Without TLS nobody can tell a bit that was turned over from what was meant, and a ticket's number is digits.
        unfelt = {"a corrupted byte": not self.is_tls, "token expired": not self.has_token}
        return {name: fault for name, fault in FAULTS[state].items() if not unfelt.get(name)}


Fault = Callable[[Weather], AbstractAsyncContextManager[None]]


def _lasting(begin: Callable[[Weather], AbstractContextManager[None]]) -> Fault:
    @asynccontextmanager
    async def fault(weather: Weather) -> AsyncIterator[None]:
        with begin(weather):
            yield

    return fault


def _at_once(strike: Callable[[Weather], None]) -> Fault:
    @asynccontextmanager
    async def fault(weather: Weather) -> AsyncIterator[None]:
        strike(weather)
        yield

    return fault


def _again_and_again(strike: Callable[[Weather], None]) -> Fault:
    """Whatever is built up meanwhile is struck at another moment of it each time."""

    @asynccontextmanager
    async def fault(weather: Weather) -> AsyncIterator[None]:
        async def strike_on() -> None:
            while True:
                strike(weather)
                await asyncio.sleep(weather.chance.uniform(0, 0.02))

        striking = asyncio.create_task(strike_on())
        try:
            yield
        finally:
            striking.cancel()
            await asyncio.wait({striking})

    return fault


@asynccontextmanager
async def _close_frame(weather: Weather) -> AsyncIterator[None]:
    await weather.exchange.cut_now(weather.chance.choice(_CLOSE_CODES))
    yield


@asynccontextmanager
async def _exchange_gone(weather: Weather) -> AsyncIterator[None]:
    await weather.exchange.__aexit__(None, None, None)
    try:
        yield
    finally:
        await weather.exchange.__aenter__()


def _cut(weather: Weather, function: str | None = None) -> AbstractContextManager[None]:
    chance = weather.chance
    return weather.exchange.faults.cut(chance.choice(_CLOSE_CODES), before=chance.random() < 0.5, function=function)


def _of_logins(begin: Callable[[Weather, str], AbstractContextManager[None]]) -> Fault:
    """Whichever way the client logs in: by its credentials, the code of a second factor, or a session token."""

    @asynccontextmanager
    async def fault(weather: Weather) -> AsyncIterator[None]:
        with ExitStack() as on:
            for function in sorted(LOGIN_FUNCTIONS):
                on.enter_context(begin(weather, function))
            yield

    return fault


def _at_a_byte(act: Callable[[Link], None], *, is_login: bool = False) -> Fault:
    def begin(weather: Weather) -> AbstractContextManager[None]:
        direction = weather.chance.choice(tuple(Direction))
        before = _TLS[direction] if weather.is_tls else 0
        first, last = (before + _HANDSHAKE, before + _LOGGED_IN[direction]) if is_login else (0, before + _HANDSHAKE)
        return weather.proxy.at(weather.chance.randint(first, last), act, direction)

    return _lasting(begin)


def _one_way(weather: Weather) -> frozenset[Direction]:
    return weather.chance.choice((BOTH, frozenset({Direction.UP}), frozenset({Direction.DOWN})))


_WAY: dict[str, Fault] = {
    "reset": _at_once(lambda weather: weather.proxy.reset()),
    "FIN": _at_once(lambda weather: weather.proxy.finish()),
    "black hole": _lasting(lambda weather: weather.proxy.black_hole()),
    "black hole, one way": _lasting(lambda weather: weather.proxy.black_hole(_one_way(weather))),
    "frozen way": _lasting(lambda weather: weather.proxy.freeze(_one_way(weather))),
    "a few bytes a second": _lasting(lambda weather: weather.proxy.trickle(weather.chance.choice((1, 50, 5000)))),
    "every byte its own segment": _lasting(lambda weather: weather.proxy.split()),
    "coalesced": _lasting(lambda weather: weather.proxy.coalesce(0.02)),
    "latency and jitter": _lasting(lambda weather: weather.proxy.delay(0.02, jitter=0.02, chance=weather.chance)),
    "a corrupted byte": _lasting(lambda weather: weather.proxy.corrupt(weather.chance)),
}
_WAY_OF_A_DIAL = _WAY | {
    "reset": _again_and_again(lambda weather: weather.proxy.reset()),
    "FIN": _again_and_again(lambda weather: weather.proxy.finish()),
}
_EXCHANGE: dict[str, Fault] = {
    "close frame": _close_frame,
    "exchange gone": _exchange_gone,
    "frozen exchange": _lasting(lambda weather: weather.exchange.faults.freeze()),
    "cut at a call": _lasting(_cut),
    "mute": _lasting(lambda weather: weather.exchange.faults.mute()),
    "late replies": _lasting(lambda weather: weather.exchange.faults.delay(weather.chance.uniform(0.0, 0.3))),
    "reordered": _lasting(lambda weather: weather.exchange.faults.reorder(20, weather.chance)),
    "doubled replies": _lasting(lambda weather: weather.exchange.faults.duplicate()),
    "garbled replies": _lasting(lambda weather: weather.exchange.faults.garble()),
    "refused calls": _lasting(lambda weather: weather.exchange.faults.reject(102)),
    "logged out": _at_once(lambda weather: weather.exchange.log_out_everybody()),
    "token expired": _at_once(lambda weather: weather.exchange.faults.expire_token()),
}
FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "dialling": {
        "refused by TCP": _lasting(lambda weather: weather.proxy.refuse()),
        "refused by HTTP": _lasting(lambda weather: weather.exchange.faults.refuse_dial(503)),
        "told to come later": _lasting(lambda weather: weather.exchange.faults.refuse_dial(429)),
        "refused for good": _lasting(lambda weather: weather.exchange.faults.refuse_dial(403)),
        "exchange gone": _exchange_gone,
    }
    | _WAY_OF_A_DIAL,
    "handshake": {
        "reset at a byte": _at_a_byte(Link.reset),
        "FIN at a byte": _at_a_byte(Link.finish),
        "black hole from a byte on": _at_a_byte(Link.swallow),
    },
    "logging in": {
        "reset at a byte": _at_a_byte(Link.reset, is_login=True),
        "FIN at a byte": _at_a_byte(Link.finish, is_login=True),
        "black hole from a byte on": _at_a_byte(Link.swallow, is_login=True),
        "cut": _of_logins(_cut),
        "mute": _of_logins(lambda weather, login: weather.exchange.faults.mute(login)),
        "late": _of_logins(lambda weather, login: weather.exchange.faults.delay(0.1, login)),
        "garbled": _of_logins(lambda weather, login: weather.exchange.faults.garble(login)),
        "doubled": _of_logins(lambda weather, login: weather.exchange.faults.duplicate(login)),
        "refused": _lasting(lambda weather: weather.exchange.faults.refuse_login()),
    },
    "idle": _WAY | _EXCHANGE,
    "loaded": _WAY | _EXCHANGE,
    "closing": _WAY | _EXCHANGE,
}
"""The faults by the state of the session in which they begin, and by name."""
