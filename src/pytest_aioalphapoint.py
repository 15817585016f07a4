"""The pytest plugin: a simulated exchange and a client of it, for the tests of whoever uses the library.

Invariants:

* A run that uses none of these fixtures pays for this file alone. pytest imports the plugins of all installed
  packages at each start, and a module inside `aioalphapoint` would bring the whole library with it. So this one
  stands beside the package, and imports the library inside the fixtures.
* The exchange and the client live on the event loop of the test, whichever plugin runs it: pytest-asyncio (1.0 or
  newer) in either of its modes and with any loop scope, or anyio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from aioalphapoint import Client
    from aioalphapoint.testing import SimulatedExchange

__all__ = ["alphapoint_client", "simulated_exchange"]

_NO_LOOP = (
    "simulated_exchange and alphapoint_client need a test that runs on an event loop: install pytest-asyncio, or mark "
    "the coroutine function with @pytest.mark.anyio"
)
_TWO_LOOPS = (
    "both pytest-asyncio and anyio run this test, on two event loops: take off the mark anyio, or set asyncio_mode to "
    "strict and take off the mark asyncio"
)
_WRONG_BACKEND = "aioalphapoint runs on asyncio, not on {}: let the fixture anyio_backend return 'asyncio'"

_USER_NAME, _PASSWORD, _ACCOUNT_ID = "alice", "simulated", 7


@pytest.fixture
def simulated_exchange(request: pytest.FixtureRequest) -> SimulatedExchange:
    """A simulated exchange of this test's own, listening on 127.0.0.1.

    It knows one user: "alice", with the password "simulated" and the number 1, who owns account 7 and may do
    "Trading" and "Withdraw". Tickets are added by the test, and looked at after what it tests:

        async def test_my_bot_stops_a_withdrawal(simulated_exchange, alphapoint_client):
            ticket = simulated_exchange.add_withdraw(account_id=7, amount="1.10")
            await my_bot(alphapoint_client)
            assert simulated_exchange.ticket(ticket.ticket_number).status == "UserCanceled"

    An operator is one more user, with a client of its own:

        simulated_exchange.add_user("operator", "secret", permissions=["Operator"])
        async with Client(simulated_exchange.url, Password("operator", "secret")) as operator: ...

    What goes wrong is set by `simulated_exchange.faults`, and what arrived stands in `simulated_exchange.journal`.
    """
    exchange: SimulatedExchange = request.getfixturevalue(_served(request).exchange)
    return exchange


@pytest.fixture
def alphapoint_client(request: pytest.FixtureRequest) -> Client:
    """A connected client of `simulated_exchange`, logged in as its user "alice" of account 7; closed after the test."""
    client: Client = request.getfixturevalue(_served(request).client)
    return client


class _Served(NamedTuple):
    """The names of the two fixtures that serve on one kind of loop."""

    exchange: str
    client: str


def _served(request: pytest.FixtureRequest) -> _Served:
    """Find the fixtures that serve on this test's loop; the first test to ask for them has them defined.

    pytest-asyncio and anyio each run only the async fixtures that are theirs, and pytest-asyncio runs each on the loop
    of one scope. So there is a pair of fixtures for each loop that a test may run on.
    """
    marker = request.node.get_closest_marker("asyncio")
    if "anyio_backend" in request.fixturenames:
        if marker is not None:
            pytest.fail(_TWO_LOOPS, pytrace=False)
        _check_backend(request.getfixturevalue("anyio_backend"))
        return _define(request.config, "anyio", pytest.fixture)
    if not request.config.pluginmanager.has_plugin("asyncio"):
        pytest.fail(_NO_LOOP, pytrace=False)
    import pytest_asyncio  # noqa: PLC0415  (it is there: it runs this test)

    scope = marker and marker.kwargs.get("loop_scope")
    scope = scope or request.config.getini("asyncio_default_test_loop_scope")
    return _define(request.config, f"asyncio_{scope}", partial(pytest_asyncio.fixture, loop_scope=scope))


def _check_backend(backend: str | tuple[str, object]) -> None:
    name = backend if isinstance(backend, str) else backend[0]
    if name != "asyncio":
        pytest.fail(_WRONG_BACKEND.format(name), pytrace=False)


def _define(config: pytest.Config, loop: str, fixture: Callable[..., Any]) -> _Served:
    plugin = f"_aioalphapoint_{loop}"
    names = _Served(f"{plugin}_exchange", f"{plugin}_client")
    if config.pluginmanager.has_plugin(plugin):
        return names

    async def serve() -> AsyncIterator[SimulatedExchange]:
        from aioalphapoint.testing import SimulatedExchange  # noqa: PLC0415  (loaded by whoever uses it)

        async with SimulatedExchange() as exchange:
            exchange.add_user(_USER_NAME, _PASSWORD, account_id=_ACCOUNT_ID)
            yield exchange

    async def connect(simulated_exchange: SimulatedExchange) -> AsyncIterator[Client]:
        from aioalphapoint import Client, Password  # noqa: PLC0415  (loaded by whoever uses it)

        async with Client(simulated_exchange.url, Password(_USER_NAME, _PASSWORD)) as client:
            yield client

    module = ModuleType(plugin)  # pytest looks for fixtures in modules and in classes
    vars(module).update({names.exchange: fixture(serve), names.client: fixture(connect)})
    config.pluginmanager.register(module, plugin)
    return names
