"""What the tests share: a simulated exchange with two users, a client of each, and raw sockets to it."""

from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection as Socket

from aioalphapoint import Client, Password
from aioalphapoint.testing import SimulatedExchange
from wire import LOGIN, dialled
from wire import OPERATOR as OPERATOR_LOGIN

ALICE = Password("alice", "a password of alice")
OPERATOR = Password("operator", "a password of the operator")


@pytest.fixture
async def exchange() -> AsyncIterator[SimulatedExchange]:
    async with SimulatedExchange() as exchange:
        exchange.add_user(ALICE.user_name, ALICE.password, account_id=7)
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        yield exchange


@pytest.fixture
async def client(exchange: SimulatedExchange) -> AsyncIterator[Client]:
    async with Client(exchange.url, ALICE) as client:
        yield client


@pytest.fixture
async def operator(exchange: SimulatedExchange) -> AsyncIterator[Client]:
    async with Client(exchange.url, OPERATOR) as client:
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
