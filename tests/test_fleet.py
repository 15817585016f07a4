"""The fleet of examples/fleet on a real PostgreSQL: tickets, lists, the limit, the workers' terms."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import psycopg
import pytest
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from aioalphapoint import CallNotSent, Client, NotAuthorized, NotConnected, ServerError, WithdrawTicket
from aioalphapoint.cli.access import Access
from aioalphapoint.cli.exits import Misuse
from aioalphapoint.testing import Arrival, SimulatedExchange
from chaos.fleet import CANCEL, away, most_in_a_second
from conftest import OPERATOR, SOON
from fleet.__main__ import _run
from fleet.app import QUEUE, _Again, rescue
from fleet.desk import Desk, Later
from fleet.ledger import Counts, Key, Ledger, Listed, Row, State, Terms
from fleet.limiter import SLACK, SharedLimiter
from fleet.submit import checked, failed_tickets, submit
from fleet.worker import Settings, _begin_anew, _do_chores, _keep_working, _until, connected, lasting

LEASE, MARGIN, PATIENCE = 0.2, 0.1, 0.6  # seconds
READ = "GetWithdrawTicket"


@dataclass
class Office:
    """A desk, and all that stands around it."""

    exchange: SimulatedExchange
    database: str
    app: App
    client: Client
    ledger: Ledger
    desk: Desk

    def failed(self) -> WithdrawTicket:
        return self.exchange.add_withdraw(account_id=7, amount="1", status="Failed")

    async def submit(self, *tickets: WithdrawTicket, again: bool = False) -> int:
        return await submit(self.app, self.ledger, checked(tickets, "the list", oms_id=1), again=again)

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
        words = {CANCEL: "C", READ: "R"}
        return "".join(words.get(arrival.function or "", "") for arrival in self.exchange.journal)

    async def jobs(self) -> int:
        return len(list(await self.app.job_manager.list_jobs_async()))

    async def delete_jobs(self) -> None:
        async with self.ledger.transaction() as db:
            await db.execute("DELETE FROM procrastinate_jobs")


@pytest.fixture
async def office(database: str, exchange: SimulatedExchange) -> AsyncIterator[Office]:
    async with (
        connected(database) as (app, ledger),
        Client(exchange.url, OPERATOR, reconnect=SOON, timeout=2) as client,
    ):
        desk = Desk(client, ledger, lease=LEASE, margin=MARGIN, patience=PATIENCE)
        yield Office(exchange, database, app, client, ledger, desk)


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
    lease = 4 * LEASE  # another one than this worker's
    marked = time.monotonic()
    assert await office.ledger.mark_sent(await office.row(ticket), lease=lease) == 1  # by a worker that died then
    with pytest.raises(Later) as later:
        await office.desk.settle(key(ticket))
    assert LEASE + MARGIN < later.value.seconds <= lease + MARGIN
    assert office.arrived() == "R"
    row = await office.settle(ticket)
    assert time.monotonic() - marked > lease + MARGIN
    assert re.fullmatch("RR+CR", office.arrived())
    assert (row.state, row.sends) == (State.DONE, 2)


async def test_what_is_found_as_sent_and_is_cancelled_is_not_sent_again(office: Office) -> None:
    ticket = await office.submitted()
    await office.ledger.mark_sent(await office.row(ticket), lease=LEASE)
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
    assert await office.ledger.mark_sent(before, lease=LEASE) == 1
    assert await office.ledger.mark_sent(before, lease=LEASE) is None  # by one who has read the row before
    assert await office.ledger.mark_sent(await office.row(ticket), lease=LEASE) == 2
    await office.ledger.put(key(ticket), 1, State.REFUSED, why="too late")
    assert (await office.row(ticket)).state == State.SENT
    await office.ledger.put(key(ticket), 2, State.DONE, status="AdminCanceled")
    await office.ledger.put(key(ticket), 2, State.UNKNOWN, why="what has ended stays so")
    row = await office.row(ticket)
    assert (row.state, row.status, row.why) == (State.DONE, "AdminCanceled", None)


async def test_whoever_has_an_older_mark_does_not_end_the_job_that_another_one_is_on(office: Office) -> None:
    ticket = await office.submitted()
    with office.exchange.faults.delay(LEASE / 2, CANCEL):
        slow = asyncio.create_task(office.desk.settle(key(ticket)))
        while office.arrived() != "C":
            await asyncio.sleep(0.001)
        assert await office.ledger.mark_sent(await office.row(ticket), lease=LEASE) == 2
        with pytest.raises(Later):
            await slow
    row = await office.row(ticket)
    assert (row.state, row.mark, row.accepted) == (State.SENT, 2, False)


async def test_a_call_that_waits_for_its_turn_longer_than_the_lease_is_never_sent(office: Office) -> None:
    ticket = await office.submitted()
    turn = asyncio.Lock()
    async with Client(office.exchange.url, OPERATOR, limiter=turn) as client, turn:
        desk = Desk(client, office.ledger, lease=LEASE, margin=MARGIN)
        work = asyncio.create_task(desk.settle(key(ticket)))
        while (await office.row(ticket)).state == State.TODO:
            await asyncio.sleep(0.001)
        done, _ = await asyncio.wait([work], timeout=10 * LEASE)
        assert done
        with pytest.raises(CallNotSent):
            await work
    row = await office.row(ticket)
    assert (row.state, row.sends) == (State.TODO, 0)
    assert office.arrived() == ""
    assert (await office.settle(ticket)).state == State.DONE


async def test_what_is_known_is_written_after_the_database_was_away(office: Office, server: str) -> None:
    ticket = await office.submitted()
    impatient = AsyncConnectionPool(office.database, min_size=1, open=False, timeout=0.1, reconnect_timeout=0.1)
    async with impatient:
        desk = Desk(office.client, Ledger(impatient), lease=5.0)
        with office.exchange.faults.delay(0.1, CANCEL):
            work = asyncio.create_task(desk.settle(key(ticket)))
            while office.arrived() != "C":
                await asyncio.sleep(0.001)
            with away(server, office.database):
                await asyncio.wait([work], timeout=0.7)
        await work
    assert (await office.row(ticket)).state == State.DONE
    assert office.arrived() == "CR"


async def test_a_database_that_is_away_for_longer_than_the_lease_is_an_error_and_the_next_one_reads(
    office: Office, server: str
) -> None:
    ticket = await office.submitted()
    impatient = AsyncConnectionPool(office.database, min_size=1, open=False, timeout=0.1, reconnect_timeout=0.1)
    async with impatient:
        desk = Desk(office.client, Ledger(impatient), lease=LEASE)
        with office.exchange.faults.delay(0.1, CANCEL):
            work = asyncio.create_task(desk.settle(key(ticket)))
            while office.arrived() != "C":
                await asyncio.sleep(0.001)
            with away(server, office.database), pytest.raises(psycopg.OperationalError):
                await work
    assert (await office.row(ticket)).state == State.SENT
    assert (await office.settle(ticket)).state == State.DONE
    assert office.arrived() == "CR"


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
    mark = await office.ledger.mark_sent(row, lease=LEASE)
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
    assert await office.submit(ticket, again=True) == 1  # a person decided: it may be sent five times more
    row = await office.settle(ticket)
    assert (row.state, row.sends) == (State.DONE, 6)
    assert "CC" not in office.arrived()


async def test_an_accepted_cancel_is_not_sent_again_and_a_person_hears_of_it_when_it_does_not_show(
    office: Office,
) -> None:
    ticket, slow = await office.submitted(), await office.submitted()
    with office.exchange.faults.accept_only(CANCEL):
        row = await office.settle(ticket)
        with pytest.raises(Later):
            await office.desk.settle(key(slow))
    assert (row.state, row.sends) == (State.UNKNOWN, 1)
    assert re.fullmatch(r"the cancel was accepted \d s ago, and the ticket is failed still", row.why or "")
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
    senseless = await office.submitted()
    async with office.ledger.transaction() as db:  # as somebody may, past the commands
        await db.execute("UPDATE fleet_tickets SET request_code = 'none' WHERE ticket_number = %s", key(senseless)[1:])
    row = await office.settle(senseless)
    assert row.state == State.UNKNOWN
    assert "request_code must be a uuid.UUID or its text of 36 characters, not 'none'" in (row.why or "")


async def test_a_login_without_the_right_to_read_says_nothing_of_the_ticket(office: Office) -> None:
    ticket = await office.submitted()
    with office.exchange.faults.reject(20, function=READ), pytest.raises(NotAuthorized):
        await office.desk.settle(key(ticket))
    assert (await office.row(ticket)).state == State.SENT
    assert (await office.settle(ticket)).state == State.DONE
    assert office.arrived().count("C") == 1


async def test_a_reading_that_fails_says_nothing_and_one_that_fails_for_long_is_a_persons(office: Office) -> None:
    unread, read = await office.submitted(), await office.submitted()
    with office.exchange.faults.reject(102, function=READ), office.exchange.faults.accept_only(CANCEL):
        for ticket in (unread, read):
            with pytest.raises(ServerError):
                await office.desk.settle(key(ticket))
        row = await office.row(unread)
        assert (row.state, row.accepted) == (State.SENT, True)
        assert row.why == f"the ticket could not be read for 0 s: {READ} was refused: Server Error (102)"
        async with asyncio.timeout(10):
            while (await office.row(unread)).state == State.SENT:
                with suppress(ServerError):
                    await office.desk.settle(key(unread))
                await asyncio.sleep(0.05)
    row = await office.row(unread)
    assert row.state == State.UNKNOWN
    assert re.fullmatch(
        rf"the ticket could not be read for \d s: {READ} was refused: Server Error \(102\)", row.why or ""
    )
    office.exchange.set_status(read.ticket_number, "AdminCanceled")
    assert (await office.settle(read)).state == State.DONE
    assert office.arrived().count("C") == 2
    assert await office.submit(unread, again=True) == 1  # and all patience begins anew
    with office.exchange.faults.reject(102, function=READ), pytest.raises(ServerError):
        await office.desk.settle(key(unread))
    row = await office.settle(unread)
    assert (row.state, row.sends) == (State.DONE, 2)
    assert "CC" not in office.arrived()


async def test_without_a_session_nothing_is_held_against_the_ticket(office: Office) -> None:
    ticket = await office.submitted()
    await office.ledger.mark_sent(await office.row(ticket), lease=LEASE)
    await office.client.close()
    for _ in range(2):
        with pytest.raises(NotConnected):
            await office.desk.settle(key(ticket))
        await asyncio.sleep(PATIENCE)
    row = await office.row(ticket)
    assert (row.state, row.why) == (State.SENT, None)


async def test_a_job_whose_row_is_gone_ends_and_says_so(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    await office.desk.settle(Key(1, 5))
    assert "ticket 1/5 was never submitted; its job ends" in caplog.text
    assert office.arrived() == ""


async def test_a_mistake_of_the_program_is_a_persons_too(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket = await office.submitted()

    async def mistaken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(office.client, "cancel_failed_withdraw_ticket", mistaken)
    await office.desk.settle(key(ticket))
    row = await office.row(ticket)
    assert (row.state, row.why) == (State.UNKNOWN, "internal error: ZeroDivisionError()")


async def test_a_mistake_is_not_written_over_what_another_one_does(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await office.submitted()

    async def mistaken(*_: object, **__: object) -> None:
        await office.ledger.mark_sent(await office.row(ticket), lease=LEASE)
        raise ZeroDivisionError

    monkeypatch.setattr(office.client, "cancel_failed_withdraw_ticket", mistaken)
    with pytest.raises(Later):
        await office.desk.settle(key(ticket))
    row = await office.row(ticket)
    assert (row.state, row.mark, row.why) == (State.SENT, 2, None)


# Handing in.


async def test_a_list_that_is_handed_in_twice_adds_nothing_however_far_it_has_come(office: Office) -> None:
    tickets = [office.failed() for _ in range(5)]
    assert await office.submit(*tickets[:3]) == 3
    assert await office.submit(*tickets, *tickets) == 2
    assert await office.jobs() == 5
    await office.settle(tickets[0])
    await office.ledger.mark_sent(await office.row(tickets[1]), lease=LEASE)
    assert await office.submit(*tickets) == 0
    assert await office.submit(*tickets, again=True) == 0  # none of them waits for a person
    assert await office.jobs() == 5


async def test_two_who_hand_in_the_same_at_once_add_it_once(office: Office) -> None:
    for _ in range(5):
        before = await office.jobs()
        tickets = [office.failed() for _ in range(500)]
        ways = (tickets, tickets[::-1])  # in either order: none may wait for another one that waits for it
        assert sum(await asyncio.gather(*(office.submit(*way) for way in ways * 2))) == 500
        assert await office.jobs() == before + 500


@pytest.mark.parametrize("is_queued", [False, True], ids=["its job has ended", "its job is queued still"])
async def test_handed_in_again_what_waits_for_a_person_is_read_before_it_is_sent(
    office: Office, *, is_queued: bool
) -> None:
    ticket = await office.submitted()
    with office.exchange.faults.reject(101, function=CANCEL):
        assert (await office.settle(ticket)).state == State.REFUSED
    assert await office.submit(ticket) == 0
    if not is_queued:
        await office.delete_jobs()  # as its worker does
    assert await office.submit(ticket, again=True) == 1
    assert await office.jobs() == 1
    assert (await office.row(ticket)).state == State.SENT
    assert not await office.ledger.put(key(ticket), 1, State.REFUSED)  # by whoever did it the last time, late
    assert (await office.settle(ticket)).state == State.DONE
    assert "CC" not in office.arrived()


async def test_handed_in_again_a_ticket_that_lost_its_job_gets_another_one_and_nothing_is_forgotten(
    office: Office,
) -> None:
    fresh, accepted = await office.submitted(), await office.submitted()
    with office.exchange.faults.accept_only(CANCEL), pytest.raises(Later):
        await office.desk.settle(key(accepted))
    await office.delete_jobs()
    queued = await office.submitted()
    before = [await office.row(ticket) for ticket in (fresh, accepted, queued)]
    assert await office.submit(fresh, accepted, queued) == 0
    assert await office.submit(fresh, accepted, queued, again=True) == 2
    assert await office.jobs() == 3
    after = [await office.row(ticket) for ticket in (fresh, accepted, queued)]
    assert [(row.state, row.accepted, row.most_sends) for row in after] == [
        (row.state, row.accepted, row.most_sends) for row in before
    ]
    assert (await office.settle(accepted)).state == State.UNKNOWN
    assert office.arrived().count("C") == 1


async def test_many_who_give_lost_tickets_another_job_at_once_give_each_one(office: Office) -> None:
    tickets = [office.failed() for _ in range(50)]
    await office.submit(*tickets)
    for _ in range(5):
        await office.delete_jobs()
        assert sum(await asyncio.gather(*(office.submit(*tickets, again=True) for _ in range(4)))) == 50
        assert await office.jobs() == 50


async def test_a_job_that_its_worker_queues_again_just_now_is_not_queued_twice(office: Office) -> None:
    ticket = await office.submitted()
    (worker,) = [await office.app.job_manager.register_worker()]
    assert await office.app.job_manager.fetch_job([QUEUE], worker) is not None
    with office.exchange.faults.reject(101, function=CANCEL):
        assert (await office.settle(ticket)).state == State.REFUSED
    async with await psycopg.AsyncConnection.connect(office.database) as db:
        await db.execute("UPDATE procrastinate_jobs SET status = 'todo'")
        handing_in = asyncio.create_task(office.submit(ticket, again=True))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN ({})"
        waits = waits.format("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        while await (await db.execute(waits.encode())).fetchall() == [(0,)]:
            await asyncio.sleep(0.001)
    assert await handing_in == 1
    assert await office.jobs() == 1


async def test_a_ticket_that_was_submitted_otherwise_is_refused_and_with_again_it_is_put_right(office: Office) -> None:
    wrong, ticket, other = office.failed(), office.failed(), office.failed()
    assert await office.submit(ticket.model_copy(update={"request_code": wrong.request_code})) == 1
    for again in (False, True):
        with pytest.raises(Misuse) as refusal:
            await office.submit(other, ticket, again=again)
        assert str(refusal.value) == (
            f"ticket 1/{ticket.ticket_number} was submitted with account_id 7 and request_code {wrong.request_code}: "
            "it must have them again"
        )
        assert await office.jobs() == 1
    assert (await office.settle(ticket)).why == f"its request code is that of ticket {wrong.ticket_number}"
    with pytest.raises(Misuse):
        await office.submit(ticket)
    assert await office.submit(ticket, again=True) == 1
    assert (await office.settle(ticket)).state == State.DONE


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"request_code": "490b4fa3"}, "a request_code, a GUID of 36 characters, not '490b4fa3'"),
        ({"request_code": None}, "a request_code, a GUID of 36 characters, not 'none'"),
        ({"account_id": 0}, "an account_id from 1 to 9223372036854775807, not none"),
        ({"account_id": 2**63}, "an account_id from 1 to 9223372036854775807, not 9223372036854775808"),
        ({"oms_id": 2**31}, "an oms_id from 1 to 2147483647, not 2147483648"),
        ({"ticket_number": 2**63}, "a number from 0 to 9223372036854775807"),
    ],
)
def test_a_ticket_that_could_not_be_worked_on_is_refused(change: dict[str, object], sentence: str) -> None:
    whole = WithdrawTicket(ticket_number=292, account_id=7, request_code="490b4fa3-53fc-44f4-bd29-7e16be86fba3")
    assert checked([whole, whole], "a.csv", oms_id=3) == [Listed(3, 292, 7, whole.request_code or "")]
    with pytest.raises(Misuse) as refusal:
        checked([whole.model_copy(update=change)], "a.csv", oms_id=3)
    number = change.get("ticket_number", 292)
    assert str(refusal.value) == f"ticket {number} of a.csv must have {sentence}"


def test_a_list_with_two_accounts_for_one_ticket_is_refused() -> None:
    whole = WithdrawTicket(ticket_number=292, account_id=7, request_code="490b4fa3-53fc-44f4-bd29-7e16be86fba3")
    with pytest.raises(Misuse, match=r"a\.csv must name ticket 292 with one account_id and one request_code"):
        checked([whole, whole.model_copy(update={"account_id": 8})], "a.csv", oms_id=3)


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
        await limiter.aclose()


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
    await limiter.aclose()


async def test_what_is_too_old_to_count_is_forgotten_by_the_clock_of_the_database_alone(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiter = await SharedLimiter.open(database, 10)
    async with limiter, await psycopg.AsyncConnection.connect(database) as db:
        old = await db.execute(
            "INSERT INTO ratelimit___fleet SELECT 'fleet', 1, now() AT TIME ZONE 'UTC' - interval '1 hour' "
            "FROM generate_series(1, 100)"
        )
        assert old.rowcount == 100
        await db.commit()
        with monkeypatch.context() as patch:
            patch.setattr(limiter._pool, "connection", Mock(side_effect=[PoolTimeout, limiter._pool.connection()]))
            with pytest.raises(PoolTimeout):
                await limiter.forget()
        await limiter.forget()
        assert await (await db.execute("SELECT count(*) FROM ratelimit___fleet")).fetchall() == [(1,)]
    await limiter.aclose()


async def test_a_call_that_the_database_does_not_let_through_is_not_sent(
    database: str, exchange: SimulatedExchange
) -> None:
    limiter = await SharedLimiter.open(database, 10)
    async with Client(exchange.url, OPERATOR, limiter=limiter) as client:
        await client.call("Ping")
        await limiter.aclose()
        sent = client.stats.sent
        with pytest.raises(CallNotSent, match="the limiter failed: PoolClosed"):
            await client.call("Ping")
        assert (client.stats.sent, client.stats.in_flight) == (sent, 0)


# The workers.


async def test_all_workers_work_on_the_terms_of_the_first_one(office: Office) -> None:
    first, second = uuid4(), uuid4()
    slow, fast, other = Terms(10, 3.0), Terms(100, 3.0), Terms(10, 1.0)
    assert await office.ledger.sign(first, slow) == slow
    assert await office.ledger.sign(second, fast) == slow
    assert await office.ledger.sign(second, other) == slow
    assert (await office.ledger.counts()).workers == 1
    assert await office.ledger.sign(second, slow) == slow
    assert (await office.ledger.counts()).workers == 2
    await office.ledger.leave(first)
    await office.ledger.leave(second)
    assert (await office.ledger.counts()).workers == 0
    assert await office.ledger.sign(second, fast) == fast
    assert await office.ledger.sign(first, slow) == fast


async def test_of_workers_that_begin_at_once_only_those_with_one_set_of_terms_may(office: Office) -> None:
    for _ in range(10):
        workers = {uuid4(): Terms(rate, 3.0) for rate in (10, 20, 30) for _ in range(2)}
        answers = await asyncio.gather(*(office.ledger.sign(worker, terms) for worker, terms in workers.items()))
        assert len(set(answers)) == 1
        assert (await office.ledger.counts()).workers == 2
        for worker in workers:
            await office.ledger.leave(worker)


async def test_a_worker_that_gave_no_sign_of_life_for_long_has_no_say_and_has_to_agree_anew(office: Office) -> None:
    dead, living = uuid4(), uuid4()
    quick, fast = Terms(10, 0.01), Terms(100, 3.0)
    await office.ledger.sign(dead, quick)
    await asyncio.sleep(2 * quick.silence)
    assert (await office.ledger.counts()).workers == 0
    assert await office.ledger.sign(living, fast) == fast
    assert await office.ledger.sign(dead, quick) == fast
    assert (await office.ledger.counts()).workers == 1


async def test_only_the_jobs_of_dead_workers_are_queued_again_and_by_one_of_the_others(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = office.app.job_manager
    await office.submitted()
    (alive,) = [await jobs.register_worker()]
    job = await jobs.fetch_job([QUEUE], alive)
    assert job is not None

    async def rescued() -> int:
        async with office.ledger.transaction() as db:
            return await rescue(office.app, db, silence=10.0)

    assert await rescued() == 0
    async with office.ledger.transaction() as db:
        await db.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '11 seconds'")
    async with office.ledger.transaction() as db:
        await db.execute("SELECT pg_advisory_xact_lock(hashtext('fleet rescue'))")  # another one is at it
        assert await rescued() == 0
    assert await rescued() == 1
    assert await rescued() == 0

    async def stalled(**_: object) -> list[Job]:
        return [job]

    await office.delete_jobs()  # as its worker does, if it was only slow
    monkeypatch.setattr(jobs, "get_stalled_jobs", stalled)
    assert await rescued() == 0
    assert await office.jobs() == 0


@pytest.mark.parametrize(
    ("error", "attempts", "least", "most"),
    [
        (Later(7.0), 3, 7.0, 7.0),  # exactly then: before, the ticket would only be read
        (asyncio.CancelledError(), 3, 0.0, 0.0),  # its worker is told to stop: another one can have it
        (ConnectorException(), 0, 0.25, 0.5),
        (ConnectorException(), 3, 2.0, 4.0),
        (ConnectorException(), 10**6, 15.0, 30.0),
    ],
)
def test_a_job_is_tried_again_later_and_later_or_when_it_can_be_and_for_ever(
    error: BaseException, attempts: int, least: float, most: float
) -> None:
    job = Job(id=1, queue=QUEUE, lock=None, queueing_lock=None, task_name="", attempts=attempts)
    before = datetime.now(UTC)
    decision = _Again().get_retry_decision(exception=error, job=job)
    assert decision.retry_at is not None
    assert least - 0.001 <= (decision.retry_at - before).total_seconds() <= most + 1


async def test_of_a_dead_workers_jobs_one_whose_ticket_was_handed_in_again_holds_up_no_other(office: Office) -> None:
    again, other = await office.submitted(), await office.submitted()
    (dead,) = [await office.app.job_manager.register_worker()]
    for _ in range(2):
        assert await office.app.job_manager.fetch_job([QUEUE], dead) is not None
    await office.ledger.put(key(again), 0, State.UNKNOWN)
    assert await office.submit(again, again=True) == 1
    assert await office.jobs() == 3
    await office.app.job_manager.unregister_worker(dead)
    async with office.ledger.transaction() as db:
        assert await rescue(office.app, db, silence=10.0) == 1
    jobs = {job.lock: job.status for job in await office.app.job_manager.list_jobs_async()}
    assert jobs == {key(again).lock: "todo", key(other).lock: "todo"}
    assert await office.jobs() == 2


async def test_the_rate_of_the_first_second_is_no_more_than_what_ended() -> None:
    assert Counts(ended=100, seconds=0.01).rate == 100
    assert Counts(ended=100, seconds=50).rate == 2
    assert Counts().rate == 0


async def test_a_worker_ends_when_it_is_told_to_though_its_cancellation_is_lost_in_what_a_database_says(
    office: Office,
) -> None:
    stop, signed = asyncio.Event(), asyncio.Event()

    async def sign() -> None:
        if signed.is_set():
            await asyncio.sleep(3600)
        signed.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:  # as psycopg does where the connection is lost at that moment
            raise psycopg.OperationalError from None

    async with aclosing(await SharedLimiter.open(office.database, 10)) as limiter, asyncio.timeout(10):
        chores = _do_chores(office.app, office.ledger, limiter, sign, terms=Terms(10, 0.01), stop=stop)
        work = asyncio.create_task(_until(stop, office.client, chores))
        await signed.wait()
        stop.set()
        await work


async def test_chores_that_fail_are_told_and_done_again_but_not_a_database_that_is_away(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    stop = asyncio.Event()
    errors: list[Exception] = [psycopg.errors.UndefinedTable("no such table\nand more"), PoolTimeout("away")]

    async def sign() -> None:
        if not errors:
            stop.set()
        else:
            raise errors.pop()

    async with aclosing(await SharedLimiter.open(office.database, 10)) as limiter, asyncio.timeout(10):
        await _do_chores(office.app, office.ledger, limiter, sign, terms=Terms(10, 0.01), stop=stop)
    assert [message for message in caplog.messages if "chores" in message] == [
        "a worker's chores failed: no such table"
    ]


async def test_a_job_whose_end_could_not_be_written_is_done_again_though_its_worker_lives(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ticket = await office.submitted()
    terms, stop = Terms(100, 0.1), asyncio.Event()
    settings = Settings(
        database=office.database, access=Access(office.exchange.url, OPERATOR), terms=terms, lease=LEASE
    )
    retry, tried = office.app.job_manager.retry_job, asyncio.Event()

    async def retry_job(*arguments: Any, **options: Any) -> None:
        if not tried.is_set():
            tried.set()
            raise ConnectorException from psycopg.OperationalError("the connection is lost\nand more")
        await retry(*arguments, **options)

    async def sign() -> None:
        pass

    monkeypatch.setattr(office.app.job_manager, "retry_job", retry_job)
    async with aclosing(await SharedLimiter.open(office.database, 100)) as limiter, asyncio.timeout(20):
        works = (
            _keep_working(office.app, office.desk, settings=settings, stop=stop),
            _do_chores(office.app, office.ledger, limiter, sign, terms=terms, stop=stop),
        )
        with office.exchange.faults.accept_only(CANCEL):
            work = asyncio.create_task(_until(stop, office.client, *works))
            await tried.wait()
        office.exchange.set_status(ticket.ticket_number, "AdminCanceled")
        while await office.jobs():
            await asyncio.sleep(0.05)
        stop.set()
        await work
    assert (await office.row(ticket)).state == State.DONE
    assert office.arrived().count("C") == 1
    assert "a job's end could not be written: the connection is lost" in caplog.messages


async def test_a_mistake_in_a_job_is_not_taken_for_a_database_that_is_away() -> None:
    loop = Mock(spec=asyncio.AbstractEventLoop)
    run = asyncio.create_task(asyncio.sleep(3600))
    for context in ({"exception": ZeroDivisionError()}, {"message": "a task was destroyed"}):
        _begin_anew(run, loop, context)
        loop.default_exception_handler.assert_called_with(context)
    assert not run.cancelling()
    run.cancel()


def test_a_connection_finds_out_that_its_host_is_gone_unless_its_address_says_when() -> None:
    parts = psycopg.conninfo.conninfo_to_dict(lasting("host=db.internal keepalives_idle=60"))
    assert parts["host"] == "db.internal"
    assert (parts["keepalives_idle"], parts["tcp_user_timeout"]) == ("60", "15000")


async def test_a_worker_that_starts_waits_for_nobody_who_writes(office: Office) -> None:
    await office.submitted()
    async with await psycopg.AsyncConnection.connect(office.database) as db, asyncio.timeout(10):
        await db.execute("UPDATE fleet_tickets SET why = 'somebody looks at it, and has not said COMMIT'")
        async with connected(office.database) as (_, ledger):
            assert (await ledger.counts()).open == 1


def test_a_mistake_of_the_program_ends_it_with_a_status_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    async def mistaken() -> None:
        raise ZeroDivisionError

    with pytest.raises(SystemExit) as end:
        _run(mistaken())
    assert end.value.code == os.EX_SOFTWARE
    assert capsys.readouterr().err.rstrip().endswith("ZeroDivisionError")
