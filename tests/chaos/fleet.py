"""The fleet of examples/fleet under fire: workers are killed, sessions cut, PostgreSQL restarted; the journal judges.

`python -m chaos.fleet` starts a PostgreSQL of its own, prints what it saw, and writes it into the documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import IO
from uuid import uuid4

import psycopg

from aioalphapoint.cli.exits import Exit
from aioalphapoint.testing import Arrival, SimulatedExchange
from postgres import VARIABLE, NoPostgres, Postgres, running_postgres

from .programs import TESTS, environment
from .table import Line, markdown

__all__ = [
    "CANCEL",
    "NO_POSTGRES",
    "PASSWORD",
    "Fleet",
    "Worker",
    "a_server",
    "away",
    "fresh_database",
    "most_in_a_second",
    "storm",
]

CANCEL = "CancelFailedWithdrawTicket"
PASSWORD = "a password of the operator"
_READ = "GetWithdrawTicket"
_EXAMPLES = TESTS.parent / "examples"
_PROOF = TESTS.parent / "docs" / "proof" / "fleet.md"
NO_POSTGRES = 77
"""The exit code where there is no server, as test programs have it that were skipped."""

_UNLIMITED = frozenset({"AuthenticateUser", "Ping"})  # they pass a client's limiter by

# Seconds: a desk's margin, and a little for a first cancel that was long on its way.
_SOONEST = 0.9

# Seconds after which the machine, and not the fleet, is at fault.
_LONGEST_COMMAND = 60.0

# How a worker ends that is not told to: killed, or because it was started while PostgreSQL was away.
_ENDS = {-signal.SIGKILL, Exit.NOT_SENT}

_OPEN = """
    SELECT ticket_number, state, sends, accepted, why,
        job.status, job.attempts, job.worker_id, job.scheduled_at - now(), now() - last_heartbeat
    FROM fleet_tickets
    LEFT JOIN procrastinate_jobs job ON (args ->> 'ticket_number')::bigint = ticket_number
    LEFT JOIN procrastinate_workers worker ON worker.id = worker_id
    WHERE state <> 'done'
"""


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """Create a database on a server, and drop it afterwards; gives its address."""
    name = f"fleet_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield psycopg.conninfo.make_conninfo(server, dbname=name)
    finally:
        with psycopg.connect(server, autocommit=True) as db:
            db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def away(server: str, database: str) -> Iterator[None]:
    """Let nobody into a database of a server during the block."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]

    def let_in(*, anybody: bool) -> None:
        with psycopg.connect(server, autocommit=True) as db:
            db.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {anybody}".encode())
            if not anybody:
                db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    let_in(anybody=False)
    try:
        yield
    finally:
        let_in(anybody=True)


class Worker:
    """A worker's process, and what it said.

    Args:
        process: The worker.
        log: Where it writes what it says.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self.process = process
        self._log = log

    def said(self) -> str:
        """Give all that it has said so far."""
        return os.pread(self._log.fileno(), 2**20, 0).decode(errors="replace")  # whoever writes goes on where it was

    async def ended(self, seconds: float = 10.0) -> int:
        """Wait until it has ended; gives its exit code."""
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def stopped(self, seconds: float = 10.0) -> int:
        """Tell it to stop, and wait until it has ended; gives its exit code. One that does not end is killed."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            return await self.ended(seconds)
        except TimeoutError:
            self.process.kill()
            raise


class Fleet:
    """An exchange with failed tickets, a database, and the commands of the fleet as programs.

    Args:
        exchange: Where the tickets are.
        database: A fresh one.
        folder: For the list of tickets.
        count: How many tickets.
        rate: Calls a second of all workers.
    """

    def __init__(self, exchange: SimulatedExchange, database: str, folder: Path, *, count: int, rate: int) -> None:
        self.exchange = exchange
        self.database = database
        self.rate = rate
        self.list = folder / "tickets.csv"
        self.tickets = [exchange.add_withdraw(account_id=7, amount="1", status="Failed") for _ in range(count)]
        exchange.add_user("operator", PASSWORD, permissions=["Operator"])
        rows = (f"{ticket.ticket_number},{ticket.account_id},{ticket.request_code}" for ticket in self.tickets)
        self.list.write_text("\n".join(["ticket_number,account_id,request_code", *rows, ""]))

    async def run(self, *command: str | Path, password: str = PASSWORD) -> tuple[int, str, str]:
        """Run a command to its end; gives its exit code and what it printed."""
        pipe = asyncio.subprocess.PIPE
        program = await self._started(*command, password=password, stdout=pipe, stderr=pipe)
        try:
            out, err = await asyncio.wait_for(program.communicate(), _LONGEST_COMMAND)
        finally:
            if program.returncode is None:
                program.kill()
                await program.wait()
        assert program.returncode is not None
        return program.returncode, out.decode(), err.decode()

    async def submit(self) -> int:
        """Submit the list, and give how many tickets that added."""
        code, out, err = await self.run("submit", self.list)
        assert (code, err) == (0, ""), err
        return int(out.split()[0].replace(",", ""))

    async def worker(self, log: IO[bytes], *options: str) -> Worker:
        """Start a worker that gives a sign of life, and counts as dead, sooner than one in earnest."""
        quick = ("--heartbeat", "0.4", "--lease", "2")
        command = ("worker", "--rate", str(self.rate), *quick, *options)
        return Worker(await self._started(*command, stdout=log, stderr=log), log)

    @asynccontextmanager
    async def working(self, *options: str) -> AsyncIterator[Worker]:
        """Let a worker work during the block, and kill it if it has not ended then."""
        with tempfile.TemporaryFile() as log:
            worker = await self.worker(log, *options)
            try:
                yield worker
            finally:
                if worker.process.returncode is None:
                    worker.process.kill()
                await worker.process.wait()

    async def _started(
        self,
        *command: str | Path,
        stdout: IO[bytes] | int,
        stderr: IO[bytes] | int,
        password: str = PASSWORD,
    ) -> asyncio.subprocess.Process:
        named = {
            "FLEET_DATABASE": self.database,
            "ALPHAPOINT_URL": self.exchange.url,
            "ALPHAPOINT_USER_NAME": "operator",
            "ALPHAPOINT_PASSWORD": password,
        }
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleet", *command),
            cwd=_EXAMPLES,
            env=environment() | named,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    async def wait_for(self, ended: int, seconds: float) -> None:
        """Wait until so many tickets are done by their rows; AssertionError, with what is known, after `seconds`."""
        until = asyncio.get_running_loop().time() + seconds
        async with await psycopg.AsyncConnection.connect(self.database, autocommit=True) as db:
            while (states := self.states(await rows_of(db)))["done"] < ended:
                if asyncio.get_running_loop().time() > until:
                    open_ = await (await db.execute(_OPEN)).fetchall()
                    raise AssertionError(f"{states} after {seconds:.0f} s; {open_}")
                await asyncio.sleep(0.1)

    @staticmethod
    def states(rows: Sequence[tuple[int, str, int]]) -> Counter[str]:
        """Count the rows by their state."""
        return Counter(state for _, state, _ in rows)

    # What the exchange's journal says.

    def arrivals(self) -> dict[int, str]:
        """Give what arrived about each ticket, in order: C for a cancel, R for a reading."""
        numbers = {ticket.request_code: ticket.ticket_number for ticket in self.tickets}
        arrived = dict.fromkeys(numbers.values(), "")
        for arrival in self.exchange.journal:
            if arrival.function == CANCEL:
                arrived[json.loads(arrival.payload or "")["ticketId"]] += "C"
            elif arrival.function == _READ:
                arrived[numbers[json.loads(arrival.payload or "")["RequestCode"]]] += "R"
        return arrived

    def sent_again_too_soon(self) -> int:
        """Count the cancels that came after another one of their ticket sooner than a reader waits beyond a lease."""
        last: dict[int, float] = {}
        count = 0
        for arrival in self.exchange.journal:
            if arrival.function == CANCEL:
                number = json.loads(arrival.payload or "")["ticketId"]
                count += arrival.moment - last.get(number, -inf) < _SOONEST
                last[number] = arrival.moment
        return count

    def not_cancelled(self) -> list[int]:
        """Give the tickets that are not cancelled."""
        numbers = [ticket.ticket_number for ticket in self.tickets]
        return [number for number in numbers if self.exchange.ticket(number).status != "AdminCanceled"]

    def busiest_second(self) -> int:
        """Give the most calls that arrived in any one second, wherever it began."""
        return most_in_a_second([a for a in self.exchange.journal if a.function not in _UNLIMITED])


def most_in_a_second(arrivals: Sequence[Arrival]) -> int:
    """Give the most arrivals of any second."""
    moments = sorted(arrival.moment for arrival in arrivals)
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def rows_of(db: psycopg.AsyncConnection) -> Sequence[tuple[int, str, int]]:
    """Give the number, the state and the sends of each row."""
    return await (await db.execute("SELECT ticket_number, state, sends FROM fleet_tickets")).fetchall()


class _Crew:
    """Workers that are killed and replaced while sessions are cut."""

    def __init__(self, fleet: Fleet, chance: random.Random, logs: Sequence[IO[bytes]]) -> None:
        self._fleet = fleet
        self._chance = chance
        self._logs = logs
        self._workers: list[Worker] = []
        self.done: Counter[str] = Counter()

    async def start(self) -> None:
        self._workers = [await self._fleet.worker(log) for log in self._logs]

    async def end(self) -> None:
        codes = await asyncio.gather(*(worker.stopped(_LONGEST_COMMAND) for worker in self._workers))
        # One that had just been started may not know yet what SIGTERM means; another one may have ended just now.
        assert set(codes) <= {0, -signal.SIGTERM, *_ENDS}, (codes, *(worker.said() for worker in self._workers))

    async def kill(self, between: tuple[float, float]) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(*between))
            process = self._chance.choice(self._workers).process
            if process.returncode is None:
                process.kill()
                self.done["workers killed"] += 1

    async def replace(self) -> None:
        """Start another one for each that ended, as whoever runs them does."""
        while True:
            await asyncio.sleep(0.1)
            for place, worker in enumerate(self._workers):
                if (code := worker.process.returncode) is not None:
                    assert code in _ENDS, worker.said()
                    assert "Traceback" not in worker.said(), worker.said()
                    self._workers[place] = await self._fleet.worker(self._logs[place])

    async def cut(self) -> None:
        exchange, chance = self._fleet.exchange, self._chance
        while True:
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            self.done["sessions cut"] += 1
            if chance.random() < 1 / 3:
                await exchange.cut_now(chance.choice([None, 1001]))
                continue
            function = chance.choice([CANCEL, CANCEL, _READ])
            with exchange.faults.cut(before=chance.random() < 1 / 2, function=function):
                await asyncio.sleep(chance.uniform(0.02, 0.3))


@asynccontextmanager
async def storm(
    fleet: Fleet, chance: random.Random, *, workers: int, between_kills: tuple[float, float]
) -> AsyncIterator[Counter[str]]:
    """Let workers work while sessions are cut and workers killed and replaced; gives the count of what was done."""
    with ExitStack() as files:
        crew = _Crew(fleet, chance, [files.enter_context(tempfile.TemporaryFile()) for _ in range(workers)])
        await crew.start()
        tasks = [asyncio.create_task(work) for work in (crew.kill(between_kills), crew.replace(), crew.cut())]
        try:
            yield crew.done
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await crew.end()
        errors = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        assert not errors, errors


async def campaign(
    seed: int,
    url: str,
    server: Postgres | None,
    *,
    tickets: int,
    rate: int,
    between_kills: tuple[float, float],
    seconds: float,
) -> Line:
    """Let three workers cancel tickets under fire, restart PostgreSQL half-way if it is ours, and judge.

    Args:
        seed: Decides what is done when.
        url: The database server.
        server: The same, where it can be ended and started again.
        tickets: How many.
        rate: Calls a second of all workers.
        between_kills: Seconds from one SIGKILL to the next, at least and at most.
        seconds: How long it may take.
    """
    chance = random.Random(seed)
    with fresh_database(url) as database, tempfile.TemporaryDirectory() as folder:
        async with SimulatedExchange() as exchange:
            fleet = Fleet(exchange, database, Path(folder), count=tickets, rate=rate)
            added = [await fleet.submit(), await fleet.submit()]
            async with storm(fleet, chance, workers=3, between_kills=between_kills) as done:
                await fleet.wait_for(tickets // 2, seconds)
                if server is not None:
                    server.stop()
                    await asyncio.sleep(chance.uniform(1.0, 3.0))
                    server.start()
                await fleet.wait_for(tickets, seconds)
            added.append(await fleet.submit())
            async with await psycopg.AsyncConnection.connect(database) as db:
                states = fleet.states(await rows_of(db))
            words = fleet.arrivals().values()
            busiest = fleet.busiest_second()
            wrong = {
                "not cancelled": len(fleet.not_cancelled()),
                "not done by their rows": tickets - states["done"],
                "cancelled twice without a reading in between": sum("CC" in word for word in words),
                "cancelled again before the lease was over": fleet.sent_again_too_soon(),
                "added by handing the list in again": sum(added[1:]),
            }
            fire = f"a worker killed by SIGKILL and replaced {done['workers killed']} times, "
            fire += f"sessions cut {done['sessions cut']} times"
            if server is not None:
                fire += ", PostgreSQL ended at once and started again half-way"
            return Line(
                tried=f"{tickets:,} tickets, 3 workers; {fire}; seed {seed}",
                seen=", ".join(f"{count} {name}" for name, count in wrong.items())
                + f"; {sum(word.count('C') > 1 for word in words)} sent again after a reading; "
                f"{busiest} calls in the busiest second",
                allowed=f"0 of each; {rate} calls in any second",
                holds=not any(wrong.values())
                and added[0] == tickets
                and busiest <= rate
                and done["workers killed"] > 0,
            )


@contextmanager
def a_server() -> Iterator[str]:
    """Give the server that the environment names, else start one; NoPostgres where neither can be."""
    if VARIABLE in os.environ:
        yield os.environ[VARIABLE]
    else:
        with running_postgres() as server:
            yield server.url


@contextmanager
def _one_to_restart() -> Iterator[tuple[str, Postgres | None]]:
    """Start a server, which can be ended and started again; where that cannot be, give the one that is named."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_postgres())
        except NoPostgres:
            if VARIABLE not in os.environ:
                raise
            server = None
        yield (os.environ[VARIABLE] if server is None else server.url), server


def main(arguments: Sequence[str]) -> int:
    """Let the fleet work under fire, and say by the exit code whether the line holds."""
    parser = argparse.ArgumentParser(prog="python -m chaos.fleet", description="Kill workers of a fleet, and judge it.")
    parser.add_argument("--tickets", type=int, default=5_000, help="how many (%(default)s)")
    parser.add_argument("--rate", type=int, default=100, help="calls a second of the fleet (%(default)s)")
    parser.add_argument("--kill-every", type=float, default=4.0, help="seconds, more or less a half (%(default)g)")
    parser.add_argument("--seed", type=int, default=1, help="what decides (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write it into the documentation, too")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that workers and server are ended, too
    try:
        with _one_to_restart() as (url, server):
            line = asyncio.run(
                campaign(
                    options.seed,
                    url,
                    server,
                    tickets=options.tickets,
                    rate=options.rate,
                    between_kills=(options.kill_every / 2, options.kill_every * 3 / 2),
                    seconds=60 + 10 * options.tickets / options.rate,
                )
            )
    except NoPostgres as error:
        print(error)
        return NO_POSTGRES
    page = (
        f"Seen on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on {os.cpu_count()} cores by "
        f"`make fleet`.\n\n{markdown([line])}"
    )
    print(page)
    if options.write:
        _PROOF.write_text(page, encoding="utf-8")
    return 0 if line.holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
