"""Confirmation: the truth about a cancel, with events, without, through a flapping link, and when it is bad news."""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeAlias
from uuid import uuid4

import anyio
import pytest

from aioalphapoint import (
    AuthenticationFailed,
    Client,
    ConnectionLost,
    InvalidArguments,
    InvalidRequest,
    NotAuthorized,
    NotCancelled,
    NotConfirmed,
    NotConnected,
    ResourceNotFound,
    ServerError,
    WithdrawStatus,
    WithdrawTicket,
)
from aioalphapoint.reconcile import confirm_cancelled
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE, OPERATOR, SOON, at_once


@pytest.fixture
async def alice(exchange: SimulatedExchange) -> AsyncIterator[Client]:
    async with Client(exchange.url, ALICE, reconnect=SOON, timeout=5) as client:
        yield client


@pytest.fixture
async def silent() -> AsyncIterator[SimulatedExchange]:
    """An older venue, which sends no events of tickets."""
    async with SimulatedExchange(sends_ticket_events=False) as exchange:
        exchange.add_user(ALICE.user_name, ALICE.password, account_id=7)
        yield exchange


def pending(exchange: SimulatedExchange, status: str = "Pending") -> WithdrawTicket:
    return exchange.add_withdraw(account_id=7, amount="1.10", status=status)


def calls(exchange: SimulatedExchange, function: str) -> int:
    return sum(arrival.function == function for arrival in exchange.journal)


def confirming(client: Client, ticket: WithdrawTicket, **options: Any) -> asyncio.Task[WithdrawTicket]:
    return asyncio.create_task(
        confirm_cancelled(client, account_id=7, request_code=ticket.request_code, **{"timeout": 10} | options)
    )


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def watched(exchange: SimulatedExchange) -> None:
    """Wait until a confirmation has subscribed, and has read the ticket once more after it."""
    await until(lambda: "SubscribeAccountEvents" in [arrival.function for arrival in exchange.journal])
    read = calls(exchange, "GetWithdrawTicket")
    await until(lambda: calls(exchange, "GetWithdrawTicket") > read)


async def test_what_is_cancelled_already_is_confirmed_by_one_reading(
    exchange: SimulatedExchange, alice: Client
) -> None:
    ticket = pending(exchange)
    await alice.cancel_withdraw(account_id=7, request_code=ticket.request_code)
    confirmed = await confirming(alice, ticket)
    assert (confirmed.ticket_number, confirmed.amount) == (ticket.ticket_number, ticket.amount)
    assert confirmed.status is WithdrawStatus.USER_CANCELED
    assert [arrival.function for arrival in exchange.journal][1:] == ["CancelWithdraw", "GetWithdrawTicket"]


async def test_an_event_confirms_without_another_reading(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange)
    with exchange.faults.accept_only():
        await alice.cancel_withdraw(account_id=7, request_code=ticket.request_code)
    task = confirming(alice, ticket)
    await watched(exchange)
    await until(lambda: alice.stats.in_flight == 0)
    read = calls(exchange, "GetWithdrawTicket")
    with exchange.faults.mute("GetWithdrawTicket"):  # readings would tell nothing any more
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        assert (await asyncio.wait_for(task, 1)).status.is_cancelled
    assert calls(exchange, "GetWithdrawTicket") <= read + 1
    assert alice._session.listeners._listeners == []
    await alice.ping()
    assert alice.stats.in_flight == 0


async def test_without_events_growing_pauses_do(silent: SimulatedExchange) -> None:
    ticket = pending(silent)
    async with Client(silent.url, ALICE) as client:
        task = confirming(client, ticket)
        await asyncio.wait({task}, timeout=1.2)  # at 0, 0.1, 0.3, 0.7 s, and once after subscribing
        assert 4 <= calls(silent, "GetWithdrawTicket") <= 6
        silent.set_status(ticket.ticket_number, "AdminCanceled")
        assert (await task).status == "AdminCanceled"
    assert calls(silent, "CancelWithdraw") == 0


async def test_in_time_or_not_at_all(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange)
    started = asyncio.get_running_loop().time()
    task = confirming(alice, ticket, timeout=0.3)
    await watched(exchange)
    exchange.set_status(ticket.ticket_number, "Submitted")
    with pytest.raises(
        NotConfirmed, match=r"ticket 292 was not seen cancelled within 0\.3 s; last seen Submitted$"
    ) as caught:
        await task
    assert asyncio.get_running_loop().time() - started < 1
    assert caught.value.timeout == 0.3
    assert caught.value.ticket is not None
    assert caught.value.ticket.status == "Submitted"
    assert isinstance(caught.value, TimeoutError)
    assert alice.stats.in_flight == 0


async def test_a_status_that_nobody_knows_is_no_end(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange, "SomethingNew")
    with pytest.raises(NotConfirmed, match="last seen SomethingNew"):
        await confirming(alice, ticket, timeout=0.2)


async def test_a_lost_answer_does_not_use_up_the_time(exchange: SimulatedExchange, alice: Client) -> None:
    """The reading is muted; the event is not, and ends the wait at once."""
    ticket = pending(exchange)
    task = confirming(alice, ticket, timeout=10)
    await watched(exchange)
    with exchange.faults.mute("GetWithdrawTicket"):
        read = calls(exchange, "GetWithdrawTicket")
        await until(lambda: calls(exchange, "GetWithdrawTicket") > read)
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        assert (await asyncio.wait_for(task, 1)).status.is_cancelled
    assert alice.stats.in_flight == 0


@pytest.mark.parametrize("before", [True, False])
async def test_after_an_unknown_outcome_it_tells_what_became_of_the_cancel_and_sends_no_other(
    exchange: SimulatedExchange, alice: Client, before: bool
) -> None:
    ticket = pending(exchange)
    with exchange.faults.cut(before=before, function="CancelWithdraw"), pytest.raises(ConnectionLost):
        await alice.cancel_withdraw(account_id=7, request_code=ticket.request_code)
    if before:
        with pytest.raises(NotConfirmed) as caught:
            await confirming(alice, ticket, timeout=0.3)
        assert caught.value.ticket is not None
        assert caught.value.ticket.status.is_open
    else:
        assert (await confirming(alice, ticket)).status.is_cancelled
    assert calls(exchange, "CancelWithdraw") == 1


async def test_it_works_through_an_outage(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange)
    with exchange.faults.refuse_dial():
        await exchange.cut_now()
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        task = confirming(alice, ticket)
        await asyncio.wait({task}, timeout=0.2)
        assert not task.done()
    assert (await asyncio.wait_for(task, 5)).status.is_cancelled


async def test_a_failed_ticket_that_still_is_failed_is_no_end(exchange: SimulatedExchange) -> None:
    ticket = pending(exchange, "Failed")
    async with Client(exchange.url, OPERATOR) as operator:
        with exchange.faults.accept_only():
            await operator.cancel_failed_withdraw_ticket(ticket_id=ticket.ticket_number)
        with pytest.raises(NotConfirmed, match="last seen Failed"):
            await confirming(operator, ticket, timeout=0.2, was_failed=True)
        task = confirming(operator, ticket, was_failed=True)
        await until(lambda: calls(exchange, "SubscribeAllAccountEvents") == 2)
        exchange.set_status(ticket.ticket_number, "AdminCanceled")
        assert (await asyncio.wait_for(task, 1)).status == "AdminCanceled"
        exchange.set_status(ticket.ticket_number, "FullyProcessed")  # resubmitted, and paid
        with pytest.raises(NotCancelled):
            await confirming(operator, ticket, was_failed=True)


async def test_many_at_once_share_a_client(exchange: SimulatedExchange, alice: Client) -> None:
    tickets = [pending(exchange) for _ in range(50)]
    tasks = [confirming(alice, ticket) for ticket in tickets]
    await until(lambda: calls(exchange, "SubscribeAccountEvents") == 50)
    for ticket in tickets:
        exchange.set_status(ticket.ticket_number, "UserCanceled")
    confirmed = await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert [ticket.ticket_number for ticket in confirmed] == [ticket.ticket_number for ticket in tickets]


async def test_the_event_of_another_accounts_withdrawal_with_the_same_code_confirms_nothing(
    exchange: SimulatedExchange,
) -> None:
    code = uuid4()
    for account_id in (7, 8):
        exchange.add_withdraw(account_id=account_id, amount="1", status="Failed", request_code=code)
    async with Client(exchange.url, OPERATOR) as operator:
        task = confirming(operator, exchange.ticket(292), was_failed=True)
        await until(lambda: calls(exchange, "SubscribeAllAccountEvents") == 1)
        exchange.set_status(293, "AdminCanceled")
        await asyncio.wait({task}, timeout=0.3)
        assert not task.done()
        exchange.set_status(292, "AdminCanceled")
        assert (await asyncio.wait_for(task, 1)).account_id == 7


async def test_a_ticket_that_was_seen_cancelled_was_cancelled(exchange: SimulatedExchange, alice: Client) -> None:
    """Whatever is told in the same breath after it."""
    ticket = pending(exchange)
    task = confirming(alice, ticket)
    await watched(exchange)
    exchange.set_status(ticket.ticket_number, "UserCanceled")
    exchange.set_status(ticket.ticket_number, "Pending")
    assert (await asyncio.wait_for(task, 1)).status == "UserCanceled"


async def test_a_limit_that_is_hit_at_the_first_reading_is_no_end(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange)
    with exchange.faults.reject(429, function="GetWithdrawTicket"):
        task = confirming(alice, ticket)
        await until(lambda: calls(exchange, "GetWithdrawTicket") >= 2)
    exchange.set_status(ticket.ticket_number, "UserCanceled")
    assert (await task).status.is_cancelled


async def test_the_system_of_the_ticket_is_named_in_every_call(exchange: SimulatedExchange, alice: Client) -> None:
    with pytest.raises(InvalidRequest, match="Invalid OMSId"):
        await confirm_cancelled(alice, account_id=7, request_code=pending(exchange).request_code, oms_id=2, timeout=0.3)


@pytest.mark.parametrize("error", ["NotCancelled", "NotConfirmed"])
def test_the_errors_can_be_pickled(error: str) -> None:
    ticket = WithdrawTicket(ticket_number=1, account_id=7)
    raised = NotCancelled.of(ticket) if error == "NotCancelled" else NotConfirmed("late", ticket=ticket, timeout=3)
    copy = pickle.loads(pickle.dumps(raised))
    assert (str(copy), copy.ticket) == (str(raised), ticket)
    assert isinstance(copy, type(raised))


# What takes long: each has an exchange and a client of its own, and they wait side by side.


async def refusals_and_ends_are_told_at_once(exchange: SimulatedExchange, alice: Client) -> None:
    async def fails(error: type[Exception], words: str, **options: Any) -> None:
        arguments: dict[str, Any] = {"account_id": 7, "request_code": uuid4(), "timeout": 10} | options
        with pytest.raises(error, match=words):
            await asyncio.wait_for(confirm_cancelled(alice, **arguments), 1)

    sent = alice.stats.sent
    await fails(InvalidArguments, "timeout must be a positive number of seconds, not 0", timeout=0)
    await fails(InvalidArguments, "request_code must be a uuid.UUID", request_code="x")
    await fails(InvalidArguments, "account_id must be an int", account_id="7")
    assert alice.stats.sent == sent
    await fails(ResourceNotFound, "Resource Not Found")
    await fails(NotAuthorized, "Not Authorized", account_id=8)
    ticket = pending(exchange)
    task = confirming(alice, ticket)
    await watched(exchange)
    read = calls(exchange, "GetWithdrawTicket")
    await until(lambda: calls(exchange, "GetWithdrawTicket") >= read + 3)  # the pause is a long one now: 1.6 s
    await alice.close()
    with pytest.raises(NotConnected):
        await asyncio.wait_for(task, 1)
    await fails(NotConnected, "the client is closed")
    with exchange.faults.refuse_login(), pytest.raises(AuthenticationFailed):
        await alice.connect()
    await fails(AuthenticationFailed, "was not sent")


@pytest.mark.parametrize("cancel", ["task", "scope"])
async def test_cancelling_it_leaves_nothing(exchange: SimulatedExchange, alice: Client, cancel: str) -> None:
    ticket = pending(exchange)
    if cancel == "task":
        task = confirming(alice, ticket)
        await watched(exchange)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with anyio.move_on_after(0.2) as scope:
            await confirm_cancelled(alice, account_id=7, request_code=ticket.request_code)
        assert scope.cancelled_caught
    assert alice._session.listeners._listeners == []
    assert alice.stats.in_flight == 0
    assert {task.get_name() for task in asyncio.all_tasks()} & {"aioalphapoint session"}
    await alice.ping()


async def a_ticket_that_could_not_be_read_since_it_was_seen_is_not_told_as_if_it_still_stood_so(
    exchange: SimulatedExchange, alice: Client
) -> None:
    ticket = pending(exchange)
    task = confirming(alice, ticket, timeout=1)
    await watched(exchange)
    with exchange.faults.refuse_dial():
        await exchange.cut_now()
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        words = "last seen Pending, and then not any more: GetWithdrawTicket was not sent: there was no session"
        with pytest.raises(NotConfirmed, match=words) as caught:
            await task
    assert isinstance(caught.value.__cause__, NotConnected)


@pytest.mark.parametrize(("code", "detail"), [(429, "Too Many Requests"), (101, "Too many requests"), (20, None)])
async def test_a_refusal_of_one_reading_is_no_end_once_the_ticket_was_read(
    exchange: SimulatedExchange, alice: Client, code: int, detail: str | None
) -> None:
    ticket = pending(exchange)
    task = confirming(alice, ticket)
    await watched(exchange)
    with exchange.faults.reject(code, detail, "GetWithdrawTicket"):
        read = calls(exchange, "GetWithdrawTicket")
        await until(lambda: calls(exchange, "GetWithdrawTicket") > read)
    exchange.set_status(ticket.ticket_number, "UserCanceled")
    assert (await asyncio.wait_for(task, 1)).status.is_cancelled


async def a_first_reading_that_is_lost_does_not_keep_it_from_listening(
    exchange: SimulatedExchange, alice: Client
) -> None:
    ticket = pending(exchange)
    with exchange.faults.mute("GetWithdrawTicket"):
        task = confirming(alice, ticket)
        await until(lambda: calls(exchange, "SubscribeAccountEvents") == 1)
        await alice.ping()
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        assert (await asyncio.wait_for(task, 1)).status.is_cancelled


async def a_reading_whose_answer_is_lost_is_given_up_after_five_seconds_and_made_again(
    exchange: SimulatedExchange, _alice: Client
) -> None:
    async with Client(exchange.url, ALICE, timeout=60) as client:
        ticket = pending(exchange)
        with exchange.faults.reject(20, function="SubscribeAccountEvents"):
            task = confirming(client, ticket, timeout=30)
            await until(lambda: calls(exchange, "SubscribeAccountEvents") == 1)
            read = calls(exchange, "GetWithdrawTicket")
            with exchange.faults.mute("GetWithdrawTicket"):
                await until(lambda: calls(exchange, "GetWithdrawTicket") == read + 1)
                exchange.set_status(ticket.ticket_number, "UserCanceled")
            assert (await asyncio.wait_for(task, 7)).status.is_cancelled


@pytest.mark.parametrize("trouble", ["cut", "102"])
async def test_a_subscription_that_failed_by_chance_is_made_later(
    exchange: SimulatedExchange, alice: Client, trouble: str
) -> None:
    ticket = pending(exchange)
    function = "SubscribeAccountEvents"
    fault = exchange.faults.cut(function=function) if trouble == "cut" else exchange.faults.reject(102, None, function)
    with fault:
        task = confirming(alice, ticket)
        await until(lambda: calls(exchange, function) >= 1)
    await until(lambda: calls(exchange, function) >= 2)
    await until(lambda: alice.stats.in_flight == 0)
    with exchange.faults.mute("GetWithdrawTicket"):
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        assert (await asyncio.wait_for(task, 1)).status.is_cancelled


async def an_older_answer_does_not_overwrite_what_an_event_told(exchange: SimulatedExchange, alice: Client) -> None:
    """The reading was carried out before the event, and its answer is late."""
    ticket = pending(exchange)
    exchange.set_status(ticket.ticket_number, "Accepted")  # so that it has a time of its last change
    task = confirming(alice, ticket, timeout=0.9)
    await watched(exchange)
    read = calls(exchange, "GetWithdrawTicket")
    with exchange.faults.delay(0.1, "GetWithdrawTicket"):
        await until(lambda: calls(exchange, "GetWithdrawTicket") > read)
        exchange.set_status(ticket.ticket_number, "Confirmed")  # on the blockchain
        with exchange.faults.mute("GetWithdrawTicket"), pytest.raises(NotConfirmed, match="last seen Confirmed"):
            await task


async def an_event_that_is_lost_in_a_reconnect_is_made_up_for(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange)
    task = confirming(alice, ticket, timeout=10)
    await watched(exchange)
    await until(lambda: calls(exchange, "GetWithdrawTicket") >= 4)  # by now the pauses are long
    await exchange.cut_now()
    exchange.set_status(ticket.ticket_number, "UserCanceled")  # nobody is told
    assert (await asyncio.wait_for(task, 1)).status.is_cancelled
    assert calls(exchange, "SubscribeAccountEvents") == 2


@pytest.mark.parametrize("status", ["FullyProcessed", "ManuallyConfirmed", "Rejected", "Failed", "AmlFailed"])
@pytest.mark.parametrize("by_event", [True, False])
async def test_a_ticket_that_ends_otherwise_meanwhile_is_an_error_that_carries_it(
    exchange: SimulatedExchange, alice: Client, status: str, by_event: bool
) -> None:
    ticket = pending(exchange)
    if by_event:
        task = confirming(alice, ticket)
        await watched(exchange)
        exchange.set_status(ticket.ticket_number, status)
    else:
        exchange.set_status(ticket.ticket_number, status)
        task = confirming(alice, ticket)
    with pytest.raises(NotCancelled, match=f"ticket 292 ended as {status}, not cancelled") as caught:
        await task
    assert (caught.value.ticket.ticket_number, caught.value.ticket.status) == (292, status)
    assert alice._session.listeners._listeners == []


async def an_exchange_that_refuses_subscriptions_is_read(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange)
    with exchange.faults.reject(106, function="SubscribeAccountEvents"):
        task = confirming(alice, ticket)
        await until(lambda: calls(exchange, "GetWithdrawTicket") == 3)
        exchange.set_status(ticket.ticket_number, "UserCanceled")
        assert (await task).status.is_cancelled
    assert calls(exchange, "SubscribeAccountEvents") == 1


async def a_ticket_that_could_not_be_read_says_why(exchange: SimulatedExchange, alice: Client) -> None:
    ticket = pending(exchange)
    with exchange.faults.mute(), pytest.raises(NotConfirmed, match=r"could not be read within 0\.3 s") as caught:
        await confirming(alice, ticket, timeout=0.3)
    assert caught.value.ticket is None
    with (
        exchange.faults.reject(102),
        pytest.raises(NotConfirmed, match=r"read within 0\.3 s: .*Server Error \(102\)") as caught,
    ):
        await confirming(alice, ticket, timeout=0.3)
    assert isinstance(caught.value.__cause__, ServerError)
    await alice.ping()
    assert alice.stats.in_flight == 0


Story: TypeAlias = Callable[[SimulatedExchange, Client], Coroutine[None, None, None]]
LONG: list[Story] = [
    refusals_and_ends_are_told_at_once,
    a_ticket_that_could_not_be_read_since_it_was_seen_is_not_told_as_if_it_still_stood_so,
    a_first_reading_that_is_lost_does_not_keep_it_from_listening,
    a_reading_whose_answer_is_lost_is_given_up_after_five_seconds_and_made_again,
    an_older_answer_does_not_overwrite_what_an_event_told,
    an_event_that_is_lost_in_a_reconnect_is_made_up_for,
    an_exchange_that_refuses_subscriptions_is_read,
    a_ticket_that_could_not_be_read_says_why,
]


async def tell(story: Story) -> None:
    async with SimulatedExchange() as exchange:
        exchange.add_user(ALICE.user_name, ALICE.password, account_id=7)
        async with Client(exchange.url, ALICE, reconnect=SOON, timeout=5) as alice:
            await story(exchange, alice)


@pytest.fixture(scope="module")
def told() -> dict[Story, Future[None]]:
    return at_once(tell, LONG)


@pytest.mark.parametrize("story", LONG, ids=lambda story: story.__name__)
def test_what_takes_long(story: Story, told: dict[Story, Future[None]]) -> None:
    told[story].result()
