"""The examples are whole programs: each is run as its user runs it, against the simulated exchange."""

import asyncio
import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from aioalphapoint import Client, Password
from aioalphapoint.bulk import Journal, Outcome
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, OPERATOR, SOON

EXAMPLES = Path(__file__).parents[1] / "examples"


def environment(url: str, login: Password) -> dict[str, str]:
    return {
        **os.environ,
        "ALPHAPOINT_URL": url,
        "ALPHAPOINT_USER_NAME": login.user_name,
        "ALPHAPOINT_PASSWORD": login.password,
        "PYTHONWARNINGS": "error",
    }


async def run(
    name: str, *arguments: str, url: str = "", login: Password = ALICE, text: str = ""
) -> tuple[int | None, list[str], str]:
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, *arguments, env=environment(url, login), stdin=pipe, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(program.communicate(text.encode()), 30)
    return program.returncode, out.decode().splitlines(), err.decode()


async def test_cancel_withdrawal(exchange: SimulatedExchange) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1.10")
    arguments = ("cancel_withdrawal.py", "7", ticket.request_code)
    story = ["Received, which is not yet cancelled.", "Ticket 292 of 1.10 BTC is now UserCanceled."]
    assert await run(*arguments, url=exchange.url) == (0, story, "")
    paid = exchange.add_withdraw(account_id=7, amount="1.10", status="FullyProcessed")
    again, late, misused, unreachable, refused = await asyncio.gather(
        run(*arguments, url=exchange.url),
        run(arguments[0], "7", paid.request_code, url=exchange.url),
        run(arguments[0], url=exchange.url),
        run(*arguments, url="ws://127.0.0.1:1/"),
        run(*arguments, url=exchange.url, login=Password("alice", "a wrong password")),
    )
    code, lines, _ = again
    assert (code, lines[1]) == (0, story[1])
    assert lines[0].startswith("The exchange said no. CancelWithdraw was refused: Operation Failed (101)")
    code, _, complaint = late
    assert (code, complaint) == (1, "Too late: ticket 293 ended as FullyProcessed, not cancelled\n")
    assert misused == (1, [], "usage: cancel_withdrawal.py ACCOUNT_ID REQUEST_CODE\n")
    code, _, complaint = unreachable
    assert code == 1
    assert complaint.startswith("Nothing was sent: running this again is safe. cannot connect to ws://127.0.0.1:1")
    code, _, complaint = refused
    assert (code, complaint) == (
        1,
        "AuthenticationFailed: the exchange refused the login: Invalid username or password\n",
    )


async def test_clear_failed_tickets(exchange: SimulatedExchange, tmp_path: Path) -> None:
    program = ("clear_failed_tickets.py", str(tmp_path / "journal"))
    torn = tmp_path / "torn"
    torn.write_text("no journal" * 100)
    idle, not_allowed, unreadable = await asyncio.gather(
        run(*program, url=exchange.url, login=OPERATOR),
        run(program[0], str(tmp_path / "another"), url=exchange.url),
        run(program[0], str(torn), url=exchange.url, login=OPERATOR),
    )
    assert idle == (0, ["Nothing had failed."], "")
    assert not_allowed == (1, [], "NotAuthorized: GetAllWithdrawTickets was refused: Not Authorized (20)\n")
    code, _, complaint = unreadable
    assert (code, complaint) == (1, f"JournalError: cannot open the journal {torn}: file is not a database\n")
    failed = [exchange.add_withdraw(account_id=7, amount="1", status="Failed").ticket_number for _ in range(250)]
    assert await run(*program, url=exchange.url, login=OPERATOR) == (0, ["250 confirmed"], "")
    assert {exchange.ticket(number).status for number in failed} == {"AdminCanceled"}
    exchange.add_withdraw(account_id=7, amount="1", status="Failed")
    with exchange.faults.reject(102, function="CancelFailedWithdrawTicket"):
        code, lines, complaint = await run(*program, url=exchange.url, login=OPERATOR)
    refusal = "542: refused. CancelFailedWithdrawTicket was refused: Server Error (102)"
    assert (code, lines, complaint) == (0, [refusal, "1 refused"], "")


async def test_stolen_account(exchange: SimulatedExchange, tmp_path: Path) -> None:
    for status in ["Pending"] * 250 + ["UserCanceled", "FullyProcessed", "Submitted"]:
        exchange.add_withdraw(account_id=7, amount="1.10", status=status)
    program = ("stolen_account.py", "7", str(tmp_path / "journal"))
    code, lines, complaint = await run(*program, url=exchange.url)
    assert (code, complaint) == (1, "")
    assert lines[:3] == ["251 open", "0 open", "250 stopped"]
    assert len(lines) == 4
    assert lines[3].startswith("NOT STOPPED 544: 1.10 BTC refused. CancelWithdraw was refused: Operation Failed (101)")
    sent = [arrival.payload for arrival in exchange.journal if arrival.function == "CancelWithdraw"]
    assert len(sent) == len(set(sent)) == 251
    exchange.journal.clear()
    code, lines, _ = await run(*program, url=exchange.url)  # run again, it tries again only what is open
    assert (code, lines[:3]) == (1, ["1 open", "0 open", "0 stopped"])
    exchange.set_status(544, "Pending")
    assert await run(*program, url=exchange.url) == (0, ["1 open", "0 open", "1 stopped"], "")
    sent = [arrival.payload for arrival in exchange.journal if arrival.function == "CancelWithdraw"]
    assert len(sent) == 2
    assert exchange.ticket(544).status == "UserCanceled"


async def test_stolen_account_through_an_outage(
    exchange: SimulatedExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Longer than a call waits, in the middle of the cancels: all that is open in the end is stopped."""
    tickets = [exchange.add_withdraw(account_id=7, amount="1") for _ in range(200)]
    monkeypatch.syspath_prepend(EXAMPLES)
    program = importlib.import_module("stolen_account")
    monkeypatch.setattr(program, "PATIENCE", 0.5)
    outcomes: dict[int, Outcome] = {}
    async with Client(exchange.url, ALICE, reconnect=SOON, timeout=0.1) as client:
        stop = asyncio.create_task(program.stop_all(client, 7, Journal(tmp_path / "journal"), outcomes))
        async with asyncio.timeout(10):
            while sum(arrival.function == "CancelWithdraw" for arrival in exchange.journal) < 60:
                await asyncio.sleep(0.001)
            with exchange.faults.refuse_dial():
                await exchange.cut_now()
                told = ""
                while "no session within" not in told:  # it cannot list, and says so
                    await asyncio.sleep(0.01)
                    told += capsys.readouterr().out
                assert "not sent" in {str(outcome.state) for outcome in outcomes.values()}
        await asyncio.wait_for(stop, 20)
    assert outcomes.keys() == {ticket.ticket_number for ticket in tickets}
    # Whose ticket could not be read in time is told as unknown or accepted, though the listing shows no more to stop.
    assert {str(outcome.state) for outcome in outcomes.values()} <= {"confirmed", "accepted", "unknown"}
    assert {exchange.ticket(ticket.ticket_number).status for ticket in tickets} == {"UserCanceled"}


async def test_stolen_account_tells_what_is_known_though_it_cannot_go_on(
    exchange: SimulatedExchange, tmp_path: Path
) -> None:
    exchange.add_withdraw(account_id=7, amount="1.10", status="Submitted")
    stop = asyncio.create_task(run("stolen_account.py", "7", str(tmp_path / "journal"), url=exchange.url))
    with exchange.faults.delay(0.2, "CancelWithdraw"):
        while not any(arrival.function == "CancelWithdraw" for arrival in exchange.journal):
            await asyncio.sleep(0.001)
    with exchange.faults.reject(20, function="GetWithdrawTickets"):
        code, lines, complaint = await stop
    assert (code, lines[:2]) == (1, ["1 open", "0 stopped"])
    assert lines[2].startswith("NOT STOPPED 292: 1.10 BTC refused.")
    assert complaint == "NotAuthorized: GetWithdrawTickets was refused: Not Authorized (20)\n"


async def test_service(exchange: SimulatedExchange) -> None:
    codes = [exchange.add_withdraw(account_id=7, amount="1").request_code for _ in range(5)]
    orders = "".join(f"7 {code}\n" for code in codes) + f"9 {codes[0]}\nnonsense\n"
    code, lines, states = await run("service.py", url=exchange.url, text=orders)
    assert code == 0
    assert sorted(lines) == sorted(
        [
            *(f"7 {code} received" for code in codes),
            f"9 {codes[0]} NotAuthorized CancelWithdraw was refused: Not Authorized (20)",
            "nonsense ValueError not enough values to unpack (expected 2, got 1)",
        ]
    )
    assert states in ("", "session ready\n")  # the watcher may be told to stop before its first turn


async def test_service_stops_at_ctrl_c(exchange: SimulatedExchange) -> None:
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / "service.py",
        env=environment(exchange.url, ALICE),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
    )
    assert program.stderr is not None
    assert await asyncio.wait_for(program.stderr.readline(), 30) == b"session ready\n"
    program.send_signal(signal.SIGINT)
    out, complaint = await asyncio.wait_for(program.communicate(), 30)
    assert (program.returncode, out, complaint) == (0, b"Stopped.\n", b"")


async def test_errors() -> None:
    code, lines, complaint = await run("errors.py")
    assert (code, complaint) == (0, "")
    assert [line.split(":")[0] for line in lines] == [
        "mend the program",
        "the exchange could not",
        "the exchange said no",
        "read the ticket before acting again",
        "the exchange could not",
        "safe to call again",
        "never try again with these",
        "the exchange cannot be reached",
    ]


@pytest.mark.parametrize("mode", ["strict", "auto"])
async def test_test_bot(tmp_path: Path, mode: str) -> None:
    shutil.copy(EXAMPLES / "test_bot.py", tmp_path)
    ini = tmp_path / "pytest.ini"
    ini.write_text(f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n")
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-W", "error"), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(program.communicate(), 30)
    assert program.returncode == 0, out.decode()
    assert b"3 passed" in out


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_has_a_test(path: Path) -> None:
    assert 20 <= len(path.read_text().splitlines()) <= 75
    assert f"test_{path.stem}" in globals()
