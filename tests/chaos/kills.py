"""Bulk runs as processes, killed at random moments and started again on the same journal, until everything is done.

The exchange's journal is the judge: of what arrived about each ticket, in which order, and from which run.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from aioalphapoint.bulk import Journal
from aioalphapoint.testing import SimulatedExchange

from .programs import TESTS, environment
from .table import Line

__all__ = ["Toll", "Work", "failing", "kill_again_and_again", "kills"]

_CANCEL = "CancelFailedWithdrawTicket"
_CHILD = TESTS / "bulk_child.py"

# Seconds after which the machine, and not the run, is at fault.
_LONGEST_START = 30.0
_LONGEST_RUN = 60.0


@asynccontextmanager
async def failing() -> AsyncIterator[SimulatedExchange]:
    """Give an exchange with the operator as whom the children log in."""
    async with SimulatedExchange() as exchange:
        exchange.add_user("operator", "a password of the operator", permissions=["Operator"])
        yield exchange


class Work:
    """An exchange with failed tickets, and what a child process needs to cancel them."""

    def __init__(self, exchange: SimulatedExchange, folder: Path, count: int) -> None:
        self.exchange = exchange
        self.tickets = [exchange.add_withdraw(account_id=7, amount="1", status="Failed") for _ in range(count)]
        self.journal = Journal(folder / "journal")
        self._list = folder / "tickets"
        rows = [(ticket.ticket_number, ticket.account_id, ticket.request_code) for ticket in self.tickets]
        self._list.write_text(json.dumps(rows))

    @asynccontextmanager
    async def child(self, *limits: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the program, and kill it if it is not over at the end of the block."""
        pipe = asyncio.subprocess.PIPE
        arguments: list[str | Path] = [sys.executable, _CHILD, self.exchange.url, self.journal.path, self._list]
        child = await asyncio.create_subprocess_exec(*arguments, *limits, env=environment(), stdout=pipe, stderr=pipe)
        try:
            yield child
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()

    async def finish(self, *limits: str) -> tuple[Counter[str], list[str]]:
        """Run to the end, and give the states of the outcomes and the errors of what was not sent."""
        async with self.child(*limits) as child:
            out, err = await asyncio.wait_for(child.communicate(), _LONGEST_RUN)
        assert child.returncode == 0, err.decode()
        assert len(err.splitlines()) <= (1 if limits else 0), err.decode()
        states, errors = json.loads(out.decode().splitlines()[-1])
        return Counter(states), errors

    def arrivals(self) -> dict[int, list[tuple[str, int]]]:
        """Give what arrived about each ticket, in order: C for a cancel, R for a reading, and on which connection."""
        numbers = {ticket.request_code: ticket.ticket_number for ticket in self.tickets}
        arrived: dict[int, list[tuple[str, int]]] = {}
        for arrival in self.exchange.journal:
            fields = json.loads(arrival.payload or "{}")
            if arrival.function == _CANCEL:
                arrived.setdefault(fields["ticketId"], []).append(("C", arrival.connection))
            elif arrival.function == "GetWithdrawTicket":
                arrived.setdefault(numbers[fields["RequestCode"]], []).append(("R", arrival.connection))
        return arrived

    def sent(self) -> set[int]:
        """Give the tickets of which a cancel has arrived."""
        return {number for number, words in self.arrivals().items() if "C" in dict(words)}

    def on_disk(self) -> set[int]:
        """Give the tickets that the journal knows."""
        return {int(entry.key.ticket.split("/")[1]) for entry in self.journal.entries()}

    def lost(self) -> list[int]:
        """Give the tickets that are not cancelled."""
        numbers = [ticket.ticket_number for ticket in self.tickets]
        return [number for number in numbers if self.exchange.ticket(number).status != "AdminCanceled"]

    def sent_unread(self) -> list[int]:
        """Give the tickets that a run has sent although one was sent before, and has not read them in between."""
        return [number for number, words in self.arrivals().items() if _is_sent_unread(words)]

    def sent_again(self) -> list[int]:
        """Give the tickets that were sent more than once."""
        return [number for number, words in self.arrivals().items() if [word for word, _ in words].count("C") > 1]

    def misrecorded(self) -> list[int]:
        """Give the tickets of which the journal does not say that they were seen cancelled."""
        confirmed = {entry.key.ticket for entry in self.journal.entries() if entry.step == "confirmed"}
        numbers = {int(ticket.split("/")[1]) for ticket in confirmed}
        return sorted({ticket.ticket_number for ticket in self.tickets} ^ numbers)

    def check(self) -> None:
        """Every ticket has ended, none was sent twice unread, the journal says so, and no run left its lock behind."""
        assert (self.lost(), self.sent_unread(), self.misrecorded()) == ([], [], [])
        assert self.arrivals().keys() == {ticket.ticket_number for ticket in self.tickets}
        assert [path.name for path in self.journal.path.parent.iterdir() if "-run" in path.name] == []


def _is_sent_unread(words: list[tuple[str, int]]) -> bool:
    readers: set[int] | None = None  # since the last cancel; None before the first
    for word, run in words:
        if word == "C" and readers is not None and run not in readers:
            return True
        if word == "C":
            readers = set()
        elif readers is not None:
            readers.add(run)
    return False


@dataclass
class Toll:
    """What a series of kills has hit.

    Attributes:
        at_work: Runs that had sent something when they were killed.
        unrecorded: Tickets that had been sent, and of which the journal did not know.
    """

    at_work: int = 0
    unrecorded: int = 0


async def kill_again_and_again(work: Work, chance: random.Random, kills: int) -> Toll:
    """Start runs, and kill each at a random moment.

    In one of three runs the exchange refuses the cancels by a server error, so that the next one has to send again what
    this one has sent.
    """
    toll, exchange = Toll(), work.exchange
    for _ in range(kills):
        with exchange.faults.reject(102, function=_CANCEL) if chance.random() < 1 / 3 else nullcontext():
            async with work.child() as child:
                assert child.stdout is not None
                await asyncio.wait_for(child.stdout.readline(), _LONGEST_START)
                before = len(exchange.journal)
                await _more_calls(exchange, chance.randrange(len(work.tickets) // kills))
                await asyncio.sleep(chance.uniform(0.0, 0.005))
                child.kill()
                await child.wait()
                toll.at_work += any(arrival.function == _CANCEL for arrival in islice(exchange.journal, before, None))
        if sent := work.sent():
            toll.unrecorded += len(sent - work.on_disk())
    return toll


async def _more_calls(exchange: SimulatedExchange, count: int) -> None:
    heard = len(exchange.journal) + count
    async with asyncio.timeout(_LONGEST_START):
        while len(exchange.journal) < heard:
            await asyncio.sleep(0.001)


async def kills(seed: int, tickets: int, kills: int) -> Line:
    """Kill a bulk run again and again, let the last one finish, and hold what arrived against what was promised.

    Args:
        seed: Decides the moments.
        tickets: How many the run has to cancel.
        kills: How many runs are killed.
    """
    async with failing() as exchange:
        with tempfile.TemporaryDirectory() as folder:
            work = Work(exchange, Path(folder), tickets)
            toll = await kill_again_and_again(work, random.Random(seed), kills)
            states, _ = await work.finish()
            wrong = {
                "lost": len(work.lost()),
                "not told as cancelled": tickets - states["confirmed"],
                "sent twice unread": len(work.sent_unread()),
                "sent and not in the journal": toll.unrecorded,
                "of which the journal says otherwise": len(work.misrecorded()),
            }
            return Line(
                tried=f"{kills} `kill -9` of a bulk run over {tickets:,} tickets, {toll.at_work} of them when it "
                f"had sent something, seed {seed}",
                seen=", ".join(f"{count} {name}" for name, count in wrong.items())
                + f"; {len(work.sent_again()) - len(work.sent_unread())} sent again after a reading",
                allowed="0 of each",
                holds=not any(wrong.values()) and toll.at_work >= kills / 2,
            )
