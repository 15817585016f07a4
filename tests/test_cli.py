"""The command, typed as its user types it."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from websockets.asyncio.client import connect

from aioalphapoint import Client, Password
from aioalphapoint.cli import main
from aioalphapoint.cli._app import app

COMMAND = Path(sys.executable).with_name("aioalphapoint")


def test_the_demo_shows_both_calls_their_frames_and_the_tickets_before_and_after() -> None:
    run = subprocess.run([COMMAND, "demo"], capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    lines = [line.strip() for line in run.stdout.splitlines()]
    code = re.search(r'RequestCode\\":\\"([0-9a-f-]{36})', run.stdout)
    assert code is not None
    story = [
        "before   ticket 292: 1.10 BTC, Pending",
        r'sent     {"m":0,"i":4,"n":"CancelWithdraw","o":"{\"OMSId\":1,\"UserId\":1,\"AccountId\":7,\"RequestCode\":\"'
        + code[1]
        + r'\"}"}',
        r'received {"m":1,"i":4,"n":"CancelWithdraw","o":"{\"result\":true,\"errormsg\":null,\"errorcode\":0,'
        r'\"detail\":null}"}',
        "returned StandardResponse(result=True, errormsg=None, errorcode=0, detail=None)",
        "after    ticket 292: 1.10 BTC, UserCanceled",
        "raised   OperationFailed: CancelWithdraw was refused: Operation Failed (101): "
        "Withdraw Ticket not found for OmsId, AccountId, RequestCode",
        "before   ticket 293: 0.0010000000000000000000000000 BTC, Failed",
        r'sent     {"m":0,"i":4,"n":"CancelFailedWithdrawTicket","o":"{\"omsId\":1,\"ticketId\":293}"}',
        "returned StandardResponse(result=True, errormsg=None, errorcode=0, detail=None)",
        "after    ticket 293: 0.0010000000000000000000000000 BTC, AdminCanceled",
    ]
    assert [line for line in lines if line in story] == story  # all of them, in this order


def test_the_demo_runs_in_process_too() -> None:
    outcome = CliRunner().invoke(app, ["demo"])
    assert outcome.exit_code == 0
    assert "AdminCanceled" in outcome.stdout


async def started(*arguments: str, last: str) -> tuple[asyncio.subprocess.Process, list[str]]:
    """Start `simulate`, and give what it printed up to a line."""
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(COMMAND, "simulate", *arguments, stdout=pipe, stderr=pipe)
    assert program.stdout is not None
    printed: list[str] = []
    while not printed or last not in printed[-1]:
        printed.append((await asyncio.wait_for(program.stdout.readline(), 30)).decode().strip())
    return program, printed


async def test_simulate_runs_an_exchange_for_any_websocket_client_until_it_is_interrupted() -> None:
    program, printed = await started(last="Ctrl-C")
    address = re.search(r"ws://127\.0\.0\.1:\d+/WSGateway/", printed[0])
    assert address is not None
    async with connect(address[0], proxy=None) as websocket:
        login = next(line for line in printed if line.startswith("{"))
        await websocket.send(login)
        assert json.loads(json.loads(await websocket.recv())["o"])["Authenticated"] is True
    program.send_signal(signal.SIGINT)
    out, complaint = await asyncio.wait_for(program.communicate(), 30)
    assert (program.returncode, out.decode(), complaint.decode()) == (0, "Stopped.\n", "")


async def test_simulate_takes_tickets_a_delay_and_a_second_factor_as_told() -> None:
    arguments = ("--pending", "3", "--failed", "250", "--delay", "0.05", "--two-factor")
    program, printed = await started(*arguments, last="code is now")
    exports = [line for line in printed if line.startswith("export ")]
    address = exports[0].removeprefix("export ALPHAPOINT_URL=")
    assert exports[1] == "export ALPHAPOINT_USER_NAME=alice ALPHAPOINT_PASSWORD=simulated"
    code = printed[-1].removeprefix("alice's code is now ")
    async with Client(address, Password("alice", "simulated", lambda: code)) as alice:
        assert len([ticket async for ticket in alice.iter_withdraw_tickets(account_id=7)]) == 3
        assert await alice.ping() >= 0.05
    async with Client(address, Password("operator", "simulated")) as operator:
        tickets = [ticket async for ticket in operator.iter_all_withdraw_tickets()]
    assert [ticket.account_id for ticket in tickets if ticket.status.is_failed] == [9] * 250
    program.send_signal(signal.SIGINT)
    out, complaint = await asyncio.wait_for(program.communicate(), 30)
    assert (program.returncode, out.decode().splitlines()[-1], complaint) == (0, "Stopped.", b"")


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [COMMAND, "simulate", "--port", str(port)], capture_output=True, text=True, timeout=30, check=False
        )
    assert run.returncode == 1
    assert run.stdout == ""
    assert re.fullmatch(rf"Cannot listen on 127\.0\.0\.1:{port}: Address already in use\n", run.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_takes_no_more_is_one_clear_line() -> None:
    with Path("/dev/full").open("w") as full:
        runs = [
            subprocess.Popen([COMMAND, command], stdout=full, stderr=subprocess.PIPE)
            for command in ("demo", "simulate")
        ]
    for run in runs:
        with run:
            _, complaint = run.communicate(timeout=30)
        assert run.returncode == 1
        assert complaint.decode().splitlines()[0] == "No space left on device"


@pytest.mark.parametrize("arguments", [["simulate", "--port", "x"], ["simulate", "--port", "70000"], ["dance"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "aioalphapoint.cli._app")
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "The command needs the package typer: pip install 'aioalphapoint[cli]'\n"


def test_a_module_that_is_missing_for_another_reason_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "aioalphapoint.cli._app")
    monkeypatch.setitem(sys.modules, "aioalphapoint.cli.demo", None)
    with pytest.raises(ModuleNotFoundError, match="demo"):
        main()
