"""The examples are whole programs: each is run as its user runs it, against the simulated exchange."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from aioalphapoint import Password
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, OPERATOR

EXAMPLES = Path(__file__).parents[1] / "examples"


async def run(
    name: str, *arguments: str, url: str = "", login: Password = ALICE, text: str = ""
) -> tuple[int | None, list[str], str]:
    environment = {
        **os.environ,
        "ALPHAPOINT_URL": url,
        "ALPHAPOINT_USER_NAME": login.user_name,
        "ALPHAPOINT_PASSWORD": login.password,
        "PYTHONWARNINGS": "error",
    }
    pipe = asyncio.subprocess.PIPE
    program = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, *arguments, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(program.communicate(text.encode()), 30)
    return program.returncode, out.decode().splitlines(), err.decode()


async def test_cancel_withdrawal(exchange: SimulatedExchange) -> None:
    ticket = exchange.add_withdraw(account_id=7, amount="1.10")
    arguments = ("cancel_withdrawal.py", "7", ticket.request_code)
    assert await run(*arguments, url=exchange.url) == (0, ["Received. The ticket is now UserCanceled"], "")
    code, _, complaint = await run(*arguments, url=exchange.url)
    assert code == 1
    assert complaint.startswith("The exchange said no. CancelWithdraw was refused: Operation Failed (101)")


async def test_clear_failed_ticket(exchange: SimulatedExchange) -> None:
    failed = [exchange.add_withdraw(account_id=7, amount="1", status="Failed").ticket_number for _ in range(3)]
    numbers = [str(number) for number in (*failed, 7)]
    code, lines, complaint = await run("clear_failed_ticket.py", *numbers, url=exchange.url, login=OPERATOR)
    assert (code, complaint) == (0, "")
    assert lines[:3] == [f"{number}: received" for number in failed]
    assert lines[3].startswith("7: OperationFailed: CancelFailedWithdrawTicket was refused")
    assert {exchange.ticket(number).status for number in failed} == {"AdminCanceled"}


async def test_service(exchange: SimulatedExchange) -> None:
    codes = [exchange.add_withdraw(account_id=7, amount="1").request_code for _ in range(5)]
    orders = "".join(f"7 {code}\n" for code in codes) + f"9 {codes[0]}\n"
    code, lines, complaint = await run("service.py", url=exchange.url, text=orders)
    assert (code, complaint) == (0, "")
    assert sorted(lines[:-1]) == sorted(
        [
            *(f"{code} received" for code in codes),
            f"{codes[0]} NotAuthorized CancelWithdraw was refused: Not Authorized (20)",
        ]
    )
    assert lines[-1].startswith("Stats(in_flight=0, sent=7, replies=7, ")


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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short_and_has_a_test(path: Path) -> None:
    assert 20 <= len(path.read_text().splitlines()) <= 75
    assert f"test_{path.stem}" in globals()
