"""The command at a terminal: what is asked there, what moves there, and how it ends by Ctrl-C."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pyotp
import pytest

from aioalphapoint import Password
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, OPERATOR
from terminals import terminal

COMMAND = Path(sys.executable).with_name("aioalphapoint")
CTRL_C, CTRL_D = "\x03", "\x04"


def environment(exchange: SimulatedExchange, login: Password) -> dict[str, str]:
    return {
        **os.environ,
        "ALPHAPOINT_URL": exchange.url,
        "ALPHAPOINT_USER_NAME": login.user_name,
        "ALPHAPOINT_PASSWORD": login.password,
        "TERM": "xterm-256color",
    }


def cancels(exchange: SimulatedExchange) -> list[str]:
    return [arrival.payload or "" for arrival in exchange.journal if (arrival.function or "").startswith("Cancel")]


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("YES\n", 0), ("n\n", 3), ("\n", 3), (CTRL_D, 3)])
async def test_the_panic_button_asks_and_does_as_it_is_told(
    exchange: SimulatedExchange, answer: str, status: int
) -> None:
    tickets = [exchange.add_withdraw(account_id=7, amount="1.10") for _ in range(3)]
    async with terminal(COMMAND, "cancel-pending", "7", environment=environment(exchange, ALICE)) as user:
        await user.expect("Cancel these 3 tickets of account 7 (3.30 BTC)? [y/N] ")
        assert all(ticket.request_code in user.shown for ticket in tickets)
        assert cancels(exchange) == []
        user.type(answer)
        assert await user.ended() == status
        await user.expect("confirmed" if status == 0 else "Nothing was sent.")
    assert len(cancels(exchange)) == (3 if status == 0 else 0)


async def test_a_list_on_standard_input_leaves_the_terminal_for_the_question(
    exchange: SimulatedExchange, tmp_path: Path
) -> None:
    exchange.add_withdraw(account_id=9, amount="25", status="Failed")
    (tmp_path / "list").write_text("292\n")
    with (tmp_path / "list").open() as listed:
        command = (COMMAND, "cancel-failed", "--from", "-")
        async with terminal(*command, environment=environment(exchange, OPERATOR), stdin=listed.fileno()) as user:
            await user.expect("Cancel this ticket that failed (25 BTC)? [y/N] ")
            user.type("y\n")
            assert await user.ended() == 0
    assert exchange.ticket(292).status == "AdminCanceled"


async def test_a_second_factor_is_asked_for_and_not_shown(exchange: SimulatedExchange) -> None:
    secret = pyotp.random_base32()
    exchange.add_user("careful", "a password", account_id=8, totp_secret=secret)
    login = Password("careful", "a password")
    async with terminal(COMMAND, "tickets", environment=environment(exchange, login)) as user:
        await user.expect("Code of the second factor: ")
        assert not user.echoes()
        code = pyotp.TOTP(secret).now()
        user.type(f"{code}\n")
        await user.expect("0 tickets")
        assert await user.ended() == 0
        assert code not in user.shown
        assert user.echoes()
    async with terminal(COMMAND, "tickets", environment=environment(exchange, login)) as user:
        await user.expect("Code of the second factor: ")
        user.type("000000\n")
        await user.expect("AuthenticationFailed: the exchange refused the login")
        assert await user.ended() == 1
    logins = [arrival.function for arrival in exchange.journal if "Authenticate" in (arrival.function or "")]
    assert logins == ["AuthenticateUser", "Authenticate2FA"] * 2  # each tried once


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGTERM"])
async def test_whoever_leaves_a_question_unanswered_finds_the_terminal_as_it_was(
    exchange: SimulatedExchange, way: str
) -> None:
    exchange.add_user("careful", "a password", account_id=8, totp_secret=pyotp.random_base32())
    login = Password("careful", "a password")
    async with terminal(COMMAND, "tickets", environment=environment(exchange, login)) as user:
        await user.expect("Code of the second factor: ")
        if way == "Ctrl-C":
            user.type(CTRL_C)
        else:
            user.send_signal(signal.SIGTERM)
        assert await user.ended() == {"Ctrl-C": 130, "SIGTERM": 143}[way]
        assert user.echoes()
        assert "Traceback" not in user.shown


async def test_ctrl_c_in_the_middle_stops_cleanly_and_the_same_command_finishes_the_rest(
    exchange: SimulatedExchange, tmp_path: Path
) -> None:
    for _ in range(300):
        exchange.add_withdraw(account_id=9, amount="25", status="Failed")
    journal = tmp_path / "journal"
    command = (COMMAND, "cancel-failed", "--yes", "--journal", journal)
    with exchange.faults.delay(0.02, function="CancelFailedWithdrawTicket"):
        async with terminal(*command, environment=environment(exchange, OPERATOR)) as user:
            await user.expect("sent")
            while len(cancels(exchange)) < 50:
                await asyncio.sleep(0.001)
            await user.expect("/s")  # the rate
            user.type(CTRL_C)
            assert await user.ended() == 130
            await user.expect(f"The same command goes on from {journal}.")
            assert "Stopped: " in user.shown
            assert "Traceback" not in user.shown
    first = cancels(exchange)
    assert len(first) == len(set(first)) < 300
    reads = sum(arrival.function == "GetWithdrawTicket" for arrival in exchange.journal)
    async with terminal(*command, environment=environment(exchange, OPERATOR)) as user:
        await user.expect("confirmed")
        assert await user.ended() == 0
    assert {exchange.ticket(number).status for number in range(292, 592)} == {"AdminCanceled"}
    twice = len(cancels(exchange)) - len(set(cancels(exchange)))
    assert twice <= sum(arrival.function == "GetWithdrawTicket" for arrival in exchange.journal) - reads


async def test_the_bars_show_how_many_how_fast_and_how_long(exchange: SimulatedExchange) -> None:
    for _ in range(40):
        exchange.add_withdraw(account_id=7, amount="1.10")
    command = (COMMAND, "cancel-pending", "7", "--yes", "--concurrency", "4")
    with exchange.faults.delay(0.03):
        async with terminal(*command, environment=environment(exchange, ALICE)) as user:
            assert await user.ended() == 0
    assert "40/40" in user.shown
    assert "sent" in user.shown
    assert "settled" in user.shown
    assert "confirmed" in user.shown.splitlines()[-1]


async def test_what_was_typed_before_the_question_agrees_to_nothing(exchange: SimulatedExchange) -> None:
    exchange.add_withdraw(account_id=7, amount="1.10")
    with exchange.faults.delay(0.3, function="GetWithdrawTickets"):
        async with terminal(COMMAND, "cancel-pending", "7", environment=environment(exchange, ALICE)) as user:
            while not any(arrival.function == "GetWithdrawTickets" for arrival in exchange.journal):
                await asyncio.sleep(0.001)
            user.type("y\n")  # while it lists
            await user.expect("[y/N] ")
            user.type("n\n")
            assert await user.ended() == 3
    assert cancels(exchange) == []


async def test_a_code_that_is_asked_for_at_a_question_waits_for_its_answer(exchange: SimulatedExchange) -> None:
    secret = pyotp.random_base32()
    exchange.add_user("careful", "a password", account_id=8, totp_secret=secret)
    ticket = exchange.add_withdraw(account_id=8, amount="1.10")
    login = Password("careful", "a password")
    async with terminal(COMMAND, "cancel-pending", "8", environment=environment(exchange, login)) as user:
        await user.expect("Code of the second factor: ")
        user.type(f"{pyotp.TOTP(secret).now()}\n")
        await user.expect("[y/N] ")
        exchange.faults.expire_token()
        logins = sum(arrival.function == "AuthenticateUser" for arrival in exchange.journal)
        await exchange.cut_now()
        while sum(arrival.function == "AuthenticateUser" for arrival in exchange.journal) == logins:
            await asyncio.sleep(0.001)
        user.type("y\n")
        while user.shown.count("Code of the second factor: ") < 2:
            await asyncio.sleep(0.001)
        user.type(f"{pyotp.TOTP(secret).now()}\n")
        assert await user.ended() == 0
    codes = [arrival.payload or "" for arrival in exchange.journal if arrival.function == "Authenticate2FA"]
    assert len(codes) == 2
    assert '"y"' not in codes[1]
    assert exchange.ticket(ticket.ticket_number).status == "UserCanceled"


@pytest.mark.parametrize(
    ("signals", "status"),
    [([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGHUP], 129)],
    ids=["Ctrl-C twice", "SIGTERM", "SIGHUP"],
)
async def test_whoever_stops_a_run_reads_of_every_ticket(
    exchange: SimulatedExchange, signals: list[signal.Signals], status: int
) -> None:
    for _ in range(40):
        exchange.add_withdraw(account_id=9, amount="25", status="Failed")
    command = (COMMAND, "cancel-failed", "--yes", "--concurrency", "2")
    with exchange.faults.delay(0.05, function="CancelFailedWithdrawTicket"):
        async with terminal(*command, environment=environment(exchange, OPERATOR)) as user:
            while len(cancels(exchange)) < 8:
                await asyncio.sleep(0.001)
            for number in signals:
                user.send_signal(number)
            assert await user.ended() == status
            await user.expect("Stopped: ")
    assert "What is known" in user.shown  # the tables
    counts = re.findall(r"(\d+) (accepted|unknown|not sent)", user.shown.rpartition("Stopped: ")[2])
    assert sum(int(count) for count, _ in counts) == 40
