"""What the tests share: a simulated exchange with two users, a client of each, and raw sockets to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest
from websockets.asyncio.client import ClientConnection as Socket

from aioalphapoint import Backoff, Client, Password
from aioalphapoint.testing import SimulatedExchange
from chaos.beside import Beside, running_beside
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


def _is_soak(item: pytest.Item) -> bool:
    return item.path.name == "test_soak.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_is_soak)  # last, because it waits for what runs beside the others


@pytest.fixture(scope="session", autouse=True)
def soak_beside(request: pytest.FixtureRequest) -> Iterator[Beside | None]:
    """Let the soak's minute pass beside the other tests, if it is among those that were chosen."""
    if not any(map(_is_soak, request.session.items)):
        yield None
        return
    # A seed under which a minute has something of everything, refused logins and handshakes too.
    with running_beside("chaos.soak", "--seconds", "60", "--seed", "418", "--no-write") as soak:
        yield soak


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
