"""Bulk runs as processes: killed and started again, side by side on one journal, and on a disk that is full."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aioalphapoint.testing import SimulatedExchange
from chaos import kills
from chaos.kills import Work, kill_again_and_again

CANCEL = "CancelFailedWithdrawTicket"
COUNT = 300
KILLS = 4


@pytest.fixture
async def failing() -> AsyncIterator[SimulatedExchange]:
    async with kills.failing() as exchange:
        yield exchange


async def test_killed_again_and_again_a_run_ends_with_every_ticket_cancelled_and_none_sent_twice_unread(
    failing: SimulatedExchange, tmp_path: Path
) -> None:
    work = Work(failing, tmp_path, COUNT)
    toll = await kill_again_and_again(work, random.Random(4), KILLS)
    counts, _ = await work.finish()
    assert counts == {"confirmed": COUNT}
    work.check()
    assert toll.at_work >= KILLS / 2
    assert toll.unrecorded == 0
    assert work.sent_again()  # each after a reading, says `check`
    # From the login to the first new call: what is done is passed by, what is open is taken up.
    assert max(resumed(failing)) < 2


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
    both = asyncio.gather(work.finish(), work.finish())
    with failing.faults.delay(0.5, CANCEL):  # so that the first to start cannot be through before the second
        async with asyncio.timeout(60):
            while len(senders(failing)) < 2 and not both.done():
                await asyncio.sleep(0.001)
    assert [counts for counts, _ in await both] == [{"confirmed": COUNT}] * 2
    work.check()
    assert work.sent_again() == []
    assert len(senders(failing)) == 2


def senders(exchange: SimulatedExchange) -> set[int]:
    """Give the connections that have sent a cancel."""
    return {arrival.connection for arrival in exchange.journal if arrival.function == CANCEL}


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
    sent = work.sent()
    assert 0 < len(sent) < 500
    assert counts["not sent"] == 500 - len(sent)
    assert errors
    assert set(errors) <= {"cannot write"}
    assert sent <= work.on_disk()  # each step was on disk before its frame was sent
    assert (await work.finish())[0] == {"confirmed": 500}
    work.check()
