"""Everything in the README is run, and what it says about names and commands is true."""

import asyncio
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import aioalphapoint
from aioalphapoint import AlphaPointError, CallRejected, Client, OperationFailed
from aioalphapoint.bulk import OutcomeState
from aioalphapoint.testing import SimulatedExchange

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [text for language, text in BLOCKS if language == "sh"]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_the_first_block_is_the_two_commands_and_make_knows_them() -> None:
    assert BLOCKS[0] == ("sh", "make demo\nmake test\n")
    for command in BLOCKS[0][1].splitlines():
        target = command.removeprefix("make ")
        assert re.search(rf"^{target}:.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_first_program_has_at_most_fifteen_lines_and_runs_as_it_stands() -> None:
    assert len(PYTHON[0].splitlines()) <= 15
    run = subprocess.run([sys.executable, "-c", PYTHON[0]], capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "result=True errormsg=None errorcode=0 detail=None\nUserCanceled\n"


def run_block(number: int) -> dict[str, Any]:
    names: dict[str, Any] = vars(aioalphapoint).copy()
    exec(PYTHON[number], names)  # noqa: S102  (the README's own block)
    return names


async def test_stopping_one_withdrawal_works(client: Client, exchange: SimulatedExchange) -> None:
    stop = run_block(1)["stop"]
    ticket = exchange.add_withdraw(account_id=7, amount="1.10")
    assert await stop(client, ticket.request_code) == "1.10 BTC: UserCanceled"
    with exchange.faults.cut(function="CancelWithdraw"):
        ticket = exchange.add_withdraw(account_id=7, amount="1.10")
        assert await stop(client, ticket.request_code) == "1.10 BTC: UserCanceled"
    with exchange.faults.accept_only():
        ticket = exchange.add_withdraw(account_id=7, amount="1.10", status="FullyProcessed")
        with pytest.raises(OperationFailed):
            await stop(client, ticket.request_code)
        ticket = exchange.add_withdraw(account_id=7, amount="1.10")
        stopping = asyncio.create_task(stop(client, ticket.request_code))
        await asyncio.wait({stopping}, timeout=0.05)
        exchange.set_status(ticket.ticket_number, "FullyProcessed")
        assert await stopping == "too late: ticket 295 ended as FullyProcessed, not cancelled"


async def test_stopping_all_works(
    client: Client, exchange: SimulatedExchange, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run_block(2)
    for _ in range(3):
        exchange.add_withdraw(account_id=7, amount="1")
    exchange.add_withdraw(account_id=7, amount="1", status="FullyProcessed")
    await names["stop_all"](client, names["Journal"](tmp_path / "journal"))
    assert capsys.readouterr().out == "292 confirmed \n293 confirmed \n294 confirmed \n"


async def test_listening_works(client: Client, exchange: SimulatedExchange, capsys: pytest.CaptureFixture[str]) -> None:
    listening = asyncio.create_task(run_block(5)["listen"](client))
    while not any(arrival.executed and arrival.function != "AuthenticateUser" for arrival in exchange.journal):
        await asyncio.sleep(0.001)
    exchange.add_withdraw(account_id=7, amount="1")
    exchange.set_status(292, "Submitted")
    await client.ping()
    await exchange.cut_now()
    printed = ""
    while "something may have been missed: read the tickets\n" not in printed:
        await asyncio.sleep(0.01)
        printed += capsys.readouterr().out
    assert printed.startswith("292 Submitted\n")
    await client.close()
    await listening


def test_the_outcome_table_names_every_state() -> None:
    table = README[README.index("| outcome |") : README.index("The `Journal` is")]
    assert re.findall(r"^\| `([a-z ]+)`", table, re.MULTILINE) == sorted(map(str, OutcomeState), key=WORTH.index)


WORTH = ["confirmed", "accepted", "refused", "not sent", "unknown"]


def test_the_constructor_shows_every_argument_with_its_default() -> None:
    names: dict[str, object] = vars(aioalphapoint).copy()
    exec(PYTHON[3], names)  # noqa: S102  (the README's own block)
    shown = re.findall(r"^    (\w+)=(.*?),\s+#", PYTHON[3], re.MULTILINE)
    parameters = inspect.signature(Client).parameters
    assert {name for name, _ in shown} == set(parameters) - {"url", "credentials"}
    for name, text in shown:
        assert eval(text, names) == parameters[name].default, name  # noqa: S307  (the README's own block)


def test_the_credentials_can_be_made_as_shown() -> None:
    names: dict[str, object] = vars(aioalphapoint).copy()
    for line in PYTHON[4].splitlines():
        assert "secret" not in repr(eval(line, names))  # noqa: S307  (the README's own block)


def test_the_promises_name_tests_that_are_there() -> None:
    table = README[README.index("| promise |") : README.index("## Develop")]
    named = re.findall(r"`(tests/\w+\.py)`", table)
    assert len(named) >= 12
    assert all((ROOT / name).exists() for name in named)


async def test_testing_ones_own_code_works(client: Client, exchange: SimulatedExchange) -> None:
    names = run_block(1)
    exec(PYTHON[6], names)  # noqa: S102  (the README's own block)
    await names["test_my_bot_stops_a_withdrawal"](exchange, client)
    names["stop"] = asyncio.sleep  # a bot that stops nothing
    with pytest.raises(AssertionError):
        await names["test_my_bot_stops_a_withdrawal"](exchange, 0)


def test_a_telemetry_is_given_as_shown() -> None:
    assert isinstance(run_block(7)["client"], Client)


async def test_the_commands_at_the_terminal_run_as_shown() -> None:
    async with SimulatedExchange() as exchange:
        exchange.add_user("alice", "secret", account_id=7)
        ticket = exchange.add_withdraw(account_id=7, amount="1.10")
        program = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", SHELL[1].replace("wss://HOST/WSGateway/", exchange.url)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PATH": PATH},
        )
        printed = (await asyncio.wait_for(program.communicate(), 30))[0].decode()
        assert (program.returncode, exchange.ticket(ticket.ticket_number).status) == (0, "UserCanceled"), printed
    assert "3 sent, 3 answered" in printed
    assert "1 ticket, 1.10 BTC" in printed
    assert re.search(r"^confirmed +1 +1\.10 BTC", printed, re.MULTILINE)


async def test_simulate_runs_as_shown() -> None:
    command = SHELL[2].replace(".venv/bin/", "").replace("8765", "0").split()
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env={**os.environ, "PATH": PATH})
    assert program.stdout is not None
    first = await asyncio.wait_for(program.stdout.readline(), 30)
    program.send_signal(signal.SIGINT)
    _, complaint = await asyncio.wait_for(program.communicate(), 30)
    assert (first[:31], complaint) == (b"The simulated exchange listens ", b"")


def test_no_block_goes_untested() -> None:
    assert (len(PYTHON), len(SHELL), len(BLOCKS)) == (8, 3, 12)  # and a drawing


def test_the_error_table_names_every_error() -> None:
    table = README[README.index("| error |") : README.index("All of them are")]
    named = set(re.findall(r"`([A-Z]\w+)`", table))
    errors = {
        name
        for name in aioalphapoint.__all__
        if isinstance(getattr(aioalphapoint, name), type) and issubclass(getattr(aioalphapoint, name), AlphaPointError)
    }
    assert named == errors - {"AlphaPointError"}
    for name, code in re.findall(r"`(\w+)` (\d+)", table):
        assert CallRejected._by_code[int(code)] is getattr(aioalphapoint, name)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", README.replace("\n", " ")))
def test_every_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_table_of_files_names_every_module() -> None:
    table = README[README.index("| to change |") :]
    named = set(re.findall(r"`((?:\w+/)?\w+\.py)`", table)) - {"src/pytest_aioalphapoint.py"}
    package = ROOT / "src" / "aioalphapoint"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    assert named <= modules
    assert modules - named == {"__init__.py", "cli/__init__.py", "testing/__init__.py", "stats.py"}


def test_each_figure_of_what_a_call_costs_is_one_that_was_measured() -> None:
    section = README.partition("## What it costs\n")[2].partition("\n## ")[0]
    measured = (ROOT / "docs/speed/table.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    assert set(rows) <= set(measured)
    assert ("**no**" in section) == ("missed" in section)
