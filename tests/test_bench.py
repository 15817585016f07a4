"""The benchmark works, small: it measures, tells what was missed, and leaves no process behind. No figure is judged."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import Client, WithdrawTicket
from aioalphapoint._envelope import read_json
from scripted import GOOD, scripted
from speed.contestants.frames import CANCEL, cancel
from speed.program import Settings
from speed.result import Line, Result, lines_table, spread, spread_of_ratios
from speed.stage import Program, ProgramFailed
from speed.tickets import listing

HOME = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def bench(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "speed", *arguments]
    with subprocess.Popen(command, cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        try:
            yield run
        finally:
            run.kill()


def rows(text: str, head: str) -> dict[str, list[str]]:
    table = text.partition(f"| {head} |")[2].partition("\n\n")[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {first: rest for first, *rest in cells}


def test_a_quick_run_measures_each_contestant_that_is_here_and_leaves_no_process_behind() -> None:
    with bench("--quick", "in_flight", "storm") as run:
        text, complaints = run.communicate(timeout=50)  # both end when the last process that holds them has ended
    assert run.returncode in {0, 1}, complaints
    assert re.fullmatch(r"in_flight \.\.\. \d+ s\nstorm \.\.\. \d+ s\n", complaints)
    assert "Measured on 20" in text
    assert "`python -m speed --quick in_flight storm`" in text
    costs = rows(text, "µs of CPU a call")
    for name in ("aioalphapoint", "websockets: send and receive, no JSON"):
        assert all(re.match(r"[\d,.]+ \([\d,.]+ to [\d,.]+\)", cell) for cell in costs[name]), costs
    for name, cells in costs.items():
        assert re.match(r"\d|not measured: \w+ is not installed", cells[0] or "1"), name
    lines = rows(text, "measured")
    assert len(lines) == 8
    missed = [cells for cells in lines.values() if "**no**" in cells[-1]]
    assert run.returncode == bool(missed)


def test_no_program_outlives_a_benchmark_that_is_killed() -> None:
    with bench("in_flight") as run:
        assert run.stderr is not None
        assert run.stderr.read(len("in_flight")) == "in_flight"  # the exchange runs
        run.kill()
        run.communicate(timeout=20)


@pytest.mark.parametrize("arguments", [["thunder"], ["--write", "storm"], ["--write", "--quick"]])
def test_what_cannot_be_run_is_told_and_nothing_is_written(arguments: list[str]) -> None:
    with bench(*arguments) as run:
        text, complaint = run.communicate(timeout=20)
    assert (run.returncode, text) == (2, "")
    assert "there is no scenario 'thunder'" in complaint or "--write takes everything at full size" in complaint


def test_a_program_that_fails_is_told_of_by_name() -> None:
    with pytest.raises(ProgramFailed, match=r"^contestants\.nobody ended"):
        Program("contestants.nobody", Settings())


async def test_the_floor_sends_what_the_client_sends_byte_for_byte() -> None:
    heard: list[str | bytes] = []

    async def script(socket: ServerConnection) -> None:
        async for message in socket:
            heard.append(message)
            number = json.loads(message)["i"]
            await socket.send(json.dumps({"m": 1, "i": number, "n": "CancelWithdraw", "o": GOOD}))

    async with scripted(script) as url, Client(url) as client:
        await client.cancel_withdraw(account_id=7, user_id=96, oms_id=1, request_code=str(CANCEL["RequestCode"]))
    assert heard == [cancel(2).decode()]


def test_a_listing_has_tickets_that_read_whole_with_digits_that_a_float_loses() -> None:
    listed = read_json(listing(50))
    assert isinstance(listed, list)
    tickets = [WithdrawTicket.model_validate(row) for row in listed]
    assert len({ticket.ticket_number for ticket in tickets}) == len({ticket.request_code for ticket in tickets}) == 50
    assert all(None not in (it.amount, it.fee_amt, it.created_timestamp, it.last_update_timestamp) for it in tickets)
    assert any(str(float(str(ticket.amount))) != str(ticket.amount).rstrip("0") for ticket in tickets)
    assert listing(50) == listing(50)


def test_ratios_are_taken_round_by_round() -> None:
    ratio = spread_of_ratios([1.0, 8.0, 9.0], [4.0, 1.0, 2.0])
    assert ratio.median == 4.5  # the medians' ratio is 4
    assert spread([0.00001234]).words("µs", 1e6) == "12.3 µs (12.3 to 12.3)"


def test_a_promise_that_is_missed_is_shown_as_missed() -> None:
    result = Result([Line("a", "1.2 times", "≤ 1.1 times", holds=False), Line("b", "not measured", "≤ 1.1 times")])
    assert not result.holds
    assert "| a | 1.2 times | ≤ 1.1 times | **no** |" in lines_table(result.lines)
    assert "| b | not measured | ≤ 1.1 times |  |" in lines_table(result.lines)
