"""Spans and metrics of a client for OpenTelemetry; the extra `otel` brings what it needs.

    from aioalphapoint.otel import Telemetry

    client = Client(url, credentials, telemetry=Telemetry())

Names and attributes are those of OpenTelemetry's semantic conventions for RPC, version 1.44.0 (release candidate):
https://opentelemetry.io/docs/specs/semconv/rpc/

* Each call that a program makes is one CLIENT span and one value of the histogram `rpc.client.call.duration` (seconds),
  whose count is the number of calls. It lasts from the call to its outcome, waiting for a session included. `call`
  without a function's name, and `log_out` with a timeout that is none, are refused before they are calls.
* `rpc.method` is the function. One that the library has no method for is `_OTHER`, and its name stands in the span
  alone (`rpc.method_original`): a program can call anything, and metrics must stay few. `functions` names more.
* `aioalphapoint.outcome` says what the caller knows: `ok`, `rejected`, `not_sent`, `unknown`, `cancelled`. `error.type`
  is the name of the exception's class, in the place of the exchange's code: the classes are few and known, codes
  are not. `rpc.response.status_code` is the code of a refusal; metrics have it where the code has a class of its own.
* A dial, with its handshake and login, is a value of `aioalphapoint.client.connect.duration` (seconds) and no span: it
  belongs to no caller, and the same holds for the pings that keep a session alive, which are not recorded at all.
  A login that a program makes by `call` is a call.
* What `Client.stats` counts is observed: `aioalphapoint.client.in_flight`, `.reconnects`, `.dropped_frames` (with
  `aioalphapoint.reason`: `late` or `unknown`) and `.dropped_events`.
* No payload, no secret and no word of the exchange's is recorded.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import NamedTuple, TypeAlias
from urllib.parse import urlsplit

from ._totals import Server, Totals
from .errors import AuthenticationFailed, CallNotSent, CallRejected, quote
from .stats import Stats

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
except ModuleNotFoundError as _missing:
    raise ImportError(f"aioalphapoint.otel needs {_missing.name}: pip install 'aioalphapoint[otel]'") from _missing

__all__ = ["Telemetry"]

_NAME = "aioalphapoint"
_VERSION = version(_NAME)
_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_SYSTEM = "alphapoint"
_OTHER = "_OTHER"
_STATUS_CODE = "rpc.response.status_code"

# The functions that the library knows by name.
_FUNCTIONS = frozenset(
    {
        "Authenticate2FA",
        "AuthenticateUser",
        "CancelFailedWithdrawTicket",
        "CancelWithdraw",
        "GetAllWithdrawTickets",
        "GetWithdrawTicket",
        "GetWithdrawTickets",
        "GetWithdraws",
        "LogOut",
        "Ping",
        "SubscribeAccountEvents",
        "SubscribeAllAccountEvents",
        "WebAuthenticateUser",
    }
)

# Seconds, as the conventions advise for calls; a dial may wait for a human with a second factor.
_CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_CONNECT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_Attributes: TypeAlias = dict[str, str | int]


class Telemetry:
    """Records the calls of one or many clients. It can be used from several threads.

    Args:
        tracer_provider: Makes the spans; left out, the process's global one, also if that is set later.
        meter_provider: Makes the metrics; left out, likewise.
        functions: Names of functions that the program calls by `Client.call`, to be told apart in metrics.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        functions: Iterable[str] = (),
    ) -> None:
        meter = metrics.get_meter(_NAME, _VERSION, meter_provider, _SCHEMA)
        self._instruments = _Instruments(
            functions=_FUNCTIONS.union(functions),
            tracer=trace.get_tracer(_NAME, _VERSION, tracer_provider, _SCHEMA),
            call_duration=meter.create_histogram(
                "rpc.client.call.duration",
                unit="s",
                description="Duration of a call, from the call to its outcome.",
                explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
            ),
            connect_duration=meter.create_histogram(
                "aioalphapoint.client.connect.duration",
                unit="s",
                description="Duration of a dial: connection, handshake and login.",
                explicit_bucket_boundaries_advisory=_CONNECT_BUCKETS,
            ),
        )
        self._totals = _totals_of(meter_provider, meter)

    def client(self, host: str, stats: Stats) -> _Recorder:
        """Make the recorder of a client; `Client` does that.

        Args:
            host: Where it leads, such as `wss://HOST:PORT`.
            stats: What it counts.
        """
        parts = urlsplit(host)
        server = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
        recorder = _Recorder(self._instruments, server)
        self._totals.add(recorder, server, stats)
        return recorder


class _Instruments(NamedTuple):
    functions: frozenset[str]
    tracer: trace.Tracer
    call_duration: metrics.Histogram
    connect_duration: metrics.Histogram


class _Recorder:
    """Records what one client does."""

    def __init__(self, instruments: _Instruments, server: Server) -> None:
        self._instruments = instruments
        self._attributes: _Attributes = {"rpc.system.name": _SYSTEM, **_server_attributes(server)}

    def call(self, function: str) -> Callable[[BaseException | None], None]:
        is_known = function in self._instruments.functions
        attributes: _Attributes = {**self._attributes, "rpc.method": function if is_known else _OTHER}
        started, clock = time.time_ns(), time.perf_counter_ns()
        span = self._instruments.tracer.start_span(
            function if is_known else _SYSTEM,
            kind=SpanKind.CLIENT,
            attributes=attributes if is_known else {**attributes, "rpc.method_original": quote(function)},
            start_time=started,
        )

        def end(error: BaseException | None) -> None:
            took = time.perf_counter_ns() - clock
            known_at_end: _Attributes = {"aioalphapoint.outcome": _outcome(error)}
            if error is not None:
                # Without the exception and its words: they may quote the exchange's.
                known_at_end["error.type"] = type(error).__name__
                span.set_status(Status(StatusCode.ERROR))
            if isinstance(error, CallRejected) and error.code is not None:
                span.set_attribute(_STATUS_CODE, str(error.code))
                if type(error) is not CallRejected:
                    known_at_end[_STATUS_CODE] = str(error.code)
            span.set_attributes(known_at_end)
            span.end(started + took)
            context = trace.set_span_in_context(span)  # for exemplars
            self._instruments.call_duration.record(took / 1e9, attributes | known_at_end, context)

        return end

    def connect(self) -> Callable[[BaseException | None], None]:
        clock = time.perf_counter_ns()

        def end(error: BaseException | None) -> None:
            attributes = {**self._attributes}
            if error is not None:
                attributes["error.type"] = type(error).__name__
            self._instruments.connect_duration.record((time.perf_counter_ns() - clock) / 1e9, attributes)

        return end


def _server_attributes(server: Server) -> _Attributes:
    return {"server.address": server[0], "server.port": server[1]}


def _outcome(error: BaseException | None) -> str:
    match error:
        case None:
            return "ok"
        case CallRejected():
            return "rejected"
        case CallNotSent() | AuthenticationFailed():  # a call is refused for a login's sake before it is sent
            return "not_sent"
        case Exception():
            return "unknown"
        case _:
            return "cancelled"


def _observed(totals: Totals, name: str, reason: str = "") -> Callable[[CallbackOptions], Iterator[Observation]]:
    """Make what an instrument calls to read one of the counts."""
    because: _Attributes = {"aioalphapoint.reason": reason} if reason else {}

    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for server, counts in totals.read().items():
            yield Observation(counts[name], {**_server_attributes(server), **because})

    return observe


# One for each meter provider: of a second observable instrument of the same name the SDK drops the callback without
# a word. The global provider, which may be set later, is known by the function that gives it.
_shared: weakref.WeakKeyDictionary[object, Totals] = weakref.WeakKeyDictionary()
_sharing = threading.Lock()


def _totals_of(provider: MeterProvider | None, meter: metrics.Meter) -> Totals:
    present = metrics.get_meter_provider()
    keys = [metrics.get_meter_provider, present] if provider in (None, present) else [provider]
    with _sharing:
        totals = next((_shared[key] for key in keys if key in _shared), None)
        if totals is None:
            totals = Totals()
            _observe(totals, meter)
        for key in keys:
            _shared[key] = totals
    return totals


def _observe(totals: Totals, meter: metrics.Meter) -> None:
    meter.create_observable_up_down_counter(
        "aioalphapoint.client.in_flight",
        [_observed(totals, "in_flight")],
        unit="{call}",
        description="Calls under way, those that wait for a session included.",
    )
    meter.create_observable_counter(
        "aioalphapoint.client.reconnects",
        [_observed(totals, "reconnects")],
        unit="{reconnect}",
        description="Sessions set up again after one was lost.",
    )
    meter.create_observable_counter(
        "aioalphapoint.client.dropped_frames",
        [_observed(totals, "late_replies", "late"), _observed(totals, "dropped_frames", "unknown")],
        unit="{frame}",
        description="Messages that reached nobody: replies that came too late or twice, and what belongs to no call.",
    )
    meter.create_observable_counter(
        "aioalphapoint.client.dropped_events",
        [_observed(totals, "dropped_events")],
        unit="{event}",
        description="Events that a listener did not read in time.",
    )
