"""Telemetry: each call once, with its caller's outcome; nothing secret, nothing unbounded, and no call harmed by it."""

import asyncio
import gc
import json
import subprocess
import sys
import textwrap
import traceback
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    AlphaPointError,
    AuthenticationFailed,
    Backoff,
    CallRejected,
    CallTimeout,
    Client,
    ConnectFailed,
    ConnectionLost,
    InvalidArguments,
    NotAuthorized,
    NotConnected,
    OperationFailed,
    Overloaded,
    Password,
    SessionState,
    Stats,
    UnexpectedReply,
)
from aioalphapoint._totals import Totals
from aioalphapoint.otel import _FUNCTIONS, Telemetry
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE
from scripted import answer_all, reply, scripted
from wire import CODE, add

SOON = Backoff(first=0.01, cap=0.05)
DURATION = "rpc.client.call.duration"
CONNECT = "aioalphapoint.client.connect.duration"
OUTCOME = "aioalphapoint.outcome"
STATUS = "rpc.response.status_code"


class Recorded:
    """A telemetry, and what it has recorded."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])
        self.telemetry = self.another(**options)

    def another(self, **options: Any) -> Telemetry:
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """Give attributes and value of each point of a metric; of a histogram, the count."""
        data = self._reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        points = [
            point
            for scope in scopes
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]
        return [
            (dict(point.attributes or {}), point.value if isinstance(point, NumberDataPoint) else point.count)
            for point in points
        ]

    def total(self, name: str, **wanted: str) -> int:
        return sum(value for attributes, value in self.points(name) if wanted.items() <= attributes.items())


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    made = Recorded()
    yield made
    made.meters.shutdown()
    made.tracers.shutdown()


async def ok(client: Client) -> None:
    await client.cancel_withdraw(account_id=7, request_code=CODE)


async def rejected(client: Client) -> None:
    await client.cancel_withdraw(account_id=7, request_code="0" + CODE[1:])


async def not_permitted(client: Client) -> None:
    await client.get_all_withdraw_tickets()


async def refused_by_the_gateway(client: Client) -> None:
    await client.call("NoSuchFunction")


async def wrong_argument(client: Client) -> None:
    await client.cancel_withdraw(account_id=-1, request_code=CODE)


async def wrong_payload(client: Client) -> None:
    await client.call("GetWithdraws", {"a": object()})


async def wrong_timeout(client: Client) -> None:
    await client.get_withdraws(account_id=7, timeout=-1)


async def timeout(client: Client) -> None:
    await client.call("Mute", timeout=0.05)


async def garbled(client: Client) -> None:
    await client.get_withdraw_ticket(account_id=7, request_code=CODE)


async def closed(client: Client) -> None:
    await client.close()
    await client.ping()


async def logged_out(client: Client) -> None:
    await client.log_out()


@pytest.mark.parametrize(
    ("work", "error", "name", "outcome", "code"),
    [
        (ok, None, "CancelWithdraw", "ok", None),
        (rejected, OperationFailed, "CancelWithdraw", "rejected", "101"),
        (not_permitted, NotAuthorized, "GetAllWithdrawTickets", "rejected", "20"),
        (refused_by_the_gateway, CallRejected, "alphapoint", "rejected", None),
        (wrong_argument, InvalidArguments, "CancelWithdraw", "not_sent", None),
        (wrong_payload, InvalidArguments, "GetWithdraws", "not_sent", None),
        (wrong_timeout, InvalidArguments, "GetWithdraws", "not_sent", None),
        (timeout, CallTimeout, "alphapoint", "unknown", None),
        (garbled, UnexpectedReply, "GetWithdrawTicket", "unknown", None),
        (closed, NotConnected, "Ping", "not_sent", None),
        (logged_out, None, "LogOut", "ok", None),
    ],
)
async def test_each_call_is_one_span_and_one_duration_with_its_callers_outcome(
    work: Callable[[Client], Awaitable[None]],
    error: type[AlphaPointError] | None,
    name: str,
    outcome: str,
    code: str | None,
    exchange: SimulatedExchange,
    recorded: Recorded,
) -> None:
    add(exchange)
    raised: BaseException | None = None
    with exchange.faults.garble("GetWithdrawTicket"), exchange.faults.mute("Mute"):
        async with Client(exchange.url, ALICE, telemetry=recorded.telemetry) as client:
            try:
                await work(client)
            except AlphaPointError as caught:
                raised = caught
    assert type(raised) is (error or type(None))
    (span,) = recorded.spans
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind) == (name, SpanKind.CLIENT)
    assert attributes["rpc.system.name"] == "alphapoint"
    assert attributes["server.address"] == "127.0.0.1"
    assert f":{attributes['server.port']}/" in exchange.url
    assert attributes["rpc.method"] == ("_OTHER" if name == "alphapoint" else name)
    assert ("rpc.method_original" in attributes) == (name == "alphapoint")
    assert attributes[OUTCOME] == outcome
    assert attributes.get("error.type") == (error and error.__name__)
    assert attributes.get(STATUS) == code
    assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
    assert (span.status.description, span.events) == (None, ())
    ((measured, count),) = recorded.points(DURATION)
    assert count == 1
    assert measured == {key: value for key, value in attributes.items() if key != "rpc.method_original"}
    assert recorded.total("aioalphapoint.client.in_flight") == 0


async def test_a_span_lasts_as_long_as_what_is_measured_and_the_wait_for_a_session_belongs_to_it(
    exchange: SimulatedExchange, recorded: Recorded
) -> None:
    async with Client(exchange.url, ALICE, telemetry=recorded.telemetry, reconnect=SOON) as client:
        with exchange.faults.refuse_dial():
            await exchange.cut_now()
            await client.wait_for_state(SessionState.RECONNECTING)
            with pytest.raises(NotConnected):
                await client.ping(timeout=0.1)
    (span,) = recorded.spans
    assert span.start_time is not None
    assert span.end_time is not None
    took = (span.end_time - span.start_time) / 1e9
    assert 0.1 <= took < 2
    data = recorded._reader.get_metrics_data()
    assert data is not None
    sums = [
        point.sum  # type: ignore[union-attr]  # the point of a histogram
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == DURATION
        for point in metric.data.data_points
    ]
    assert sums == [took]


async def test_the_callers_span_is_the_parent_and_a_background_dial_has_none(
    exchange: SimulatedExchange, recorded: Recorded
) -> None:
    tracer = recorded.tracers.get_tracer("a program")
    with tracer.start_as_current_span("connecting"):
        client = Client(exchange.url, ALICE, telemetry=recorded.telemetry, reconnect=SOON, ping_interval=0.02)
        await client.connect()
    with tracer.start_as_current_span("stopping") as parent:
        await asyncio.gather(client.ping(), client.get_withdraws(account_id=7))
        assert trace.get_current_span() is parent
    await exchange.cut_now()
    await client.ping()
    while sum(arrival.function == "Ping" for arrival in exchange.journal) < 5:
        await asyncio.sleep(0.001)  # pings of the keepalive's own
    await client.close()
    parents = {(span.name, span.parent and span.parent.span_id) for span in recorded.spans}
    inside = parent.get_span_context().span_id
    assert parents == {
        *[("connecting", None), ("stopping", None), ("Ping", inside), ("GetWithdraws", inside), ("Ping", None)]
    }
    assert len(recorded.spans) == 5
    assert recorded.total(CONNECT) == 2
    assert recorded.total("aioalphapoint.client.reconnects") == 1


async def test_a_cancelled_caller_is_recorded_and_the_cancellation_passes_on(
    exchange: SimulatedExchange, recorded: Recorded
) -> None:
    async with Client(exchange.url, ALICE, telemetry=recorded.telemetry) as client:
        with exchange.faults.mute("Ping"):
            calling = asyncio.create_task(client.ping())
            while client.stats.sent < 2:
                await asyncio.sleep(0)
            assert recorded.total("aioalphapoint.client.in_flight") == 1
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
        assert await client.ping() > 0
    assert [(span.attributes or {})[OUTCOME] for span in recorded.spans] == ["cancelled", "ok"]
    assert [attributes.get("error.type") for attributes, _ in recorded.points(DURATION)] == ["CancelledError", None]
    assert recorded.total("aioalphapoint.client.in_flight") == 0


async def test_a_lost_connection_an_overload_and_a_dead_login_are_told_apart(
    exchange: SimulatedExchange, recorded: Recorded
) -> None:
    async with Client(exchange.url, ALICE, telemetry=recorded.telemetry, reconnect=SOON, max_in_flight=1) as client:
        with exchange.faults.mute("Held"):
            held = asyncio.create_task(client.call("Held"))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await client.ping()
            while not any(arrival.function == "Held" for arrival in exchange.journal):
                await asyncio.sleep(0.001)
            with exchange.faults.refuse_login():
                await exchange.cut_now()
                with pytest.raises(ConnectionLost):
                    await held
                with pytest.raises(AuthenticationFailed):
                    await client.ping()
    told = [((span.attributes or {})[OUTCOME], (span.attributes or {})["error.type"]) for span in recorded.spans]
    assert told == [("not_sent", "Overloaded"), ("unknown", "ConnectionLost"), ("not_sent", "AuthenticationFailed")]
    assert recorded.total(CONNECT, **{"error.type": "AuthenticationFailed"}) == 1


async def test_late_replies_and_dropped_frames_are_counted_apart(recorded: Recorded) -> None:
    async def babble(socket: ServerConnection) -> None:
        request = await socket.recv()
        for frame in ("no frame", reply(request), reply(request), reply(request)):
            await socket.send(frame)
        await answer_all(socket)

    async with scripted(babble) as url, Client(url, telemetry=recorded.telemetry) as client:
        await client.call("F")
        await client.call("G")
        dropped = {a["aioalphapoint.reason"]: n for a, n in recorded.points("aioalphapoint.client.dropped_frames")}
        assert dropped == {"late": 2, "unknown": 1}


async def test_a_failed_dial_is_measured_and_is_no_call(recorded: Recorded) -> None:
    with pytest.raises(ConnectFailed):
        await Client("ws://127.0.0.1:1/", telemetry=recorded.telemetry).connect()
    assert recorded.spans == ()
    ((attributes, count),) = recorded.points(CONNECT)
    assert (attributes["error.type"], attributes["server.port"], count) == ("ConnectFailed", 1, 1)
    assert recorded.points(DURATION) == []


async def test_any_function_can_be_called_and_the_metrics_stay_few(recorded: Recorded) -> None:
    async with scripted(answer_all) as url:
        telemetry = recorded.another(functions=["GetInstruments"])
        async with Client(url, telemetry=telemetry) as client:
            await asyncio.gather(*(client.call(f"Function{number}" * 100) for number in range(50)))
            await client.call("GetInstruments")
    assert {a["rpc.method"]: n for a, n in recorded.points(DURATION)} == {"_OTHER": 50, "GetInstruments": 1}
    assert {span.name for span in recorded.spans} == {"alphapoint", "GetInstruments"}
    originals = [(span.attributes or {}).get("rpc.method_original", "") for span in recorded.spans]
    assert len(set(originals)) == 51
    assert all(len(str(name)) <= 201 for name in originals)


async def test_codes_that_nobody_knows_make_no_series_of_metrics(recorded: Recorded) -> None:
    async def refuse(socket: ServerConnection) -> None:
        number = 5000
        async for request in socket:
            number += 1
            await socket.send(reply(request, json.dumps({"result": False, "errorcode": number, "errormsg": "no"})))

    async with scripted(refuse) as url, Client(url, telemetry=recorded.telemetry) as client:
        for _ in range(5):
            with pytest.raises(CallRejected):
                await client.ping()
    assert [(span.attributes or {})[STATUS] for span in recorded.spans] == ["5001", "5002", "5003", "5004", "5005"]
    ((attributes, count),) = recorded.points(DURATION)
    assert count == 5
    assert STATUS not in attributes


async def test_every_function_of_the_library_is_known_by_name(exchange: SimulatedExchange, recorded: Recorded) -> None:
    add(exchange)
    async with Client(exchange.url, ALICE, telemetry=recorded.telemetry) as client:
        await client.get_withdraws(account_id=7)
        await client.get_withdraw_tickets(account_id=7)
        await client.get_withdraw_ticket(account_id=7, request_code=CODE)
        async with client.subscribe_account_events(account_id=7):
            await client.cancel_withdraw(account_id=7, request_code=CODE)
        for refused in (client.cancel_failed_withdraw_ticket(ticket_id=292), client.get_all_withdraw_tickets()):
            with pytest.raises(CallRejected):
                await refused
        with pytest.raises(CallRejected):
            async with client.subscribe_all_account_events():
                pass
        await client.ping()
        await client.call("WebAuthenticateUser", {"SessionToken": "x"})
        await client.log_out()
    assert "_OTHER" not in {attributes["rpc.method"] for attributes, _ in recorded.points(DURATION)}
    assert {span.name for span in recorded.spans} == _FUNCTIONS - {"Authenticate2FA", "AuthenticateUser"}


async def test_no_secret_and_no_payload_is_recorded(recorded: Recorded) -> None:
    async def echo(socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            if frame["n"] == "AuthenticateUser":
                await socket.send(reply(request, '{"Authenticated":true,"SessionToken":"canary-token"}'))
            else:
                await socket.send(json.dumps({"m": 5, "i": frame["i"], "n": "canary", "o": f"canary {request!s}"}))

    async with (
        scripted(echo) as url,
        Client(url, Password("alice", "canary-password"), telemetry=recorded.telemetry) as client,
    ):
        with pytest.raises(CallRejected):
            await client.call("AuthenticateUser2", {"Password": "canary"})
    spans = "".join(span.to_json() for span in recorded.spans)
    data = recorded._reader.get_metrics_data()
    assert data is not None
    assert "rpc.method" in spans
    assert DURATION in data.to_json()
    assert "canary" not in spans + data.to_json()


# Totals.


async def test_totals_of_clients_that_are_gone_do_not_fall_and_clients_are_not_held(recorded: Recorded) -> None:
    client: Client | None = Client("ws://127.0.0.1:1/", telemetry=recorded.telemetry)
    assert client is not None
    client._stats.reconnects = 3
    other = Client("ws://127.0.0.1:1/", telemetry=recorded.another())  # of the same provider
    other._stats.reconnects = 4
    assert recorded.points("aioalphapoint.client.reconnects") == [
        ({"server.address": "127.0.0.1", "server.port": 1}, 7)
    ]
    gone = weakref.ref(client)
    client = None
    gc.collect()
    assert gone() is None
    assert recorded.total("aioalphapoint.client.reconnects") == 7
    assert recorded.total("aioalphapoint.client.reconnects") == 7
    other._stats.reconnects += 1
    assert recorded.total("aioalphapoint.client.reconnects") == 8


async def test_a_program_that_makes_a_client_a_call_does_not_fill_the_memory(recorded: Recorded) -> None:
    totals = recorded.telemetry._totals
    for _ in range(500):  # nobody reads the metrics meanwhile
        client = Client("ws://127.0.0.1:1/", telemetry=recorded.telemetry)
        client._stats.late_replies = 1
        del client
    gc.collect()
    assert recorded.total("aioalphapoint.client.dropped_frames") == 500
    assert (len(totals._live), len(totals._ended), len(totals._gone)) == (0, 0, 1)


def test_what_ended_is_worked_off_though_nobody_reads() -> None:
    totals = Totals()

    class Owner:
        pass

    for _ in range(100):
        totals.add(Owner(), ("host", 1), Stats(reconnects=1))
    assert len(totals._live) + len(totals._ended) <= 4
    assert totals.read()["host", 1]["reconnects"] == 100


# Harm.


class Failing:
    """A telemetry that fails in one place or everywhere."""

    def __init__(self, *places: str) -> None:
        self._places = places

    error: type[BaseException] = LookupError

    def _fail(self, place: str) -> None:
        if place in self._places:
            raise self.error(f"the telemetry failed in {place}")

    def client(self, _host: str, _stats: Stats) -> "Failing":
        self._fail("client")
        return self

    def call(self, _function: str) -> Callable[[BaseException | None], None]:
        self._fail("call")
        return lambda _error: self._fail("end")

    def connect(self) -> Callable[[BaseException | None], None]:
        self._fail("connect")
        return lambda _error: self._fail("end")


@pytest.mark.parametrize("places", [["client"], ["call"], ["connect"], ["end"], ["call", "connect", "end"]])
async def test_a_telemetry_that_raises_changes_no_outcome_and_is_logged_once(
    places: list[str], exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(exchange.url, ALICE, telemetry=Failing(*places)) as client:
        for _ in range(3):
            assert await client.call("Ping") == {"msg": "PONG"}
        with pytest.raises(OperationFailed):
            await rejected(client)
        with exchange.faults.mute(), pytest.raises(CallTimeout):
            await client.ping(timeout=0.05)
        assert client.stats.in_flight == 0
    told = [record.message for record in caplog.records if "the telemetry failed" in record.message]
    assert len(told) == 1
    assert "LookupError" in told[0]
    assert "in _fail" in told[0]  # where it was


async def test_a_telemetry_that_cancels_cancels_nobody(exchange: SimulatedExchange) -> None:
    telemetry = Failing("call", "end")
    telemetry.error = asyncio.CancelledError
    async with Client(exchange.url, ALICE, telemetry=telemetry) as client:
        assert await client.call("Ping") == {"msg": "PONG"}


async def test_what_is_logged_of_a_failing_telemetry_quotes_no_call(caplog: pytest.LogCaptureFixture) -> None:
    canary = "a-canary"  # not in the line of the call: a traceback quotes it

    async def echo(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(json.dumps({**json.loads(request), "m": 5, "o": json.loads(request)["o"]}))

    async with scripted(echo) as url, Client(url, telemetry=Failing("end")) as client:
        with pytest.raises(CallRejected) as caught:
            await client.call("AuthenticateUser", {"UserName": "alice", "Password": canary})
    assert "the telemetry failed" in caplog.text
    assert canary not in caplog.text + "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))


def test_what_is_no_telemetry_is_refused() -> None:
    wrong: Any = object()
    with pytest.raises(InvalidArguments, match=r"^telemetry must be None or a telemetry such as aioalphapoint\.otel"):
        Client("ws://127.0.0.1:1/", telemetry=wrong)
    its_class: Any = Failing
    with pytest.raises(InvalidArguments, match=r"^telemetry must be a telemetry, not its class: Failing\(\)$"):
        Client("ws://127.0.0.1:1/", telemetry=its_class)


async def test_the_global_providers_serve_also_when_they_are_set_later() -> None:
    program = """
        import asyncio
        from aioalphapoint import Client
        from aioalphapoint.otel import _FUNCTIONS, Telemetry
        first = Telemetry()
        client = Client("ws://127.0.0.1:1/", telemetry=first)
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        second = Client("ws://127.0.0.1:2/", telemetry=Telemetry())
        third = Client("ws://127.0.0.1:3/", telemetry=Telemetry(meter_provider=metrics.get_meter_provider()))
        for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
            print(metric.name, [point.attributes["server.port"] for point in metric.data.data_points][:3])
    """
    told = run(program)
    assert "aioalphapoint.client.reconnects [1, 2, 3]" in told


async def test_a_provider_that_becomes_the_global_one_later_loses_no_client() -> None:
    program = """
        from aioalphapoint import Client
        from aioalphapoint.otel import Telemetry
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        first = Client("ws://127.0.0.1:1/", telemetry=Telemetry(meter_provider=provider))
        metrics.set_meter_provider(provider)
        second = Client("ws://127.0.0.1:2/", telemetry=Telemetry())
        third = Client("ws://127.0.0.1:3/", telemetry=Telemetry(meter_provider=provider))
        for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
            print(metric.name, [point.attributes["server.port"] for point in metric.data.data_points])
    """
    assert "aioalphapoint.client.reconnects [1, 2, 3]" in run(program)


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_without_opentelemetry_the_library_works_and_says_what_to_install() -> None:
    program = """
        import asyncio, sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "opentelemetry":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        sys.meta_path.insert(0, Absent())
        from aioalphapoint import Client
        from aioalphapoint.testing import SimulatedExchange

        async def main():
            async with SimulatedExchange() as exchange, Client(exchange.url) as client:
                print(await client.call("Ping"))

        asyncio.run(main())
        try:
            import aioalphapoint.otel
        except ImportError as error:
            print(error)
    """
    assert run(program) == (
        "{'msg': 'PONG'}\naioalphapoint.otel needs opentelemetry: pip install 'aioalphapoint[otel]'\n"
    )
