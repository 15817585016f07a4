"""Bulk work: one outcome for each ticket, in order, and never a second cancel in one run."""

import asyncio
import contextlib
import json
import logging
import math
import os
import random
import re
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import pytest
from aiolimiter import AsyncLimiter
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallTimeout,
    Client,
    ConnectionLost,
    InvalidArguments,
    JournalError,
    NotAuthorized,
    NotCancelled,
    NotConfirmed,
    NotConnected,
    OperationFailed,
    OutcomeUnknown,
    ResourceNotFound,
    WithdrawTicket,
)
from aioalphapoint._outcomes import key_of
from aioalphapoint._steps import Entry, Key, Step
from aioalphapoint.bulk import Journal, Outcome, OutcomeState, Ticket, cancel_failed_tickets, cancel_withdraws
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, OPERATOR, SOON
from scripted import reply, scripted
from wire import CODE, TICKET_ROW

COUNT = int(os.environ.get("ALPHAPOINT_CAMPAIGN_TICKETS", "400"))
PATIENCE = 5 if COUNT > 1000 else 2  # seconds: some cancels never arrive, and their tickets are read until then
LOGGED_IN_AS_ALICE = '{"Authenticated":true,"User":{"UserId":1,"AccountId":7,"OMSId":1}}'
CANCELS = ("CancelWithdraw", "CancelFailedWithdrawTicket")


@pytest.fixture
async def alice(exchange: SimulatedExchange) -> AsyncIterator[Client]:
    async with Client(exchange.url, ALICE, reconnect=SOON, timeout=5) as client:
        yield client


@pytest.fixture
def journal(tmp_path: Any) -> Journal:
    return Journal(tmp_path / "journal")


def add(exchange: SimulatedExchange, count: int, status: str = "Pending") -> list[WithdrawTicket]:
    return [exchange.add_withdraw(account_id=7, amount="1", status=status) for _ in range(count)]


def states(outcomes: Sequence[Outcome]) -> list[str]:
    return [str(outcome.state) for outcome in outcomes]


def cancels(exchange: SimulatedExchange) -> Counter[str]:
    """How often each ticket's cancel has arrived, by what names the ticket in it."""
    names = (
        re.search(r'"(?:RequestCode|ticketId)":"?([\w-]+)', arrival.payload or "")
        for arrival in exchange.journal
        if arrival.function in CANCELS
    )
    return Counter(name[1] for name in names if name)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_all_are_cancelled_and_confirmed_in_the_order_given(exchange: SimulatedExchange, alice: Client) -> None:
    tickets = add(exchange, 50)
    random.Random(1).shuffle(tickets)
    told: list[Outcome] = []
    outcomes = await cancel_withdraws(alice, tickets, on_outcome=told.append)
    assert [outcome.ticket for outcome in outcomes] == tickets
    assert set(states(outcomes)) == {"confirmed"}
    assert all(outcome.error is None for outcome in outcomes)
    assert all(outcome.seen is not None and outcome.seen.status == "UserCanceled" for outcome in outcomes)
    assert sorted(told, key=outcomes.index) == outcomes
    assert set(cancels(exchange).values()) == {1}
    assert alice.stats.in_flight == 0


async def test_every_cancel_goes_out_before_any_ticket_is_read(exchange: SimulatedExchange, alice: Client) -> None:
    await cancel_withdraws(alice, add(exchange, 50))
    functions = [arrival.function for arrival in exchange.journal][1:]
    assert functions[:50] == ["CancelWithdraw"] * 50
    assert functions[50:] == ["GetWithdrawTicket"] * 50


async def test_an_operator_clears_failed_tickets_straight_from_the_listing(
    exchange: SimulatedExchange, operator: Client
) -> None:
    add(exchange, 3)
    failed = add(exchange, 30, "Failed")
    listed = (ticket async for ticket in operator.iter_all_withdraw_tickets(page_size=10) if ticket.status.is_failed)
    outcomes = await cancel_failed_tickets(operator, listed)
    assert states(outcomes) == ["confirmed"] * 30
    assert {exchange.ticket(ticket.ticket_number).status for ticket in failed} == {"AdminCanceled"}


async def test_an_operators_run_hears_of_every_account(exchange: SimulatedExchange, operator: Client) -> None:
    tickets = add(exchange, 2, "Failed")
    with exchange.faults.accept_only():
        run = asyncio.create_task(cancel_failed_tickets(operator, tickets))
        await until(lambda: any(arrival.function == "SubscribeAllAccountEvents" for arrival in exchange.journal))
        for ticket in tickets:
            exchange.set_status(ticket.ticket_number, "AdminCanceled")
        assert states(await asyncio.wait_for(run, 5)) == ["confirmed"] * 2


@pytest.mark.parametrize(
    ("cancel_all", "function", "before"),
    [(cancel_withdraws, CANCELS[0], "Pending"), (cancel_failed_tickets, CANCELS[1], "Failed")],
)
async def test_the_system_of_a_ticket_is_named_in_every_call_about_it(
    journal: Journal, cancel_all: Any, function: str, before: str
) -> None:
    async def script(socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            if frame["n"] == "AuthenticateUser":
                await socket.send(reply(request, LOGGED_IN_AS_ALICE))
                continue
            arrived.append((frame["n"], json.loads(frame["o"])))
            row = TICKET_ROW.replace("Pending", before if len(arrived) == 1 else "UserCanceled")
            await socket.send(reply(request, row) if frame["n"] == "GetWithdrawTicket" else reply(request))

    arrived: list[tuple[str, dict[str, Any]]] = []
    ticket = WithdrawTicket(ticket_number=292, account_id=7, request_code=CODE, oms_id=5)
    async with scripted(script) as url, Client(url, ALICE) as client:
        await left_as_sent(journal, function, ticket)
        assert states(await cancel_all(client, [ticket], journal=journal)) == ["confirmed"]
    assert [name for name, _ in arrived] == ["GetWithdrawTicket", function, "GetWithdrawTicket"]
    assert [fields.get("OMSId", fields.get("omsId")) for _, fields in arrived] == [5, 5, 5]


async def test_what_was_seen_once_is_told_though_it_cannot_be_read_again(journal: Journal) -> None:
    async def script(socket: ServerConnection) -> None:
        await socket.send(reply(await socket.recv(), TICKET_ROW))
        await socket.wait_closed()

    ticket = WithdrawTicket(ticket_number=292, account_id=7, request_code=CODE)
    await left_as_sent(journal, CANCELS[1], ticket)
    async with scripted(script) as url, Client(url) as client:
        (outcome,) = await cancel_failed_tickets(client, [ticket], journal=journal, confirm_timeout=0.2)
    assert outcome.state == "unknown"
    assert outcome.seen is not None
    assert outcome.seen.status == "Pending"


@pytest.mark.parametrize("cancel_all", [cancel_withdraws, cancel_failed_tickets])
async def test_a_timeout_bounds_each_cancel(exchange: SimulatedExchange, cancel_all: Any) -> None:
    async with Client(exchange.url, OPERATOR, timeout=60) as operator:
        with exchange.faults.mute():
            run = cancel_all(operator, add(exchange, 1, "Failed"), timeout=0.1, confirm_timeout=0.2)
            (outcome,) = await asyncio.wait_for(run, 5)
    assert isinstance(outcome.error, CallTimeout)
    assert outcome.error.timeout == 0.1


async def test_a_failed_ticket_given_whole_and_by_its_number_is_one(
    exchange: SimulatedExchange, operator: Client, journal: Journal
) -> None:
    """It is the number alone that the call names it by."""
    (ticket,) = add(exchange, 1, "Failed")
    bare = WithdrawTicket(ticket_number=ticket.ticket_number)
    outcomes = await cancel_failed_tickets(operator, [ticket, bare], journal=journal)
    assert [outcome.ticket for outcome in outcomes] == [ticket, bare]
    assert states(outcomes) == ["confirmed"] * 2
    assert states(await cancel_failed_tickets(operator, [bare], journal=journal)) == ["confirmed"]
    assert sum(cancels(exchange).values()) == 1


async def test_an_odd_ticket_costs_no_other_one_anything(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    good = add(exchange, 3)
    odd = [
        WithdrawTicket(ticket_number=1, account_id=7, request_code="\ud800"),
        good[0].model_copy(update={"ticket_number": 2**70, "account_id": 2**70}),
    ]
    outcomes = await cancel_withdraws(alice, [*odd, *good], journal=journal)
    assert states(outcomes) == ["not sent"] * 2 + ["confirmed"] * 3
    assert {type(outcome.error) for outcome in outcomes[:2]} == {InvalidArguments}


async def test_a_slow_limiter_costs_no_ticket_its_reading(exchange: SimulatedExchange) -> None:
    """Ten times as many tickets as the limiter lets through in the time for which each is followed."""
    tickets = add(exchange, 75)
    async with Client(exchange.url, ALICE, limiter=AsyncLimiter(100, 2)) as client:
        outcomes = await cancel_withdraws(client, tickets, confirm_timeout=0.15)
    assert Counter(states(outcomes)) == {"confirmed": 75}


async def test_an_exchange_that_answers_no_reading_at_all_ends_the_run(exchange: SimulatedExchange) -> None:
    tickets = add(exchange, 100)
    async with Client(exchange.url, ALICE) as client:
        with exchange.faults.mute("GetWithdrawTicket"):
            run = cancel_withdraws(client, tickets, confirm_timeout=0.5)
            outcomes = await asyncio.wait_for(run, 5)
        assert client.stats.in_flight == 0
    assert states(outcomes) == ["accepted"] * 100
    assert {type(outcome.error) for outcome in outcomes} == {NotConfirmed}


async def test_rows_of_get_withdraws_will_do(exchange: SimulatedExchange, alice: Client) -> None:
    add(exchange, 3)
    assert states(await cancel_withdraws(alice, await alice.get_withdraws(account_id=7))) == ["confirmed"] * 3


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_no_more_than_asked_for_are_under_way(
    exchange: SimulatedExchange, alice: Client, concurrency: int
) -> None:
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, alice.stats.in_flight)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    with exchange.faults.delay(0.01):
        outcomes = await cancel_withdraws(alice, add(exchange, 20), concurrency=concurrency)
    watcher.cancel()
    assert most == concurrency
    assert states(outcomes) == ["confirmed"] * 20


async def test_each_ticket_has_its_own_truth(exchange: SimulatedExchange, alice: Client) -> None:
    good, submitted, foreign, unheard, nameless = (
        add(exchange, 1)[0],
        add(exchange, 1, "Submitted")[0],
        exchange.add_withdraw(account_id=8, amount="1"),
        WithdrawTicket(ticket_number=7, account_id=7, request_code="0" * 8 + "-0000-0000-0000-" + "0" * 12),
        WithdrawTicket(ticket_number=8, account_id=7),
    )
    outcomes = await cancel_withdraws(alice, [good, submitted, foreign, unheard, nameless])
    assert states(outcomes) == ["confirmed", "refused", "refused", "refused", "not sent"]
    errors = [type(outcome.error) for outcome in outcomes]
    assert errors == [type(None), OperationFailed, NotAuthorized, OperationFailed, InvalidArguments]
    assert "request_code must be" in str(outcomes[4].error)


async def test_a_ticket_given_twice_is_sent_once_and_has_its_outcome_twice(
    exchange: SimulatedExchange, alice: Client
) -> None:
    first, second = add(exchange, 2)
    shouted = first.model_copy(update={"request_code": first.request_code.upper()})
    told: list[Outcome] = []
    outcomes = await cancel_withdraws(alice, [first, second, first, shouted], on_outcome=told.append)
    assert [outcome.ticket for outcome in outcomes] == [first, second, first, shouted]
    assert states(outcomes) == ["confirmed"] * 4
    assert len(told) == 2
    assert set(cancels(exchange).values()) == {1}


async def test_without_confirmation_accepted_is_all_that_is_known(exchange: SimulatedExchange, alice: Client) -> None:
    outcomes = await cancel_withdraws(alice, add(exchange, 3), confirm=False)
    assert [(outcome.state, outcome.error, outcome.seen) for outcome in outcomes] == [("accepted", None, None)] * 3
    assert "GetWithdrawTicket" not in {arrival.function for arrival in exchange.journal}


@pytest.mark.parametrize("confirm", [True, False])
@pytest.mark.parametrize("before", [True, False])
async def test_an_unknown_outcome_is_settled_by_reading_and_never_sent_again(
    exchange: SimulatedExchange, alice: Client, before: bool, confirm: bool
) -> None:
    tickets = add(exchange, 20)
    with exchange.faults.cut(before=before, function="CancelWithdraw"):
        outcomes = await cancel_withdraws(alice, tickets, confirm=confirm, confirm_timeout=0.4)
    arrived = cancels(exchange)
    assert max(arrived.values()) == 1
    for outcome in outcomes:
        assert outcome.seen is not None
        if outcome.state == "confirmed":
            assert exchange.ticket(outcome.ticket.ticket_number).status.is_cancelled
        else:
            assert outcome.state == "unknown"
            assert isinstance(outcome.error, ConnectionLost)
            assert outcome.seen.status == "Pending"
            assert not exchange.ticket(outcome.ticket.ticket_number).status.is_cancelled
    # Those that were under way beside the one that was cut may have come to nothing either way.
    assert ("confirmed" in states(outcomes)) is not before


async def test_an_accepted_cancel_that_comes_to_nothing_is_told_so(exchange: SimulatedExchange, alice: Client) -> None:
    stuck, paid = add(exchange, 2)
    with exchange.faults.accept_only():
        run = asyncio.create_task(cancel_withdraws(alice, [stuck, paid], confirm_timeout=0.5))
        await until(lambda: sum(arrival.function == "GetWithdrawTicket" for arrival in exchange.journal) >= 2)
        exchange.set_status(paid.ticket_number, "FullyProcessed")
        outcomes = await run
    assert states(outcomes) == ["accepted", "accepted"]
    assert isinstance(outcomes[0].error, NotConfirmed)
    assert isinstance(outcomes[1].error, NotCancelled)
    assert outcomes[1].seen is not None
    assert outcomes[1].seen.status == "FullyProcessed"


async def test_an_unknown_one_that_is_paid_out_is_told_so(exchange: SimulatedExchange, alice: Client) -> None:
    (ticket,) = add(exchange, 1)
    with exchange.faults.cut(before=True, function="CancelWithdraw"):
        run = asyncio.create_task(cancel_withdraws(alice, [ticket]))
        await until(lambda: cancels(exchange))
        exchange.set_status(ticket.ticket_number, "FullyProcessed")
        (outcome,) = await run
    assert outcome.state == "unknown"
    assert isinstance(outcome.error, NotCancelled)
    assert outcome.error.ticket.status == "FullyProcessed"


async def test_hundreds_that_take_their_time_are_followed_together(exchange: SimulatedExchange, alice: Client) -> None:
    """Nobody waits in turn: the exchange carries out all cancels at once, a second after the last."""
    tickets = add(exchange, 300)
    with exchange.faults.accept_only():
        run = asyncio.create_task(cancel_withdraws(alice, tickets))
        await until(lambda: any(arrival.function == "SubscribeAccountEvents" for arrival in exchange.journal))
        for ticket in tickets:
            exchange.set_status(ticket.ticket_number, "UserCanceled")
        outcomes = await asyncio.wait_for(run, 10)
    assert set(states(outcomes)) == {"confirmed"}
    assert alice._session.listeners._listeners == []


async def test_an_outage_is_waited_out(exchange: SimulatedExchange) -> None:
    tickets = add(exchange, 20)
    async with Client(exchange.url, ALICE, reconnect=SOON, timeout=0.3) as client:
        with exchange.faults.refuse_dial():
            await exchange.cut_now()
            run = asyncio.create_task(cancel_withdraws(client, tickets))
            await asyncio.wait({run}, timeout=0.5)  # longer than one call waits
        assert states(await run) == ["confirmed"] * 20
    assert set(cancels(exchange).values()) == {1}


async def test_what_could_not_be_sent_is_told_so_and_can_be_run_again(exchange: SimulatedExchange) -> None:
    tickets = add(exchange, 3)
    async with Client(exchange.url, ALICE, reconnect=SOON, timeout=0.05) as client:
        with exchange.faults.refuse_dial():
            await exchange.cut_now()
            outcomes = await cancel_withdraws(client, tickets)
        assert states(outcomes) == ["not sent"] * 3
        assert {type(outcome.error) for outcome in outcomes} == {NotConnected}
        await client.wait_for_state(type(client.state).READY, timeout=5)
        assert states(await cancel_withdraws(client, tickets)) == ["confirmed"] * 3
    outcomes = await asyncio.wait_for(cancel_withdraws(client, tickets), 1)  # closed: no use in trying again
    assert states(outcomes) == ["not sent"] * 3


async def test_a_session_that_is_given_up_ends_the_run_at_once(exchange: SimulatedExchange, alice: Client) -> None:
    tickets = add(exchange, 200)
    with exchange.faults.refuse_login():
        await exchange.cut_now()
        outcomes = await asyncio.wait_for(cancel_withdraws(alice, tickets), 5)
    assert set(states(outcomes)) == {"not sent"}
    assert {type(outcome.error) for outcome in outcomes} == {AuthenticationFailed}
    assert sum(arrival.function == "AuthenticateUser" for arrival in exchange.journal) == 2


async def test_a_crowded_client_is_waited_for(exchange: SimulatedExchange) -> None:
    async with Client(exchange.url, ALICE, max_in_flight=1) as client:
        with exchange.faults.delay(0.1, "Ping"):
            ping = asyncio.create_task(client.ping())
            await until(lambda: client.stats.in_flight)
            assert states(await cancel_withdraws(client, add(exchange, 3), concurrency=1)) == ["confirmed"] * 3
            await ping


@pytest.mark.parametrize("way", ["task", "scope"])
async def test_a_run_that_is_cancelled_tells_what_is_known_so_far(
    exchange: SimulatedExchange, alice: Client, journal: Journal, way: str
) -> None:
    tickets = add(exchange, 40)
    told: list[Outcome] = []

    async def run() -> None:
        await cancel_withdraws(alice, tickets, concurrency=4, journal=journal, on_outcome=told.append)

    with exchange.faults.delay(0.02, "CancelWithdraw"):
        if way == "task":
            task = asyncio.create_task(run())
            await until(lambda: len(cancels(exchange)) >= 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await until(lambda: len(cancels(exchange)) >= 10)
                group.cancel_scope.cancel()
    assert len(told) == len({outcome.ticket.ticket_number for outcome in told})
    arrived = cancels(exchange)
    for outcome in told:
        match outcome.state:
            case OutcomeState.NOT_SENT:
                assert outcome.ticket.request_code not in arrived
            case OutcomeState.UNKNOWN:
                assert isinstance(outcome.error, OutcomeUnknown)
            case _:
                assert outcome.state is OutcomeState.ACCEPTED
                assert exchange.ticket(outcome.ticket.ticket_number).status.is_cancelled
    counts = Counter(states(told))
    assert counts["accepted"] >= 6
    assert counts["unknown"] <= 4
    assert arrived.keys() <= {outcome.ticket.request_code for outcome in told}
    on_disk = {entry.key.ticket.split("/")[-1]: entry.step for entry in journal.entries()}
    for outcome in told:
        if outcome.state == "accepted":
            assert on_disk[outcome.ticket.request_code] == "accepted"
        if outcome.state == "unknown":
            assert on_disk[outcome.ticket.request_code] == "sent"
    await until(lambda: not alice.stats.in_flight)
    outcomes = await cancel_withdraws(alice, tickets, journal=journal)
    assert set(states(outcomes)) == {"confirmed"}
    assert set(cancels(exchange).values()) == {1}


async def test_an_answer_that_came_goes_to_disk_though_the_run_is_cancelled_meanwhile(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    (ticket,) = add(exchange, 1)
    with exchange.faults.delay(0.1, "CancelWithdraw"):
        run = asyncio.create_task(cancel_withdraws(alice, [ticket], journal=journal))
        await until(lambda: cancels(exchange))
        with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the disk is slow
            await until(lambda: not alice.stats.in_flight)  # the answer has come
            for _ in range(5):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait({run}, timeout=0.05)
            other.execute("ROLLBACK")
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [entry.step for entry in journal.entries()] == ["accepted"]


async def test_an_on_outcome_that_fails_costs_no_ticket_its_outcome(
    exchange: SimulatedExchange, alice: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(outcome: Outcome) -> None:
        raise ZeroDivisionError(outcome.ticket.ticket_number)

    with caplog.at_level(logging.ERROR, "aioalphapoint"):
        assert states(await cancel_withdraws(alice, add(exchange, 3), on_outcome=fail)) == ["confirmed"] * 3
    assert [record.message for record in caplog.records] == ["on_outcome failed"] * 3


async def test_a_listing_that_fails_half_way_is_raised_after_what_it_gave_is_done(
    exchange: SimulatedExchange, alice: Client
) -> None:
    tickets = add(exchange, 5)

    async def listing() -> AsyncIterator[Ticket]:
        for ticket in tickets:
            yield ticket
        raise ConnectionLost("while listing")

    told: list[Outcome] = []
    with pytest.raises(ConnectionLost, match="while listing"):
        await cancel_withdraws(alice, listing(), on_outcome=told.append)
    assert states(told) == ["confirmed"] * 5


async def test_bad_arguments_are_named_and_nothing_is_sent(exchange: SimulatedExchange, alice: Client) -> None:
    tickets: list[Any] = [*add(exchange, 1)]
    sent = alice.stats.sent
    for words, options in [
        ("concurrency must be a positive int, not 0", {"concurrency": 0}),
        ("confirm_timeout must be a positive number of seconds, not -1", {"confirm_timeout": -1}),
        ("timeout must be a positive number of seconds, not '1'", {"timeout": "1"}),
        ("journal must be None or a Journal, not a value of type str", {"journal": "a path"}),
        ("on_outcome must be None or a plain function, not 7", {"on_outcome": 7}),
        ("on_outcome must be None or a plain function, not <function until", {"on_outcome": until}),
    ]:
        with pytest.raises(InvalidArguments, match=words):
            await cancel_withdraws(alice, tickets, **options)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(InvalidArguments, match="tickets must be WithdrawTicket values or the like, not 292"):
        await cancel_failed_tickets(alice, [*tickets, 292])  # type: ignore[list-item]  # wrong on purpose
    row = tickets[0].model_copy(update={"account_id": "7"})
    with pytest.raises(InvalidArguments, match="must have its numbers as int"):
        await cancel_withdraws(alice, [*tickets, row])
    assert alice.stats.sent == sent
    assert await cancel_withdraws(alice, []) == []


# With a journal.


async def test_what_is_done_is_not_sent_again(exchange: SimulatedExchange, alice: Client, journal: Journal) -> None:
    tickets = add(exchange, 5)
    assert states(await cancel_withdraws(alice, tickets, journal=journal)) == ["confirmed"] * 5
    sent = alice.stats.sent
    assert states(await cancel_withdraws(alice, tickets, journal=journal)) == ["confirmed"] * 5
    assert alice.stats.sent == sent
    assert set(cancels(exchange).values()) == {1}


async def test_what_was_accepted_is_confirmed_by_a_later_run_and_not_sent_again(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    tickets = add(exchange, 5)
    assert states(await cancel_withdraws(alice, tickets, journal=journal, confirm=False)) == ["accepted"] * 5
    assert states(await cancel_withdraws(alice, tickets, journal=journal, confirm=False)) == ["accepted"] * 5
    assert states(await cancel_withdraws(alice, tickets, journal=journal)) == ["confirmed"] * 5
    assert set(cancels(exchange).values()) == {1}
    assert {entry.step for entry in journal.entries()} == {"confirmed"}


@pytest.mark.parametrize("before", [True, False])
async def test_what_was_never_answered_is_read_first_and_sent_again_only_if_it_is_open(
    exchange: SimulatedExchange, alice: Client, journal: Journal, before: bool
) -> None:
    (ticket,) = add(exchange, 1)
    with (
        exchange.faults.cut(before=before, function="CancelWithdraw"),
        exchange.faults.reject(102, function="GetWithdrawTicket"),
    ):
        outcomes = await cancel_withdraws(alice, [ticket], journal=journal, confirm_timeout=0.2)
    assert states(outcomes) == ["unknown"]
    assert [entry.step for entry in journal.entries()] == ["unknown"]
    exchange.journal.clear()
    assert states(await cancel_withdraws(alice, [ticket], journal=journal)) == ["confirmed"]
    functions = [arrival.function for arrival in exchange.journal]
    again = ["CancelWithdraw", "GetWithdrawTicket"] if before else []
    assert functions == ["GetWithdrawTicket", *again]


@pytest.mark.parametrize("carried_out", [True, False])
async def test_a_refusal_that_may_pass_is_read_and_tried_again_by_the_next_run(
    exchange: SimulatedExchange, alice: Client, journal: Journal, carried_out: bool
) -> None:
    """102: the exchange failed inside, before it or after."""
    (ticket,) = add(exchange, 1)
    with exchange.faults.reject(102, function="CancelWithdraw"):
        run = asyncio.create_task(cancel_withdraws(alice, [ticket], journal=journal, confirm_timeout=0.3))
        if carried_out:
            await until(lambda: cancels(exchange))
            exchange.set_status(ticket.ticket_number, "UserCanceled")
        (outcome,) = await run
    assert outcome.state == ("confirmed" if carried_out else "refused")
    exchange.journal.clear()
    assert states(await cancel_withdraws(alice, [ticket], journal=journal)) == ["confirmed"]
    functions = [arrival.function for arrival in exchange.journal]
    again = [] if carried_out else ["GetWithdrawTicket", "CancelWithdraw", "GetWithdrawTicket"]
    assert functions == again


async def test_what_is_refused_while_it_is_looked_into_is_cancelled_by_the_next_run_when_it_is_pending(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    (ticket,) = add(exchange, 1, "AmlProcessing")
    (first,) = await cancel_withdraws(alice, [ticket], journal=journal)
    assert isinstance(first.error, OperationFailed)
    assert first.state == "refused"
    exchange.set_status(ticket.ticket_number, "Pending")
    exchange.journal.clear()
    assert states(await cancel_withdraws(alice, [ticket], journal=journal)) == ["confirmed"]
    functions = [arrival.function for arrival in exchange.journal]
    assert functions == ["GetWithdrawTicket", "CancelWithdraw", "GetWithdrawTicket"]
    assert exchange.ticket(ticket.ticket_number).status == "UserCanceled"


async def left_as_refused(journal: Journal, function: str, ticket: WithdrawTicket) -> None:
    async with journal.run() as run:
        await run.claim(_key(function, ticket))
        await run.record(Entry(_key(function, ticket), Step.REFUSED, error="OperationFailed", code=101))


@pytest.mark.parametrize(
    ("function", "status", "sends", "state", "error"),
    [
        ("CancelWithdraw", "Pending", 1, "confirmed", type(None)),
        ("CancelWithdraw", "UserCanceled", 0, "confirmed", type(None)),
        ("CancelWithdraw", "FullyProcessed", 0, "refused", NotCancelled),
        ("CancelWithdraw", "Submitted", 1, "refused", OperationFailed),
        ("CancelWithdraw", "SomethingNew", 0, "refused", OperationFailed),
        ("CancelFailedWithdrawTicket", "Failed", 1, "confirmed", type(None)),
        ("CancelFailedWithdrawTicket", "AdminCanceled", 0, "confirmed", type(None)),
        ("CancelFailedWithdrawTicket", "FullyProcessed", 0, "refused", NotCancelled),
        ("CancelFailedWithdrawTicket", "Pending", 0, "refused", OperationFailed),
    ],
)
async def test_what_an_earlier_run_was_refused_is_judged_by_its_ticket(
    exchange: SimulatedExchange,
    alice: Client,
    operator: Client,
    journal: Journal,
    function: str,
    status: str,
    sends: int,
    state: str,
    error: type[AlphaPointError],
) -> None:
    (ticket,) = add(exchange, 1, status)
    await left_as_refused(journal, function, ticket)
    if function == "CancelWithdraw":
        (outcome,) = await cancel_withdraws(alice, [ticket], journal=journal)
    else:
        (outcome,) = await cancel_failed_tickets(operator, [ticket], journal=journal)
    assert (outcome.state, type(outcome.error)) == (state, error)
    assert sum(cancels(exchange).values()) == sends
    assert outcome.seen is not None
    if error is NotCancelled:  # it has ended: once read, that is known
        assert sum(arrival.function == "GetWithdrawTicket" for arrival in exchange.journal) == 1
    (entry,) = journal.entries()
    assert (entry.step, entry.error) == (state, None if outcome.error is None else error.__name__)


@pytest.mark.parametrize("trouble", ["refused", "silent"])
async def test_what_was_refused_and_cannot_be_read_is_told_as_refused_and_not_sent(
    exchange: SimulatedExchange, alice: Client, journal: Journal, trouble: str
) -> None:
    (ticket,) = add(exchange, 1)
    await left_as_refused(journal, "CancelWithdraw", ticket)
    faults, reading = exchange.faults, "GetWithdrawTicket"

    async def listing() -> AsyncIterator[Ticket]:  # of which the journal is not asked beforehand
        yield ticket

    with faults.mute(reading) if trouble == "silent" else faults.reject(102, function=reading):
        (outcome,) = await cancel_withdraws(alice, listing(), journal=journal, timeout=0.1)
    assert (outcome.state, outcome.seen) == ("refused", None)
    assert str(outcome.error) == "CancelWithdraw was refused in another run, or an earlier one (101)"
    assert cancels(exchange) == {}
    assert [(entry.step, entry.code) for entry in journal.entries()] == [("refused", 101)]
    assert states(await cancel_withdraws(alice, [ticket], journal=journal)) == ["confirmed"]


async def test_what_a_run_beside_this_one_was_refused_is_not_sent_again_though_it_has_ended(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    (ticket,) = add(exchange, 1, "Submitted")

    async def listing() -> AsyncIterator[Ticket]:
        # By now this run has begun; the other one begins, asks and ends.
        assert states(await cancel_withdraws(alice, [ticket], journal=journal)) == ["refused"]
        async with journal.run():  # a third one tidies up what the others have left
            pass
        yield ticket

    (outcome,) = await cancel_withdraws(alice, listing(), journal=journal)
    assert str(outcome.error) == "CancelWithdraw was refused in another run, or an earlier one (101)"
    assert sum(cancels(exchange).values()) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_what_can_be_stopped_is_stopped_whatever_was_refused_before(
    exchange: SimulatedExchange, alice: Client, journal: Journal, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Run after run on one journal, while the exchange moves the tickets about."""
    monkeypatch.setattr("aioalphapoint._bulk._GLANCE", 0.2)
    chance = random.Random(seed)
    tickets = add(exchange, 30, "AmlProcessing")
    for is_first in (True, False, False, False):
        for ticket in tickets:
            if not exchange.ticket(ticket.ticket_number).status.is_final:
                status = chance.choice(["AmlProcessing", "Submitted", "Pending", "New", "FullyProcessed"])
                exchange.set_status(ticket.ticket_number, status)
        before = {ticket.request_code: exchange.ticket(ticket.ticket_number).status for ticket in tickets}
        exchange.journal.clear()
        outcomes = await cancel_withdraws(alice, tickets, concurrency=30, journal=journal)
        sent = cancels(exchange)
        assert max(sent.values(), default=1) == 1
        for outcome in outcomes:
            was = before[outcome.ticket.request_code]
            is_stopped = was.is_cancelled or was in ("Pending", "New")
            assert (outcome.state == "confirmed") is is_stopped
            assert exchange.ticket(outcome.ticket.ticket_number).status.is_cancelled is is_stopped
            assert (outcome.ticket.request_code in sent) is (is_first or was.is_open)


@pytest.mark.parametrize("source", ["list", "listing"])
async def test_what_an_earlier_run_may_have_sent_is_never_told_as_not_sent(
    exchange: SimulatedExchange, alice: Client, journal: Journal, source: str
) -> None:
    """A run that is cancelled before it has asked the journal for the right to send the second ticket."""
    first, old = tickets = add(exchange, 2)
    await left_as_sent(journal, "CancelWithdraw", old)

    async def listing() -> AsyncIterator[Ticket]:
        for ticket in tickets:
            yield ticket

    told: list[Outcome] = []
    given = tickets if source == "list" else listing()
    with exchange.faults.mute("CancelWithdraw"):
        run = asyncio.create_task(
            cancel_withdraws(alice, given, concurrency=1, journal=journal, on_outcome=told.append)
        )
        await until(lambda: cancels(exchange))
        run.cancel()
        await asyncio.wait({run})
    assert [(outcome.ticket, str(outcome.state)) for outcome in told] == [(first, "unknown"), (old, "unknown")]
    assert list(cancels(exchange)) == [first.request_code]


async def test_a_journal_that_cannot_be_written_leaves_what_was_sent_before_in_doubt(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    new, old = add(exchange, 2)
    await left_as_sent(journal, "CancelWithdraw", old)
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON ticket BEGIN SELECT RAISE(ABORT, 'full'); END")
    outcomes = await cancel_withdraws(alice, [new, old], journal=journal, confirm_timeout=0.2)
    assert states(outcomes) == ["not sent", "unknown"]
    assert {type(outcome.error) for outcome in outcomes} == {JournalError}
    assert cancels(exchange) == {}


async def test_a_ticket_that_another_run_could_not_send_or_died_with_is_taken_up(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    not_sent, left = add(exchange, 2)
    async with journal.run() as other:
        for ticket in (not_sent, left):
            await other.claim(_key("CancelWithdraw", ticket))
        run = asyncio.create_task(cancel_withdraws(alice, [not_sent, left], journal=journal))
        await asyncio.wait({run}, timeout=0.3)
        assert not run.done()
        await other.record(Entry(_key("CancelWithdraw", not_sent), Step.NOT_SENT))
    assert states(await asyncio.wait_for(run, 5)) == ["confirmed"] * 2
    assert [arrival.function for arrival in exchange.journal].count("GetWithdrawTicket") == 3  # one before, two after


async def left_as_sent(journal: Journal, function: str, ticket: WithdrawTicket) -> None:
    """What a run leaves that died between writing the step down and reading the answer."""
    async with journal.run() as run:
        await run.claim(_key(function, ticket))


def _key(function: str, ticket: WithdrawTicket) -> Key:
    return key_of(function, ticket, 1)


@pytest.mark.parametrize(
    ("status", "sends", "state", "error"),
    [
        ("Failed", 1, "confirmed", type(None)),
        ("AdminCanceled", 0, "confirmed", type(None)),
        ("FullyProcessed", 0, "unknown", NotCancelled),
        ("Pending", 0, "unknown", OutcomeUnknown),
        ("SomethingNew", 0, "unknown", OutcomeUnknown),
    ],
)
async def test_what_a_dead_run_left_is_judged_by_its_ticket(
    exchange: SimulatedExchange,
    operator: Client,
    journal: Journal,
    status: str,
    sends: int,
    state: str,
    error: type[AlphaPointError],
) -> None:
    (ticket,) = add(exchange, 1, status)
    await left_as_sent(journal, "CancelFailedWithdrawTicket", ticket)
    (outcome,) = await cancel_failed_tickets(operator, [ticket], journal=journal, confirm_timeout=0.3)
    assert (outcome.state, type(outcome.error)) == (state, error)
    assert sum(cancels(exchange).values()) == sends
    assert outcome.seen is not None
    assert [entry.step for entry in journal.entries()] == [state]


async def test_a_second_send_that_does_not_leave_is_not_told_as_never_sent(
    exchange: SimulatedExchange, journal: Journal
) -> None:
    """The earlier run's cancel may still take effect."""
    (ticket,) = add(exchange, 1)
    await left_as_sent(journal, "CancelWithdraw", ticket)
    limiter = Shut()
    async with Client(exchange.url, ALICE, limiter=limiter, timeout=0.1) as client:
        limiter.lets = 1  # the reading
        (outcome,) = await cancel_withdraws(client, [ticket], journal=journal, confirm_timeout=0.1)
    assert outcome.state == "unknown"
    assert type(outcome.error) is CallNotSent
    assert cancels(exchange) == {}
    assert [entry.step for entry in journal.entries()] == ["unknown"]


class Shut:
    """A limiter that lets some through, and then nobody."""

    lets = 0

    async def __aenter__(self) -> None:
        self.lets -= 1
        if self.lets < 0:
            await asyncio.Event().wait()

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_refusal_of_what_an_earlier_run_has_cancelled_is_settled_by_the_ticket(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    """The earlier cancel takes effect between the reading and the second send."""
    (ticket,) = add(exchange, 1)
    await left_as_sent(journal, "CancelWithdraw", ticket)
    with exchange.faults.delay(0.1, "GetWithdrawTicket"):
        run = asyncio.create_task(cancel_withdraws(alice, [ticket], journal=journal))
        await until(lambda: any(arrival.function == "GetWithdrawTicket" for arrival in exchange.journal))
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        (outcome,) = await run
    assert (outcome.state, outcome.error) == ("confirmed", None)
    assert sum(cancels(exchange).values()) == 1


async def test_two_runs_at_once_share_the_work_and_both_know_the_end(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    tickets = [*add(exchange, 100), *add(exchange, 10, "Submitted")]
    async with Client(exchange.url, ALICE) as other:
        with exchange.faults.delay(0.01, "CancelWithdraw"):
            runs = (cancel_withdraws(client, tickets, journal=journal) for client in (alice, other))
            both = await asyncio.gather(*runs)
    for outcomes in both:
        assert states(outcomes) == ["confirmed"] * 100 + ["refused"] * 10
    assert set(cancels(exchange).values()) == {1}
    senders = {arrival.connection for arrival in exchange.journal if arrival.function == "CancelWithdraw"}
    assert len(senders) == 2


async def test_what_another_run_has_in_hand_is_only_read(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    """The other one hangs for ever; the ticket tells."""
    cancelled, stuck = add(exchange, 2)
    async with journal.run() as other:
        for ticket in (cancelled, stuck):
            await other.claim(_key("CancelWithdraw", ticket))
        exchange.set_status(cancelled.ticket_number, "UserCanceled")
        outcomes = await cancel_withdraws(alice, [cancelled, stuck], journal=journal, confirm_timeout=0.3)
        assert {entry.step for entry in journal.entries()} == {"sent"}  # what is the other's stays so
    assert states(outcomes) == ["confirmed", "unknown"]
    assert "another run has it in hand" in str(outcomes[1].error)
    assert cancels(exchange) == {}


@pytest.mark.parametrize("most", [1000, 12])
async def test_what_a_dead_run_leaves_is_taken_up_no_more_at_once_than_asked_for(
    exchange: SimulatedExchange, journal: Journal, most: int
) -> None:
    tickets = add(exchange, 100)
    busiest = 0
    async with Client(exchange.url, ALICE, max_in_flight=most) as client:
        with exchange.faults.delay(0.005):
            async with journal.run() as other:
                for ticket in tickets:
                    await other.claim(_key("CancelWithdraw", ticket))
                run = asyncio.create_task(cancel_withdraws(client, tickets, concurrency=4, journal=journal))
                await asyncio.wait({run}, timeout=0.3)
            while not run.done():
                busiest = max(busiest, client.stats.in_flight)
                await asyncio.sleep(0.001)  # a call takes five times as long
    assert Counter(states(run.result())) == {"confirmed": 100}
    assert busiest <= 8  # four cancels and, of those sent already, four readings
    assert set(cancels(exchange).values()) == {1}


async def test_a_client_that_ends_ends_the_waiting_for_another_run(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    tickets = add(exchange, 3)
    async with journal.run() as other:
        for ticket in tickets:
            await other.claim(_key("CancelWithdraw", ticket))
        run = asyncio.create_task(cancel_withdraws(alice, tickets, journal=journal))
        await asyncio.wait({run}, timeout=0.2)
        await alice.close()
        assert states(await asyncio.wait_for(run, 2)) == ["unknown"] * 3


async def test_an_event_does_not_keep_a_run_waiting_through_an_outage(exchange: SimulatedExchange) -> None:
    """Of a ticket that has yet to be read: many wait for the only reader, and then the link goes."""
    tickets = add(exchange, 5)
    async with Client(exchange.url, ALICE, reconnect=SOON, timeout=0.5) as client:
        with exchange.faults.accept_only(), exchange.faults.mute("GetWithdrawTicket"):
            run = asyncio.create_task(cancel_withdraws(client, tickets, concurrency=1, confirm_timeout=1.5))
            await until(lambda: any(arrival.function == "SubscribeAccountEvents" for arrival in exchange.journal))
            await client.ping()
            exchange.set_status(tickets[4].ticket_number, "Accepted")
            await client.ping()
            with exchange.faults.refuse_dial():
                await exchange.cut_now()
                assert states(await asyncio.wait_for(run, 6)) == ["accepted"] * 5


async def test_a_refused_one_does_not_shorten_the_patience_with_the_others(exchange: SimulatedExchange) -> None:
    """The exchange answers no reading for longer than a refused ticket is looked at, and then all."""
    tickets = add(exchange, 10)
    async with Client(exchange.url, ALICE) as client:
        run = asyncio.create_task(cancel_withdraws(client, tickets, concurrency=1))
        with exchange.faults.mute("GetWithdrawTicket"):
            with exchange.faults.reject(102, function="CancelWithdraw"):
                await until(lambda: cancels(exchange))
            await asyncio.sleep(1.5)
        outcomes = await asyncio.wait_for(run, 20)
    counts = Counter(states(outcomes))
    assert 1 <= counts["refused"] < 5
    assert counts["confirmed"] == 10 - counts["refused"]


async def test_a_journal_that_cannot_be_written_leaves_an_earlier_refusal_in_doubt_and_reads_it(
    exchange: SimulatedExchange, alice: Client, journal: Journal
) -> None:
    (ticket,) = add(exchange, 1, "UserCanceled")
    async with journal.run() as run:
        await run.claim(_key("CancelWithdraw", ticket))
        await run.record(Entry(_key("CancelWithdraw", ticket), Step.REFUSED, error="ServerError", code=102))
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON ticket BEGIN SELECT RAISE(ABORT, 'full'); END")
    (outcome,) = await cancel_withdraws(alice, [ticket], journal=journal)
    assert outcome.state == "confirmed"
    assert cancels(exchange) == {}


async def test_the_same_ticket_by_both_functions_is_two_tasks(
    exchange: SimulatedExchange, alice: Client, operator: Client, journal: Journal
) -> None:
    tickets = add(exchange, 1)
    with exchange.faults.accept_only():
        await cancel_withdraws(alice, tickets, journal=journal, confirm=False)
    exchange.set_status(tickets[0].ticket_number, "Failed")
    assert states(await cancel_failed_tickets(operator, tickets, journal=journal)) == ["confirmed"]


# Rate limits.


async def test_a_limiter_bounds_each_of_its_periods_and_holds_up_no_login_and_no_ping(
    exchange: SimulatedExchange,
) -> None:
    """Of aiolimiter, as it is: 50 in half a second, and a burst of 50."""
    tickets = add(exchange, 200)
    limiter = AsyncLimiter(50, 0.5)
    loop, lag = asyncio.get_running_loop(), 0.0

    async def measure_lag() -> None:
        nonlocal lag
        while True:
            due = loop.time() + 0.005
            await asyncio.sleep(0.005)
            lag = max(lag, loop.time() - due)

    lagging = asyncio.create_task(measure_lag())
    async with Client(exchange.url, ALICE, limiter=limiter, ping_interval=0.2, reconnect=SOON, timeout=20) as client:
        run = asyncio.create_task(
            cancel_withdraws(client, tickets, concurrency=100, confirm=False, confirm_timeout=0.5)
        )
        await asyncio.wait({run}, timeout=0.75)
        before = asyncio.get_running_loop().time()
        await exchange.cut_now()
        await client.wait_for_state(type(client.state).RECONNECTING)
        await client.wait_for_state(type(client.state).READY, timeout=1)
        assert asyncio.get_running_loop().time() - before < 0.5
        outcomes = await run
    lagging.cancel()
    assert set(states(outcomes)) <= {"accepted", "confirmed", "unknown"}
    moments = [arrival.moment for arrival in exchange.journal if arrival.function == "CancelWithdraw"]
    unknown = states(outcomes).count("unknown")
    assert unknown <= 50  # the cut took with it what was under way: of 100 a second, no more than half a second's
    assert 200 - unknown <= len(moments) <= 200
    busiest = max(sum(start <= moment < start + 0.5 for moment in moments) for start in moments)
    # A burst, and a period's worth. What was let through in time may arrive late, by what the loop lags.
    assert busiest <= 50 + math.ceil(100 * (0.5 + lag))
    assert moments[-1] - moments[0] > 1.25  # 150 of them beyond the burst, at 100 a second


async def test_pings_go_out_while_calls_wait_for_the_limiter(exchange: SimulatedExchange) -> None:
    limiter = Shut()
    async with Client(exchange.url, ALICE, limiter=limiter, ping_interval=0.1) as client:
        calls = [asyncio.create_task(client.get_withdraws(account_id=7, timeout=0.5)) for _ in range(50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {CallNotSent}
    assert [arrival.function for arrival in exchange.journal].count("Ping") >= 3


# Under fire.


async def fire(exchange: SimulatedExchange, run: asyncio.Task[list[Outcome]], chance: random.Random) -> None:
    """Let one thing go wrong, after so many calls, not seconds: a fast machine is to meet as much as a slow one."""

    async def more_calls(count: int) -> None:
        heard = len(exchange.journal) + count
        while not run.done() and len(exchange.journal) < heard:
            await asyncio.sleep(0.001)

    await more_calls(chance.randrange(32))
    match chance.choice(["cut", "cut", "mute", "cut at a call"]):
        case "cut":
            await exchange.cut_now(chance.choice([None, 1001, 1011]))
        case "mute":
            with exchange.faults.mute():
                await asyncio.sleep(chance.uniform(0, 0.02))
        case _:
            with exchange.faults.cut(before=chance.random() < 0.5):
                await more_calls(1)


async def bulk_under_fire(count: int, seed: int) -> tuple[Counter[str], int]:
    """Cut the session at random, mute some replies, and hold what was told against what the exchange did."""
    chance = random.Random(seed)
    async with SimulatedExchange() as exchange:
        exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        tickets = add(exchange, count, "Failed")
        async with Client(exchange.url, OPERATOR, reconnect=SOON, timeout=1, connect_timeout=1) as client:
            run = asyncio.create_task(cancel_failed_tickets(client, tickets, concurrency=32, confirm_timeout=PATIENCE))
            while not run.done():
                await fire(exchange, run, chance)
            outcomes = run.result()
            assert client.stats.in_flight == 0
            reconnects = client.stats.reconnects
    arrived = cancels(exchange)
    assert [outcome.ticket for outcome in outcomes] == tickets
    assert max(arrived.values()) == 1
    executed = Counter(
        json.loads(arrival.payload or "{}")["ticketId"]
        for arrival in exchange.journal
        if arrival.function == "CancelFailedWithdrawTicket" and arrival.executed
    )
    assert max(executed.values()) == 1
    for outcome in outcomes:
        number = outcome.ticket.ticket_number
        is_cancelled = exchange.ticket(number).status.is_cancelled
        match outcome.state:
            case OutcomeState.CONFIRMED | OutcomeState.ACCEPTED:
                assert is_cancelled
            case OutcomeState.NOT_SENT:
                assert str(number) not in arrived
            case OutcomeState.UNKNOWN:
                assert isinstance(outcome.error, ConnectionLost | CallTimeout)
                if outcome.seen is not None:
                    assert outcome.seen.status.is_cancelled is is_cancelled is False
            case _:
                pytest.fail(f"nothing here is to be refused: {outcome}")
    return Counter(states(outcomes)), reconnects


async def test_a_bulk_run_through_cuts_and_silence_tells_the_truth() -> None:
    counts, reconnects = await bulk_under_fire(COUNT, 1)
    assert counts["confirmed"] > COUNT / 2
    assert reconnects > 3


async def test_a_ticket_that_is_gone_is_the_exchanges_word(
    exchange: SimulatedExchange, operator: Client, journal: Journal
) -> None:
    ticket = WithdrawTicket(ticket_number=7, account_id=7, request_code="0" * 8 + "-0000-0000-0000-" + "0" * 12)
    await left_as_sent(journal, "CancelFailedWithdrawTicket", ticket)
    (outcome,) = await cancel_failed_tickets(operator, [ticket], journal=journal)
    assert outcome.state == "unknown"
    with pytest.raises(ResourceNotFound):
        await operator.get_withdraw_ticket(account_id=7, request_code=ticket.request_code)
