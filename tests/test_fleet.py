"""The fleet of examples/fleet on a real PostgreSQL: one ticket, one limit, one command at a time."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from procrastinate import App

from aioalphapoint import CallNotSent, Client, NotConnected, WithdrawTicket
from aioalphapoint.testing import Arrival, SimulatedExchange
from chaos.fleet import CANCEL, Fleet, a_server, fresh_database, most_in_a_second, rows_of
from conftest import OPERATOR, SOON
from fleet.desk import Desk, Later
from fleet.ledger import Key, Ledger, Row, State
from fleet.limiter import SLACK, SharedLimiter
from fleet.submit import failed_tickets, submit
from fleet.worker import connected
from pages import run_page
from postgres import NoPostgres

DOCS = Path(__file__).parents[1] / "docs"

LEASE, MARGIN = 0.2, 0.1  # seconds


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    try:
        with a_server() as url:
            yield url
    except NoPostgres as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must not skip these tests: {error}")
        pytest.skip(str(error))


@pytest.fixture
def database(server: str) -> Iterator[str]:
    with fresh_database(server) as database:
        yield database


@dataclass
class Office:
    """A desk, and all that stands around it."""

    exchange: SimulatedExchange
    app: App
    client: Client
    ledger: Ledger
    desk: Desk

    def failed(self) -> WithdrawTicket:
        return self.exchange.add_withdraw(account_id=7, amount="1", status="Failed")

    async def submit(self, *tickets: WithdrawTicket, again: bool = False) -> int:
        return await submit(self.app, self.ledger, tickets, oms_id=1, again=again)

    async def submitted(self) -> WithdrawTicket:
        ticket = self.failed()
        assert await self.submit(ticket) == 1
        return ticket

    async def row(self, ticket: WithdrawTicket) -> Row:
        return await self.ledger.get(key(ticket))

    async def settle(self, ticket: WithdrawTicket) -> Row:
        """Settle a ticket as a worker does: again after each `Later`."""
        async with asyncio.timeout(10):
            while True:
                try:
                    await self.desk.settle(key(ticket))
                except Later as later:
                    await asyncio.sleep(later.seconds)
                else:
                    return await self.row(ticket)

    def arrived(self) -> str:
        """Give what arrived, in order: C for a cancel, R for a reading."""
        words = {CANCEL: "C", "GetWithdrawTicket": "R"}
        return "".join(words.get(arrival.function or "", "") for arrival in self.exchange.journal)

    async def jobs(self) -> int:
        return len(list(await self.app.job_manager.list_jobs_async()))


@pytest.fixture
async def office(database: str, exchange: SimulatedExchange) -> AsyncIterator[Office]:
    async with (
        connected(database) as (app, ledger),
        Client(exchange.url, OPERATOR, reconnect=SOON, timeout=2) as client,
    ):
        yield Office(exchange, app, client, ledger, Desk(client, ledger, lease=LEASE, margin=MARGIN, patience=0.6))


def key(ticket: WithdrawTicket) -> Key:
    return Key(1, ticket.ticket_number)


# One ticket.


async def test_a_ticket_is_marked_before_its_cancel_is_answered_and_done_when_it_was_seen_cancelled(
    office: Office,
) -> None:
    ticket = await office.submitted()
    assert (await office.row(ticket)).state == State.TODO
    with office.exchange.faults.mute(CANCEL):
        work = asyncio.create_task(office.settle(ticket))
        while office.arrived() != "C":
            await asyncio.sleep(0.001)
        assert (await office.row(ticket)).state == State.SENT
    row = await work
    assert (row.state, row.sends, row.status, row.why) == (State.DONE, 1, "AdminCanceled", None)
    assert office.arrived() == "CR"
    await office.desk.settle(key(ticket))
    assert office.arrived() == "CR"  # what is done is left alone


async def test_what_is_found_as_sent_is_read_before_anything_else_and_not_sent_again_before_the_lease_is_over(
    office: Office,
) -> None:
    ticket = await office.submitted()
    assert await office.ledger.mark_sent(await office.row(ticket)) == 1  # by a worker that died then
    marked = time.monotonic()
    with pytest.raises(Later) as later:
        await office.desk.settle(key(ticket))
    assert LEASE < later.value.seconds <= LEASE + MARGIN
    assert office.arrived() == "R"
    row = await office.settle(ticket)
    assert time.monotonic() - marked > LEASE + MARGIN
    assert office.arrived() == "RRRCR"
    assert (row.state, row.sends) == (State.DONE, 2)


async def test_what_is_found_as_sent_and_is_cancelled_is_not_sent_again(office: Office) -> None:
    ticket = await office.submitted()
    await office.ledger.mark_sent(await office.row(ticket))
    office.exchange.set_status(ticket.ticket_number, "AdminCanceled")
    await office.desk.settle(key(ticket))
    assert (await office.row(ticket)).state == State.DONE
    assert office.arrived() == "R"


async def test_of_two_workers_on_one_ticket_one_sends(office: Office) -> None:
    for _ in range(20):
        ticket = await office.submitted()
        before = len(office.arrived())
        ends = await asyncio.gather(*(office.desk.settle(key(ticket)) for _ in range(2)), return_exceptions=True)
        assert office.arrived()[before:].count("C") == 1
        assert [type(end) for end in ends if end is not None] in ([], [Later])
        assert (await office.row(ticket)).state == State.DONE


async def test_whoever_was_taken_for_dead_changes_nothing_any_more(office: Office) -> None:
    ticket = await office.submitted()
    before = await office.row(ticket)
    assert await office.ledger.mark_sent(before) == 1
    assert await office.ledger.mark_sent(before) is None  # by one who has read the row before
    assert await office.ledger.mark_sent(await office.row(ticket)) == 2
    await office.ledger.put(key(ticket), 1, State.REFUSED, why="too late")
    assert (await office.row(ticket)).state == State.SENT
    await office.ledger.put(key(ticket), 2, State.DONE, status="AdminCanceled")
    await office.ledger.put(key(ticket), 2, State.UNKNOWN, why="what has ended stays so")
    row = await office.row(ticket)
    assert (row.state, row.status, row.why) == (State.DONE, "AdminCanceled", None)


async def test_a_cancel_that_was_not_answered_is_settled_by_the_ticket(office: Office) -> None:
    done, not_done = await office.submitted(), await office.submitted()
    with office.exchange.faults.mute(CANCEL):  # carried out, and not answered
        assert (await office.settle(done)).state == State.DONE
    assert office.arrived() == "CR"
    with office.exchange.faults.cut(before=True, function=CANCEL), pytest.raises(Later):  # neither
        await office.desk.settle(key(not_done))
    assert (await office.row(not_done)).state == State.SENT
    row = await office.settle(not_done)
    assert (row.state, row.sends) == (State.DONE, 2)
    assert office.arrived() == "CRCRRRCR"


async def test_what_could_not_be_sent_stands_where_it_stood(office: Office) -> None:
    ticket = await office.submitted()
    await office.client.close()
    with pytest.raises(NotConnected):
        await office.desk.settle(key(ticket))
    row = await office.row(ticket)
    assert (row.state, row.sends, row.why) == (
        State.TODO,
        0,
        "CancelFailedWithdrawTicket was not sent: the client is closed",
    )
    await office.client.connect()
    assert (await office.settle(ticket)).state == State.DONE
    assert office.arrived() == "CR"


async def test_what_was_sent_once_and_could_not_be_sent_again_stands_as_sent_once(office: Office) -> None:
    ticket = await office.submitted()
    with office.exchange.faults.cut(before=True, function=CANCEL), pytest.raises(Later):
        await office.desk.settle(key(ticket))
    row = await office.row(ticket)
    mark = await office.ledger.mark_sent(row)
    assert mark is not None
    for _ in range(2):  # as when the database's answer is lost
        await office.ledger.take_back(key(ticket), mark, "it was not sent")
        row = await office.row(ticket)
        assert (row.state, row.sends, row.why) == (State.SENT, 1, "it was not sent")
    assert (await office.settle(ticket)).sends == 2
    assert "CC" not in office.arrived()


async def test_a_refusal_is_held_against_the_ticket(office: Office) -> None:
    refused, cancelled, paid = [await office.submitted() for _ in range(3)]
    office.exchange.set_status(cancelled.ticket_number, "AdminCanceled")
    office.exchange.set_status(paid.ticket_number, "FullyProcessed")
    with office.exchange.faults.reject(101, function=CANCEL):
        rows = [await office.settle(ticket) for ticket in (refused, cancelled, paid)]
    assert [(row.state, row.status) for row in rows] == [
        (State.REFUSED, "Failed"),
        (State.DONE, "AdminCanceled"),
        (State.REFUSED, "FullyProcessed"),
    ]
    assert rows[0].why == "CancelFailedWithdrawTicket was refused: Operation Failed (101)"
    assert rows[2].why == "it ended as FullyProcessed, not cancelled"
    assert office.arrived() == "CR" * 3


async def test_a_server_error_says_nothing_and_after_five_sends_a_person_decides(office: Office) -> None:
    ticket = await office.submitted()
    with office.exchange.faults.reject(102, function=CANCEL):
        row = await office.settle(ticket)
    assert (row.state, row.sends) == (State.UNKNOWN, 5)
    assert row.why is not None
    assert row.why.startswith("the cancel was sent 5 times, and the ticket is failed still; CancelFailedWithdrawTicket")
    assert "CC" not in office.arrived()
    assert office.arrived().count("C") == 5


async def test_an_accepted_cancel_is_not_sent_again_and_a_person_hears_of_it_when_it_does_not_show(
    office: Office,
) -> None:
    ticket, slow = await office.submitted(), await office.submitted()
    with office.exchange.faults.accept_only(CANCEL):
        row = await office.settle(ticket)
        with pytest.raises(Later):
            await office.desk.settle(key(slow))
    assert (row.state, row.sends, row.why) == (
        State.UNKNOWN,
        1,
        "the cancel was accepted 1 s ago, and the ticket is failed still",
    )
    office.exchange.set_status(slow.ticket_number, "AdminCanceled")
    assert (await office.settle(slow)).state == State.DONE
    assert office.arrived().count("C") == 2


async def test_a_ticket_that_cannot_be_read_or_is_another_one_is_a_persons(office: Office) -> None:
    mine, other = office.failed(), office.failed()
    await office.submit(mine.model_copy(update={"request_code": other.request_code}))
    assert (await office.settle(mine)).why == f"its request code is that of ticket {other.ticket_number}"
    unread = office.failed()
    await office.submit(unread.model_copy(update={"account_id": 8}))
    row = await office.settle(unread)
    assert (row.state, row.why) == (
        State.UNKNOWN,
        "the ticket cannot be read: GetWithdrawTicket was refused: Resource Not Found (104)",
    )
    senseless = office.failed()
    await office.submit(senseless.model_copy(update={"request_code": "no GUID"}))
    row = await office.settle(senseless)
    assert row.state == State.UNKNOWN
    assert "request_code must be a uuid.UUID or its text of 36 characters, not 'no GUID'" in (row.why or "")


async def test_a_mistake_of_the_program_is_a_persons_too(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = await office.submitted()

    async def mistaken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(office.client, "cancel_failed_withdraw_ticket", mistaken)
    await office.desk.settle(key(ticket))
    row = await office.row(ticket)
    assert (row.state, row.why) == (State.UNKNOWN, "internal error: ZeroDivisionError()")


# Handing in.


async def test_a_list_that_is_handed_in_twice_adds_nothing_however_far_it_has_come(office: Office) -> None:
    tickets = [office.failed() for _ in range(5)]
    assert await office.submit(*tickets[:3]) == 3
    assert await office.submit(*tickets, *tickets) == 2
    assert await office.jobs() == 5
    await office.settle(tickets[0])
    await office.ledger.mark_sent(await office.row(tickets[1]))
    assert await office.submit(*tickets) == 0
    assert await office.submit(*tickets, again=True) == 0  # none of them waits for a person
    assert await office.jobs() == 5


async def test_two_who_hand_in_the_same_at_once_add_it_once(office: Office) -> None:
    tickets = [office.failed() for _ in range(50)]
    added = await asyncio.gather(*(office.submit(*tickets) for _ in range(4)))
    assert sum(added) == 50
    assert await office.jobs() == 50


async def test_handed_in_again_what_waits_for_a_person_is_read_before_it_is_sent(office: Office) -> None:
    ticket = await office.submitted()
    with office.exchange.faults.reject(101, function=CANCEL):
        assert (await office.settle(ticket)).state == State.REFUSED
    assert await office.submit(ticket) == 0
    async with office.ledger.transaction() as db:  # its job has ended, as a worker would say
        await db.execute("DELETE FROM procrastinate_jobs")
    assert await office.submit(ticket, again=True) == 1
    assert (await office.row(ticket)).state == State.SENT
    assert (await office.settle(ticket)).state == State.DONE
    assert "CC" not in office.arrived()


async def test_handed_in_again_a_ticket_that_lost_its_job_gets_another_one(office: Office) -> None:
    lost, queued = await office.submitted(), await office.submitted()
    async with office.ledger.transaction() as db:
        await db.execute("DELETE FROM procrastinate_jobs WHERE lock = %s", (key(lost).lock,))
    assert await office.submit(lost, queued) == 0
    assert await office.submit(lost, queued, again=True) == 1
    assert await office.jobs() == 2
    assert (await office.row(lost)).state == State.TODO


async def test_the_listing_gives_what_has_failed(office: Office) -> None:
    tickets = [office.failed() for _ in range(3)]
    office.exchange.add_withdraw(account_id=7, amount="1")
    assert {t.ticket_number async for t in failed_tickets(office.client)} == {t.ticket_number for t in tickets}


# The limit.


async def test_two_processes_worth_of_limiters_let_no_more_through_in_any_second_than_one_may(database: str) -> None:
    rate, moments = 40, []
    zones = ("America/New_York", "Asia/Tokyo")  # as hosts have them
    hosts = [psycopg.conninfo.make_conninfo(database, options=f"-c TimeZone={zone}") for zone in zones]
    limiters = [await SharedLimiter.open(host, rate) for host in hosts]

    async def call(limiter: SharedLimiter) -> None:
        async with limiter:
            moments.append(time.monotonic())

    began = time.monotonic()
    await asyncio.gather(*(call(limiter) for limiter in limiters for _ in range(50)))
    assert most_in_a_second([Arrival(1, "", moment=moment) for moment in moments]) <= rate
    assert 2 * (1 + SLACK) - 0.1 < time.monotonic() - began < 2 * (1 + SLACK) + 2  # and not much fewer
    for limiter in limiters:
        await limiter.forget()
        await limiter.close()


async def test_what_was_let_through_too_long_ago_asks_anew(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = await SharedLimiter.open(database, 10)
    ask, asked = limiter._ask, []

    def held_up() -> bool:
        answer = ask()
        asked.append(answer)
        if len(asked) == 1:
            time.sleep(SLACK)
        return answer

    monkeypatch.setattr(limiter, "_ask", held_up)
    async with limiter:
        assert asked == [True, True]
    await limiter.close()


async def test_a_call_that_the_database_does_not_let_through_is_not_sent(
    database: str, exchange: SimulatedExchange
) -> None:
    limiter = await SharedLimiter.open(database, 10)
    async with Client(exchange.url, OPERATOR, limiter=limiter) as client:
        await client.call("Ping")
        await limiter.close()
        sent = client.stats.sent
        with pytest.raises(CallNotSent, match="the limiter failed: PoolClosed"):
            await client.call("Ping")
        assert (client.stats.sent, client.stats.in_flight) == (sent, 0)


# The commands.


@pytest.fixture
async def fleet(database: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with SimulatedExchange() as exchange:
        yield Fleet(exchange, database, tmp_path, count=40, rate=200)


async def test_the_commands_from_the_list_to_the_last_ticket(fleet: Fleet) -> None:
    assert await fleet.run("status") == (
        0,
        "todo 0   sent 0   done 0   refused 0   unknown 0\n"
        "0 workers at work, 0.0 tickets a second, nothing was submitted\n",
        "",
    )
    assert await fleet.run("submit", fleet.list) == (0, "40 tickets added, 0 were there already\n", "")
    assert await fleet.run("submit", "--failed") == (0, "0 tickets added, 40 were there already\n", "")
    paid = fleet.tickets[0]
    fleet.exchange.set_status(paid.ticket_number, "FullyProcessed")
    async with fleet.working() as worker:
        await fleet.wait_for(39, 30)
        other = await fleet.run("worker", "--rate", "10")
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 10) == 0
    assert other[:2] == (1, "")
    assert other[2].endswith("the fleet works at 200 calls a second, not 10: end the other workers first\n")
    code, out, err = await fleet.run("status")
    assert (code, err) == (1, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0] == "todo 0   sent 0   done 39   refused 1   unknown 0"
    assert lines[1].startswith("0 workers at work, ")
    assert lines[1].endswith(" tickets a second, nothing left to do")
    assert lines[3:5] == ["1 need a person:", "ticket  account  state    status          why"]
    assert lines[5].split(maxsplit=4) == [
        f"{paid.ticket_number}",
        "7",
        "refused",
        "FullyProcessed",
        "it ended as FullyProcessed, not cancelled",
    ]


async def test_the_page_does_what_it_shows(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (DOCS / "how-to" / "fleet.md").read_text(encoding="utf-8")
    monkeypatch.setenv("FLEET_DATABASE", database)
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent / "examples"))
    text, count = re.subn("<!-- not run: .* -->", "", page)
    assert count == 3
    await run_page(text, tmp_path)


async def test_a_worker_that_is_told_to_stop_finishes_what_it_has_in_hand(fleet: Fleet) -> None:
    await fleet.submit()
    with fleet.exchange.faults.delay(0.5, CANCEL):
        async with fleet.working() as worker:
            async with asyncio.timeout(30):
                while sum(arrival.function == CANCEL for arrival in fleet.exchange.journal) < 16:
                    await asyncio.sleep(0.001)
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(worker.wait(), 10) == 0
    async with await psycopg.AsyncConnection.connect(fleet.database) as db:
        states = fleet.states(await rows_of(db))
        doing = await (await db.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'")).fetchall()
    assert states == {"done": 16, "todo": 24}
    assert doing == [(0,)]


async def test_a_worker_whose_login_is_refused_says_so_in_a_sentence_and_touches_no_ticket(fleet: Fleet) -> None:
    await fleet.submit()
    code, out, err = await fleet.run("worker", "--rate", "10", password="a wrong one")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("no session with the exchange: the exchange refused the login")
    assert "Traceback" not in err
    assert fleet.not_cancelled() == [ticket.ticket_number for ticket in fleet.tickets]


async def test_bad_input_is_a_sentence_and_touches_nothing(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "bare.csv").write_text("292\n293\n")
    commands: list[tuple[list[str | Path], str]] = [
        (["submit"], "give a list of tickets, or --failed"),
        (["submit", tmp_path / "none"], f"cannot read {tmp_path / 'none'}: No such file or directory"),
        (["submit", tmp_path], f"cannot read {tmp_path}: Is a directory"),
        (["submit", tmp_path / "bad.csv"], "bad.csv must be CSV whose first line names a column ticket_number"),
        (["submit", tmp_path / "bare.csv"], "ticket 292 of .* must have an account_id and a request_code"),
        (["worker", "--rate", "0"], "Input should be greater than or equal to 1"),
        (["worker", "--rate", "many"], "Input should be a valid integer"),
    ]
    ends = await asyncio.gather(*(fleet.run(*command) for command, _ in commands))
    for (_, words), (code, out, err) in zip(commands, ends, strict=True):
        assert code != 0
        assert out == ""
        assert re.search(words, err), err
        assert "Traceback" not in err
    code, _, err = await fleet.run("worker", "--rate", "10", password="")
    assert (code, err) == (1, "ALPHAPOINT_PASSWORD must be set beside ALPHAPOINT_USER_NAME\n")
    assert (await fleet.run("status"))[1].splitlines()[1].endswith("nothing was submitted")
    assert len(fleet.exchange.journal) == 0


async def test_without_a_database_each_command_says_so_at_once(fleet: Fleet) -> None:
    fleet.database = psycopg.conninfo.make_conninfo(fleet.database, port=1)
    began = time.monotonic()
    commands: list[list[str | Path]] = [["status"], ["submit", fleet.list], ["worker", "--rate", "10"]]
    for code, out, err in await asyncio.gather(*(fleet.run(*command) for command in commands)):
        assert (code, out) == (1, "")
        assert err.startswith("cannot connect to PostgreSQL: ")
        assert "Traceback" not in err
    assert time.monotonic() - began < 10
