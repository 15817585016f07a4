"""What the tests share: a simulated exchange with two users, and a client of each."""

from collections.abc import AsyncIterator

import pytest

from aioalphapoint import Client, Password
from aioalphapoint.testing import SimulatedExchange

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
