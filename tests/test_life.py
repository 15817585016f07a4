"""The life of a client beyond one loop: the next loop, a second one, its end without `close()`, and forks."""

import asyncio
import copy
import gc
import json
import logging
import pickle
import socket
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    AuthenticationFailed,
    Backoff,
    Client,
    ConnectFailed,
    ConnectionLost,
    InvalidArguments,
    NotConnected,
    Password,
    SessionState,
)
from aioalphapoint.bulk import Journal, cancel_failed_tickets, cancel_withdraws
from aioalphapoint.reconcile import confirm_cancelled
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, SOON
from loops import LOOPS, Factory
from scripted import reply, scripted


class Gateway:
    """A server on a loop of its own, which outlives those of the clients; it tells visits by the query of the address.

    It answers every call but `Mute`.
    """

    def __init__(self) -> None:
        self.url = ""
        self.heard: dict[str, list[str]] = defaultdict(list)
        self.close_codes: dict[str, list[int | None]] = defaultdict(list)
        self._changed = threading.Condition()

    async def serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        visitor = socket.request.path.partition("?")[2]
        try:
            async for request in socket:
                name = json.loads(request)["n"]
                self.heard[visitor].append(name)
                if name != "Mute":
                    await socket.send(reply(request))
        finally:
            await socket.wait_closed()
            with self._changed:
                self.close_codes[visitor].append(socket.close_code)
                self._changed.notify_all()

    def ends_of(self, visitor: str, count: int = 1) -> list[int | None]:
        """Wait until so many connections of a visitor have ended, and give their close codes."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.close_codes[visitor]) >= count, timeout=10)
            return self.close_codes[visitor]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    gateway, ready, loop = Gateway(), threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with scripted(gateway.serve) as gateway.url:
            ready.set()
            await over.wait()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        thread = threading.Thread(target=runner.run, args=(serve(),))
        thread.start()
        ready.wait()
        yield gateway
        loop.call_soon_threadsafe(over.set)
        thread.join()


@contextmanager
def one_warning_and_nothing_else(caplog: pytest.LogCaptureFixture, name: str) -> Iterator[None]:
    """Nothing else: an exception that nobody catches is an error of the test, by pytest's own hooks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    sentence = f"{name} was never closed: use `async with client:`, or `await client.close()`"
    assert [(warning.category, str(warning.message)) for warning in caught] == [(ResourceWarning, sentence)]
    caught.clear()  # it holds the client
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR] == []


async def our_tasks_end() -> None:
    """Wait until no task of a session runs; the test's time limit is the limit."""
    while tasks := [task for task in asyncio.all_tasks() if task.get_name() == "aioalphapoint session"]:
        await asyncio.wait(tasks)


async def listen(_client: Client, events: AsyncIterator[object]) -> None:
    await anext(events)


# One loop after another.


@LOOPS
def test_a_client_that_was_closed_serves_the_next_loop(factory: Factory, gateway: Gateway) -> None:
    client = Client(f"{gateway.url}?next", timeout=5)

    async def use() -> None:
        async with client:
            await client.call("Ping")

    before = len(gateway.heard["next"])
    for _ in range(3):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(use())
        assert client.state is SessionState.CLOSED
    assert gateway.heard["next"][before:] == ["Ping"] * 3
    assert client.stats.reconnects == 0


@LOOPS
def test_a_client_that_was_left_open_says_goodbye_with_its_loop_and_starts_anew_in_the_next(
    factory: Factory, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = f"left-open-{factory.__module__}-{factory.__name__}"
    client = Client(f"{gateway.url}?{visitor}", timeout=5)
    watchers: list[asyncio.Task[object]] = []

    async def leave_open() -> None:
        await client.connect()
        watchers.append(asyncio.create_task(client.call("Mute")))
        watchers.append(asyncio.create_task(client.wait_for_state(SessionState.CLOSED)))
        with client.events() as events:
            watchers.append(asyncio.ensure_future(anext(events)))
            await client.call("Ping")

    async def go_on() -> None:
        with pytest.raises(NotConnected, match=r"^Ping was not sent: the session was given up: its task was cancelled"):
            await client.call("Ping")
        async with client:
            await client.call("Ping")

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(leave_open())
    assert (client.state, client.stats.in_flight) == (SessionState.FAILED, 0)
    assert all(watcher.cancelled() or watcher.exception() for watcher in watchers)
    assert gateway.ends_of(visitor) == [1000]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(go_on())
    assert sorted(gateway.heard[visitor]) == ["Mute", "Ping", "Ping"]
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("use", ["connect", "close", "call"])
def test_a_loop_that_was_closed_under_its_tasks_ends_the_session_for_whoever_looks_next(
    use: str, gateway: Gateway
) -> None:
    client = Client(f"{gateway.url}?closed-under-{use}", timeout=5)

    async def watch() -> None:
        await client.wait_for_state(SessionState.CLOSED)

    async def go_on(events: AsyncIterator[object], others: AsyncIterator[object]) -> None:
        if use == "call":
            with pytest.raises(NotConnected, match=r"the event loop that it was connected on was closed$"):
                await client.call("Ping")
            async with asyncio.timeout(5):
                assert [event async for event in others] == []
        if use == "close":
            await client.close()
            assert client.state is SessionState.CLOSED
        async with client:
            await client.call("Ping")
        assert [event async for event in events] == []

    with warnings.catch_warnings(), client.events() as events, client.events() as others:
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own, of the transport that the loop left behind
        with closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(client.connect())
            waiting = [loop.create_task(use) for use in (client.call("Mute"), watch(), listen(client, events))]
            loop.run_until_complete(client.ping())
        asyncio.run(go_on(events, others))
        del waiting, loop
        gc.collect()
    assert client.state is SessionState.CLOSED
    assert client.stats.in_flight == 0


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_loop_that_was_closed_in_the_middle_of_a_dial_leaves_a_client_that_dials_anew(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(), socket.create_server(("127.0.0.1", 0)) as silent:
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own, of the transport that the loop left behind
        silent.setblocking(False)
        port = silent.getsockname()[1]
        client = Client(f"{scheme}://127.0.0.1:{port}/WSGateway/", connect_timeout=0.2)
        with closing(asyncio.new_event_loop()) as loop:
            dial = loop.create_task(client.connect())
            visitor, _ = loop.run_until_complete(loop.sock_accept(silent))
            loop.run_until_complete(loop.sock_recv(visitor, 1))  # the handshake has begun

        async def go_on() -> None:
            with pytest.raises(NotConnected, match=r"the event loop that it was connected on was closed$"):
                await client.call("Ping")
            with pytest.raises(ConnectFailed, match=r"^there was no session within 0.2 s$"):
                await client.connect()
            await client.close()

        with visitor:
            asyncio.run(go_on())
        del dial, loop
        gc.collect()
    assert client.state is SessionState.CLOSED
    assert [record for record in caplog.records if record.name == "aioalphapoint"] == []


# A second loop while the first one runs.


async def subscribe(client: Client, _events: AsyncIterator[object]) -> None:
    async with client.subscribe_account_events(account_id=7):
        pass


async def enter(client: Client, _events: AsyncIterator[object]) -> None:
    async with client:
        pass


USES: dict[str, Callable[[Client, AsyncIterator[object]], Awaitable[object]]] = {
    "call": lambda client, _: client.call("GetWithdraws"),
    "cancel_withdraw": lambda client, _: client.cancel_withdraw(account_id=7, request_code="0" * 32),
    "ping": lambda client, _: client.ping(),
    "log_out": lambda client, _: client.log_out(),
    "connect": lambda client, _: client.connect(),
    "close": lambda client, _: client.close(),
    "async with": enter,
    "states": lambda client, _: anext(client.states()),
    "wait_for_state": lambda client, _: client.wait_for_state(SessionState.READY),
    "iter_withdraw_tickets": lambda client, _: anext(client.iter_withdraw_tickets(account_id=7)),
    "subscribe_account_events": subscribe,
    "events": listen,
    "confirm_cancelled": lambda client, _: confirm_cancelled(client, account_id=7, request_code="0" * 32),
}


@pytest.mark.parametrize("use", USES)
async def test_from_a_second_loop_every_use_is_one_clear_error_and_harms_nobody(
    use: str, exchange: SimulatedExchange, client: Client
) -> None:
    async def stray() -> None:
        with pytest.raises(
            RuntimeError, match=r"^this client is connected on another event loop: use it there"
        ) as error:
            await USES[use](client, events)
        assert error.type is RuntimeError

    with client.events() as events:
        with exchange.faults.freeze():
            pending = asyncio.create_task(client.call("GetWithdraws", {"OMSId": 1, "AccountId": 7}))
            await asyncio.sleep(0)
            await asyncio.to_thread(asyncio.run, stray())
        assert await pending == []
        assert client.state is SessionState.READY
        assert (client.stats.reconnects, client.stats.in_flight, client.stats.sent) == (0, 0, 2)
        assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser", "GetWithdraws"]
        # The listener still hears.
        await client.call("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 7})
        ticket = exchange.add_withdraw(account_id=7, amount="1")
        await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)
        await anext(events)


@pytest.mark.parametrize("run", [cancel_withdraws, cancel_failed_tickets])
async def test_from_a_second_loop_a_bulk_run_writes_down_nothing_and_sends_nothing(
    run: Callable[..., Awaitable[object]], exchange: SimulatedExchange, client: Client, tmp_path: Path
) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1")
    told: list[object] = []

    async def stray() -> None:
        with pytest.raises(RuntimeError, match="^this client is connected on another event loop"):
            await run(client, [ticket], journal=Journal(tmp_path / "journal"), on_outcome=told.append)

    await asyncio.to_thread(asyncio.run, stray())
    assert (told, list(tmp_path.iterdir())) == ([], [])
    assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser"]
    await client.ping()


async def test_a_session_that_has_ended_belongs_to_no_loop(exchange: SimulatedExchange) -> None:
    client = Client(exchange.url, ALICE)

    async def use() -> None:
        await client.close()
        with pytest.raises(NotConnected):
            await client.ping()
        async with client:
            await client.ping()

    await asyncio.to_thread(asyncio.run, use())
    async with client:
        await client.ping()
    await asyncio.to_thread(asyncio.run, use())


@pytest.mark.parametrize("watch", ["states", "wait_for_state", "events"])
async def test_whoever_watches_before_another_loop_connects_is_told_and_wakes_nobody_of_it(
    watch: str, exchange: SimulatedExchange
) -> None:
    client = Client(exchange.url, ALICE, reconnect=SOON)
    watching = threading.Event()

    async def look_on(events: AsyncIterator[object]) -> None:
        asyncio.get_running_loop().set_debug(True)  # it refuses what other threads may not do
        asyncio.get_running_loop().call_soon(watching.set)
        async with asyncio.timeout(5):
            match watch:
                case "states":
                    async for _state in client.states():
                        pass
                case "wait_for_state":
                    await client.wait_for_state(SessionState.FAILED)
                case "events":
                    await anext(events)

    with client.events() as events:
        watcher = asyncio.create_task(asyncio.to_thread(asyncio.run, look_on(events)))
        await asyncio.to_thread(watching.wait)
        async with client:
            await client.call("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 7})
            ticket = exchange.add_withdraw(account_id=7, amount="1")
            await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)
            with pytest.raises(RuntimeError, match="^this client is connected on another event loop"):
                await watcher
            with exchange.faults.cut(), pytest.raises(ConnectionLost):
                await client.ping()
            await client.ping()


# Its end without `close()`.


@pytest.mark.parametrize(
    "is_in_a_cycle", [False, True], ids=["the last reference is dropped", "it is found in a cycle"]
)
async def test_a_client_that_is_dropped_says_goodbye_and_warns_once(
    *, is_in_a_cycle: bool, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = f"dropped-{is_in_a_cycle}"
    client = Client(f"{gateway.url}?{visitor}", timeout=5)
    await client.connect()
    await client.ping()
    host = gateway.url.removesuffix("/WSGateway/")
    gc.collect()
    with one_warning_and_nothing_else(caplog, f"<Client {host} ready, 0 in flight>"):
        if is_in_a_cycle:
            client.__dict__["itself"] = client
        gc.disable()
        try:
            del client
            if not is_in_a_cycle:  # counting references is enough, while the session's task still runs
                await our_tasks_end()
        finally:
            gc.enable()
        gc.collect()
        await our_tasks_end()
    assert await asyncio.to_thread(gateway.ends_of, visitor) == [1000]


async def test_a_client_that_is_dropped_while_it_reconnects_dials_no_more(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(lambda socket: socket.close()) as url:
        client = Client(url, reconnect=Backoff(first=1000, cap=1000))
        await client.connect()
        await client.wait_for_state(SessionState.RECONNECTING, timeout=5)
    with one_warning_and_nothing_else(caplog, f"<Client {url.removesuffix('/WSGateway/')} reconnecting, 0 in flight>"):
        del client
        await our_tasks_end()


async def test_a_client_that_is_dropped_in_another_thread_says_goodbye_in_its_own(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().set_debug(True)  # it refuses what other threads may not do
    clients = [Client(f"{gateway.url}?thread", timeout=5)]
    await clients[0].connect()
    with one_warning_and_nothing_else(caplog, repr(clients[0])):
        await asyncio.to_thread(clients.clear)
        await our_tasks_end()
    assert await asyncio.to_thread(gateway.ends_of, "thread") == [1000]


@LOOPS
def test_a_client_that_outlives_its_loop_warns_once_when_it_is_dropped(
    factory: Factory, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(f"{gateway.url}?outlives", timeout=5)
    before = len(gateway.close_codes["outlives"])
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(client.connect())
    with one_warning_and_nothing_else(caplog, repr(client)):
        del client
    assert gateway.ends_of("outlives", before + 1)[before:] == [1000]


def test_a_client_whose_loop_was_closed_under_it_adds_one_warning_to_what_asyncio_says_of_such_a_loop(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(f"{gateway.url}?lost", timeout=5)
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(client.connect())
        assert client.state is SessionState.FAILED
        name = repr(client)
        del client, loop
        gc.collect()
    said = [str(warning.message) for warning in caught]
    caught.clear()  # they hold what they tell of
    gc.collect()
    assert [text for text in said if not text.startswith(("unclosed transport", "unclosed <socket"))] == [
        f"{name} was never closed: use `async with client:`, or `await client.close()`"
    ]
    assert {record.message.splitlines()[0] for record in caplog.records} == {"Task was destroyed but it is pending!"}
    assert gateway.ends_of("lost") == [1006]


async def test_a_client_with_nothing_to_close_is_dropped_in_silence(exchange: SimulatedExchange) -> None:
    gc.collect()
    Client(exchange.url)
    with pytest.raises(InvalidArguments):
        Client("http://127.0.0.1/")
    closed = Client(exchange.url)
    async with closed:
        pass
    refused = Client(exchange.url, Password("alice", "a wrong password"))
    with pytest.raises(AuthenticationFailed):
        await refused.connect()
    cancelled = Client(exchange.url, ALICE)
    with exchange.faults.freeze(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await cancelled.connect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del closed, refused, cancelled
        gc.collect()
    assert caught == []


async def test_a_client_is_not_copied_for_a_copy_that_is_dropped_would_end_its_session(client: Client) -> None:
    for how in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"^a client is one session, and is neither copied nor pickled"):
            how(client)
    gc.collect()
    await client.ping()


# Programs of their own: the end of the interpreter, and forks.

BEGIN = """
import asyncio, gc, multiprocessing, os, sys
from aioalphapoint import Client

def client_of(name):
    return Client(f"{sys.argv[1]}?{name}", timeout=5)

async def use(client):
    await client.connect()
    await client.ping()
"""

LEAVE_OPEN = """
import uvloop
in_a_cycle, left_open, left_open_on_uvloop, left_by_exit = map(client_of, ["cycle", "open", "uvloop", "exit"])
in_a_cycle.itself = in_a_cycle
closed, never_connected = client_of("closed"), client_of("never")

async def leave_by_exit():
    await use(left_by_exit)
    sys.exit()

async def close():
    await use(closed)
    await closed.close()

asyncio.run(close())
asyncio.run(use(left_open))
asyncio.run(use(in_a_cycle))
uvloop.run(use(left_open_on_uvloop))
asyncio.run(leave_by_exit())
"""

THE_PARENT_GOES_ON = """
os.wait()
loop.run_until_complete(client.ping())
print(client.state, client.stats.reconnects, flush=True)
loop.run_until_complete(client.close())
loop.close()
"""

FORK_BESIDE_THE_LOOP = """
client, closed, loop = client_of("beside"), client_of("closed-before"), asyncio.new_event_loop()
loop.run_until_complete(use(client))
loop.run_until_complete(use(closed))
loop.run_until_complete(closed.close())
if os.fork() == 0:
    loop.run_until_complete(use(closed))  # whose session has ended is anybody's
    loop.run_until_complete(closed.close())
    for again in (client.ping(), client.connect(), client.log_out(), client.close()):
        try:
            loop.run_until_complete(again)
        except RuntimeError as error:
            print(error, flush=True)
    connection = client._session._connection
    connection._socket.data_received(bytes.fromhex("880203e8"))  # a close frame, which asks for another one
    try:
        loop.run_until_complete(connection.call("Stray", "{}", deadline=loop.time() + 1, timeout=1))
    except Exception as error:
        print(type(error).__name__, flush=True)
    client._session._keeper.cancel()
    connection.cut("what a ping without an answer leads to")
    loop.run_until_complete(asyncio.sleep(0.05))
    del client
    gc.collect()
    os._exit(0)
"""

FORK_INSIDE_THE_LOOP = """
client = client_of("inside")

def child():
    global client
    for again in (client.ping, client.connect, client.close):
        try:
            asyncio.run(again())
        except RuntimeError as error:
            print(error, flush=True)
    async def use_another():
        async with client_of("childs-own") as another:
            await another.ping()
    asyncio.run(use_another())
    del client
    gc.collect()

async def fork():
    await use(client)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    if os.fork() == 0:  # this very coroutine goes on in the child, where no loop runs
        for again in (client.ping, client.wait_for_state):
            try:
                await again()
            except RuntimeError as error:
                print(error, flush=True)
        os._exit(0)
    os.wait()
    await client.ping()
    print(client.state, client.stats.reconnects, flush=True)
    await client.close()

asyncio.run(fork())
"""

FORK_WHILE_IT_RECONNECTS = """
import logging
from aioalphapoint import Backoff, SessionState
logging.disable()
client = Client(f"{sys.argv[1]}?reconnecting", timeout=5, reconnect=Backoff(first=0.05, cap=0.05))
loop = asyncio.new_event_loop()
loop.run_until_complete(use(client))
client._session._connection.cut("the test")
loop.run_until_complete(client.wait_for_state(SessionState.RECONNECTING))
if os.fork() == 0:
    loop.run_until_complete(asyncio.wait({client._session._keeper}, timeout=1))
    print(client.state, flush=True)
    os._exit(0)
"""


async def run(url: str, *parts: str) -> tuple[int | None, list[str], list[str]]:
    """Run a program in Python's development mode, and give its status, what it printed, and what it complained of."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "always", "-c", BEGIN + "".join(parts), url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaints = (text.decode().splitlines() for text in await program.communicate())
    # Beside the slow steps of a busy machine.
    return program.returncode, out, [line for line in complaints if not line.startswith("Executing <")]


async def test_a_program_that_ends_is_told_once_of_each_client_left_open_and_has_said_goodbye(gateway: Gateway) -> None:
    code, out, complaints = await run(gateway.url, LEAVE_OPEN)
    name = f"<Client {gateway.url.removesuffix('/WSGateway/')} failed, 0 in flight>"
    sentence = f"{name} was never closed: use `async with client:`, or `await client.close()`"
    hint = "ResourceWarning: Enable tracemalloc to get the object allocation traceback"
    assert (code, out) == (0, [])
    assert [line.partition("ResourceWarning: ")[2] for line in complaints if line != hint] == [sentence] * 4
    for visitor in ("cycle", "open", "uvloop", "exit", "closed"):
        assert await asyncio.to_thread(gateway.ends_of, visitor) == [1000]


async def test_a_fork_cannot_touch_the_session_of_its_parent(gateway: Gateway) -> None:
    code, out, complaints = await run(gateway.url, FORK_BESIDE_THE_LOOP, THE_PARENT_GOES_ON, FORK_INSIDE_THE_LOOP)
    sentence = "this client was connected by the process from which this one was forked: make another one here"
    assert (code, complaints) == (0, [])
    assert out == [*[sentence] * 3, "ConnectionEnded", "ready 0", *[sentence] * 4, "ready 0"]
    assert gateway.heard["childs-own"] == ["Ping"]
    assert gateway.heard["closed-before"] == ["Ping", "Ping"]
    for visitor in ("beside", "inside"):
        assert gateway.heard[visitor] == ["Ping", "Ping"]
        assert await asyncio.to_thread(gateway.ends_of, visitor) == [1000]


async def test_a_fork_does_not_dial_for_its_parent(gateway: Gateway) -> None:
    code, out, complaints = await run(gateway.url, FORK_WHILE_IT_RECONNECTS, THE_PARENT_GOES_ON)
    assert (code, out, complaints) == (0, ["failed", "ready 1"], [])
    assert gateway.heard["reconnecting"] == ["Ping", "Ping"]
    assert await asyncio.to_thread(gateway.ends_of, "reconnecting", 2) == [1006, 1000]


async def test_a_dropped_client_whose_own_words_fail_ends_its_session_all_the_same(exchange: SimulatedExchange) -> None:
    class Wordless(Client):
        def __repr__(self) -> str:
            raise ValueError

    client = Wordless(exchange.url, ALICE)
    await client.connect()
    with pytest.warns(ResourceWarning, match="never closed"):
        del client
    async with asyncio.timeout(5):
        while any("aioalphapoint" in task.get_name() for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
