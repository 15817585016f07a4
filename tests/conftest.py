"""What the tests share: a simulated exchange with two users, a client of each, and raw sockets to it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest
from websockets.asyncio.client import ClientConnection as Socket

from aioalphapoint import Backoff, Client, Password
from aioalphapoint.testing import SimulatedExchange
from chaos.fleet import a_server, fresh_database
from postgres import NoPostgres
from wire import LOGIN, dialled
from wire import OPERATOR as OPERATOR_LOGIN

ALICE = Password("alice", "a password of alice")
OPERATOR = Password("operator", "a password of the operator")
SOON = Backoff(first=0.01, cap=0.05)

Case = TypeVar("Case")
Result = TypeVar("Result")


def at_once(
    story: Callable[[Case], Coroutine[None, None, Result]], cases: Collection[Case]
) -> dict[Case, Future[Result]]:
    """Let stories that mostly wait wait side by side, each on a loop and in a thread of its own.

    For a fixture of a module; the test of each case looks at its own result.
    """
    with ThreadPoolExecutor(len(cases)) as threads:
        return {case: threads.submit(asyncio.run, story(case)) for case in cases}


# A shell ignores Ctrl-C for what it starts in the background, and programs inherit that: those of the tests end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files that take long, and most of that by waiting: whoever runs several at once does well to begin with them.
_LONGEST = ("test_soak.py", "test_fleet_under_fire.py", "test_fleet_commands.py", "test_package.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL for the tests of the fleet."""
    try:
        with a_server() as url:
            yield url
    except NoPostgres as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must not skip these tests: {error}")
        pytest.skip(str(error))


@pytest.fixture
def database(server: str) -> Iterator[str]:
    with fresh_database(server) as database:
        yield database


@pytest.fixture
async def exchange() -> AsyncIterator[SimulatedExchange]:
    async with SimulatedExchange() as exchange:
        exchange.add_user(ALICE.user_name, ALICE.password, account_id=7)
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        yield exchange


@pytest.fixture
async def client(exchange: SimulatedExchange) -> AsyncIterator[Client]:
    async with Client(exchange.url, ALICE, reconnect=SOON) as client:
        yield client


@pytest.fixture
async def operator(exchange: SimulatedExchange) -> AsyncIterator[Client]:
    async with Client(exchange.url, OPERATOR, reconnect=SOON) as client:
        yield client


@pytest.fixture
async def guest(exchange: SimulatedExchange) -> AsyncIterator[Socket]:
    async with dialled(exchange) as socket:
        yield socket


@pytest.fixture
async def alice(exchange: SimulatedExchange) -> AsyncIterator[Socket]:
    async with dialled(exchange, LOGIN) as socket:
        yield socket


@pytest.fixture
async def admin(exchange: SimulatedExchange) -> AsyncIterator[Socket]:
    async with dialled(exchange, OPERATOR_LOGIN) as socket:
        yield socket
