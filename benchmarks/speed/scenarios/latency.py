"""How long it takes from the wish to the answer on a long way, and from the exchange's return to the first answer."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

from speed.peers import OURS, PER_CALL
from speed.program import Settings
from speed.result import Line, Result, spread
from speed.stage import Program, Stage

__all__ = ["back", "latency"]

_WAY = 0.05  # seconds, each way
_CALLS = 20
_ALLOWED = 1.1  # ways there and back

_OUTAGES = {1.0: 7, 5.0: 5}  # seconds, and how often


def latency(stage: Stage) -> Result:
    """Measure calls over TLS on a long way: on a session that stands, and on a connection a call with its login."""
    calls = 2 if stage.is_quick else _CALLS
    settings = Settings(core=stage.cores[1], port=stage.tls_port, delay=_WAY)
    with ExitStack() as stack:
        port = stack.enter_context(Program("relay", settings)).ask("listen")["port"]
        warm = stack.enter_context(OURS.start(stage, port=port, tls=True)).ask("times", calls=calls)["seconds"]
        cold = stack.enter_context(PER_CALL.start(stage, port=port, tls=True)).ask("times", calls=calls)["seconds"]
    result = Result(figures={"warm": warm, "cold": cold})
    around = 2 * _WAY
    for what, seconds, allowed in (
        ("the session that stands", warm, _ALLOWED),
        ("a connection a call: TCP, TLS, WebSocket, login, call", cold, None),
    ):
        ways = spread(second / around for second in seconds)
        words = f"from the wish to the answer, TLS, {_WAY * 1000:g} ms each way: {what}"
        seen = f"{ways.words('round trips')}; {spread(seconds).words('ms', 1000)}"
        result.lines.append(
            Line(words, seen)
            if allowed is None
            else Line(words, seen, "1 round trip, and a tenth of one", ways.median <= allowed)
        )
    return result


def back(stage: Stage) -> Result:
    """Let an exchange of its own go away and come back, and time the first call that is answered again."""
    result = Result()
    settings = replace(stage.settings, core=stage.cores[1], certificate=stage.certificate)
    with ExitStack() as stack:
        exchange = stack.enter_context(Program("exchange", settings))
        ours = stack.enter_context(OURS.start(stage, port=exchange.ask("listen")["port"]))
        for outage, times in {0.1: 1}.items() if stage.is_quick else _OUTAGES.items():
            seconds = [_return(exchange, ours, outage) for _ in range(times)]
            result.figures[f"after {outage:g} s"] = seconds
            what = f"from the exchange's return, after {outage:g} s away, to the first answer; default `Backoff`"
            result.lines.append(Line(what, spread(seconds).words("ms", 1000)))
    return result


def _return(exchange: Program, ours: Program, outage: float) -> float:
    ours.ask("first")  # it is connected
    exchange.ask("leave")
    time.sleep(outage)
    listening: float = exchange.ask("listen")["when"]
    answered: float = ours.ask("first")["when"]
    return answered - listening
