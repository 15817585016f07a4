"""The same story under every loop and kind of task, and the state that it leaves."""

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

from aioalphapoint import Backoff, Client, ConnectionLost, NotConnected, OperationFailed, SessionState
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE
from loops import LOOPS, Factory


async def story() -> None:
    """Connect, call, be refused, be cut, be cancelled, be shut out, close; and look at what is left."""
    async with SimulatedExchange() as exchange:
        exchange.add_user(ALICE.user_name, ALICE.password, account_id=7)
        tickets = [exchange.add_withdraw(account_id=7, amount="1") for _ in range(100)]
        client = Client(exchange.url, ALICE, timeout=10, ping_interval=0.05, reconnect=Backoff(first=0.01, cap=0.05))
        async with client:
            await asyncio.gather(
                *(client.cancel_withdraw(account_id=7, request_code=ticket.request_code) for ticket in tickets)
            )
            assert {exchange.ticket(ticket.ticket_number).status for ticket in tickets} == {"UserCanceled"}
            with pytest.raises(OperationFailed):
                await client.cancel_withdraw(account_id=7, request_code=tickets[0].request_code)
            with exchange.faults.cut(function="GetWithdraws"), pytest.raises(ConnectionLost):
                await client.call("GetWithdraws", {"OMSId": 1, "AccountId": 7})
            await client.call("Ping")
            with exchange.faults.mute(function="GetWithdraws"):
                call = asyncio.create_task(client.call("GetWithdraws", {"OMSId": 1, "AccountId": 7}))
                await client.ping()
                call.cancel()
                await asyncio.wait({call})
                assert call.cancelled()
            assert (client.stats.in_flight, client.stats.reconnects) == (0, 1)
            with exchange.faults.freeze():
                waiting = asyncio.create_task(client.call("Ping"))
                await asyncio.sleep(0)
                await client.close()
                with pytest.raises((ConnectionLost, NotConnected)):
                    await waiting
        assert client.state is SessionState.CLOSED
        assert [task for task in asyncio.all_tasks() if "aioalphapoint" in task.get_name()] == []


@LOOPS
def test_the_story_holds_under_every_loop(factory: Factory) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(story())


async def test_a_cancelled_task_group_of_anyio_leaves_nothing(exchange: SimulatedExchange) -> None:
    outcomes: list[BaseException] = []

    async def caller(client: Client) -> None:
        try:
            await client.call("Ping", timeout=60)
        except BaseException as error:
            outcomes.append(error)
            raise

    with exchange.faults.mute():
        async with anyio.create_task_group() as group, Client(exchange.url, reconnect=None) as client:
            for _ in range(10):
                group.start_soon(caller, client)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
            await anyio.sleep(60)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 10
    assert (client.stats.in_flight, client.state) == (0, SessionState.CLOSED)
    assert [task for task in asyncio.all_tasks() if "aioalphapoint" in task.get_name()] == []


def test_closing_against_a_black_hole_leaves_no_task_no_descriptor_and_no_warning() -> None:
    """In a process of its own, in Python's development mode and asyncio's debug mode, garbage collected."""
    program = textwrap.dedent("""
        import asyncio, gc, os
        from aioalphapoint import Client, ConnectionLost, NotConnected, Password
        from aioalphapoint.testing import SimulatedExchange

        async def use_and_close(client):
            calls = [asyncio.create_task(client.call("Ping")) for _ in range(100)]
            await asyncio.sleep(0)
            started = asyncio.get_running_loop().time()
            await client.close()
            took = asyncio.get_running_loop().time() - started
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} <= {ConnectionLost, NotConnected}
            assert took <= 2, took

        async def main():
            async with SimulatedExchange() as exchange:
                exchange.add_user("alice", "simulated", account_id=7)
                before = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
                clients = [Client(exchange.url, Password("alice", "simulated"), timeout=60) for _ in range(3)]
                for client in clients:
                    await client.connect()
                with exchange.faults.freeze():
                    await asyncio.gather(*map(use_and_close, clients))
                del client, clients
                gc.collect()
                for _ in range(100):  # the exchange's end of the sockets goes when it has noticed
                    if (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())) == before:
                        break
                    await asyncio.sleep(0.02)
                print((len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())) == before)

        asyncio.run(main(), debug=True)
        gc.collect()
    """)
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parent,
        env={**os.environ},
    )
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr
    complaints = [line for line in run.stderr.splitlines() if "Executing <" not in line]  # slow steps on a busy machine
    assert complaints == []
