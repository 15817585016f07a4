"""Bulk runs as processes: killed and started again, side by side on one journal, and on a disk that is full."""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aioalphapoint import WithdrawTicket
from aioalphapoint.bulk import Journal
from aioalphapoint.testing import SimulatedExchange
from conftest import OPERATOR

CHILD = Path(__file__).with_name("bulk_child.py")
KILLS = int(os.environ.get("ALPHAPOINT_CAMPAIGN_KILLS", "4"))
COUNT = int(os.environ.get("ALPHAPOINT_CAMPAIGN_BULK", "300"))


class Work:
    """An exchange with failed tickets, and what a child process needs to cancel them."""

    def __init__(self, exchange: SimulatedExchange, folder: Path, count: int) -> None:
        self.exchange = exchange
        self.tickets = [exchange.add_withdraw(account_id=7, amount="1", status="Failed") for _ in range(count)]
        self.journal = Journal(folder / "journal")
        self.list = folder / "tickets"
        rows = [(ticket.ticket_number, ticket.account_id, ticket.request_code) for ticket in self.tickets]
        self.list.write_text(json.dumps(rows))

    @asynccontextmanager
    async def child(self, *limits: str) -> AsyncIterator[asyncio.subprocess.Process]:
        # Without the measuring of coverage, which a killed process could not write down anyway.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        pipe = asyncio.subprocess.PIPE
        arguments: list[str | Path] = [sys.executable, CHILD, self.exchange.url, self.journal.path, self.list, *limits]
        child = await asyncio.create_subprocess_exec(*arguments, env=environment, stdout=pipe, stderr=pipe)
        try:
            yield child
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()

    async def finish(self, *limits: str) -> tuple[Counter[str], list[str]]:
        """Run to the end, and give the states of the outcomes and the errors of what was not sent."""
        async with self.child(*limits) as child:
            out, err = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 0, err.decode()
        assert len(err.splitlines()) <= (1 if limits else 0), err.decode()
        states, errors = json.loads(out.decode().splitlines()[-1])
        return Counter(states), errors

    def arrivals(self, ticket: WithdrawTicket) -> str:
        """What arrived about a ticket, in order: C a cancel, R a reading."""
        return self._arrivals().get(ticket.ticket_number, "")

    def _arrivals(self) -> dict[int, str]:
        numbers = {ticket.request_code: ticket.ticket_number for ticket in self.tickets}
        arrived: dict[int, str] = {}
        for arrival in self.exchange.journal:
            fields = json.loads(arrival.payload or "{}")
            if arrival.function == "CancelFailedWithdrawTicket":
                arrived[fields["ticketId"]] = arrived.get(fields["ticketId"], "") + "C"
            elif arrival.function == "GetWithdrawTicket":
                number = numbers[fields["RequestCode"]]
                arrived[number] = arrived.get(number, "") + "R"
        return arrived

    def check(self) -> None:
        """Every ticket has ended, and none was sent twice without having been read in between."""
        assert {self.exchange.ticket(ticket.ticket_number).status for ticket in self.tickets} == {"AdminCanceled"}
        assert {entry.step for entry in self.journal.entries()} == {"confirmed"}
        assert len(self.journal.entries()) == len(self.tickets)
        arrived = self._arrivals()
        assert len(arrived) == len(self.tickets)
        assert not [words for words in arrived.values() if "CC" in words]
        assert [path.name for path in self.journal.path.parent.iterdir() if "-run" in path.name] == []


@pytest.fixture
async def failing() -> AsyncIterator[SimulatedExchange]:
    async with SimulatedExchange() as exchange:
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        yield exchange


async def test_killed_again_and_again_a_run_ends_with_every_ticket_cancelled_and_none_sent_twice_unread(
    failing: SimulatedExchange, tmp_path: Path
) -> None:
    work, chance, killed_at_work = Work(failing, tmp_path, COUNT), random.Random(4), 0
    for _ in range(KILLS):
        async with work.child() as child:
            assert child.stdout is not None
            await asyncio.wait_for(child.stdout.readline(), 30)
            before = len(failing.journal)
            await more_calls(failing, chance.randrange(COUNT // KILLS))
            child.kill()
            await child.wait()
            killed_at_work += len(failing.journal) > before
    counts, _ = await work.finish()
    assert counts == {"confirmed": COUNT}
    work.check()
    assert killed_at_work >= KILLS / 2
    again = [words for words in work._arrivals().values() if words.count("C") > 1]
    assert all("CRC" in words for words in again)
    # From the login to the first new call: what is done is passed by, what is open is taken up.
    assert max(resumed(failing)) < 2


async def more_calls(exchange: SimulatedExchange, count: int) -> None:
    heard = len(exchange.journal) + count
    async with asyncio.timeout(30):
        while len(exchange.journal) < heard:
            await asyncio.sleep(0.001)


def resumed(exchange: SimulatedExchange) -> list[float]:
    """Seconds from each connection's login to its first call about a ticket."""
    moments: dict[int, list[float]] = {}
    for arrival in exchange.journal:
        moments.setdefault(arrival.connection, []).append(arrival.moment)
    return [later[1] - later[0] for later in moments.values() if len(later) > 1]


async def test_a_run_on_a_finished_journal_is_over_in_two_seconds_and_sends_nothing(
    failing: SimulatedExchange, tmp_path: Path
) -> None:
    work = Work(failing, tmp_path, COUNT)
    assert (await work.finish())[0] == {"confirmed": COUNT}
    sent = len(failing.journal)
    started = asyncio.get_running_loop().time()
    assert (await work.finish())[0] == {"confirmed": COUNT}
    assert asyncio.get_running_loop().time() - started < 2  # starting Python included
    assert [arrival.function for arrival in failing.journal][sent:] == ["AuthenticateUser"]
    work.check()


async def test_two_processes_on_one_journal_and_one_list_send_no_ticket_twice(
    failing: SimulatedExchange, tmp_path: Path
) -> None:
    work = Work(failing, tmp_path, COUNT)
    both = await asyncio.gather(work.finish(), work.finish())
    assert [counts for counts, _ in both] == [{"confirmed": COUNT}] * 2
    work.check()
    assert all(words.count("C") == 1 for words in work._arrivals().values())
    senders = Counter(a.connection for a in failing.journal if a.function == "CancelFailedWithdrawTicket")
    assert len(senders) == 2


async def test_one_of_two_processes_is_killed_and_the_other_does_not_act_on_its_tickets_unread(
    failing: SimulatedExchange, tmp_path: Path
) -> None:
    work = Work(failing, tmp_path, COUNT)
    async with work.child() as first, work.child() as second:
        assert first.stdout is not None
        await asyncio.wait_for(first.stdout.readline(), 30)
        await asyncio.sleep(0.2)
        first.kill()
        out, err = await asyncio.wait_for(second.communicate(), 60)
        assert (second.returncode, err) == (0, b"")
        counts = Counter(json.loads(out.decode().splitlines()[-1])[0])
        assert counts.total() == COUNT
    assert (await work.finish())[0] == {"confirmed": COUNT}
    work.check()


async def test_a_disk_that_is_full_is_a_clear_error_before_the_next_send_and_nothing_is_lost(
    failing: SimulatedExchange, tmp_path: Path
) -> None:
    work = Work(failing, tmp_path, 500)
    counts, errors = await work.finish("200000")  # bytes that each of its files may have
    sent = {number for number, words in work._arrivals().items() if "C" in words}
    assert 0 < len(sent) < 500
    assert counts["not sent"] == 500 - len(sent)
    assert errors
    assert set(errors) <= {"cannot write"}
    on_disk = {int(entry.key.ticket.split("/")[1]) for entry in work.journal.entries()}
    assert sent <= on_disk  # each step was on disk before its frame was sent
    assert (await work.finish())[0] == {"confirmed": 500}
    work.check()
