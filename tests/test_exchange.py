"""The simulated exchange, asked through a raw WebSocket in frames written by hand, never by the library's codec."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect

from aioalphapoint import WithdrawStatus, WithdrawTicket
from aioalphapoint.testing import Arrival, SimulatedExchange, User
from aioalphapoint.testing.exchange import Exchange
from aioalphapoint.testing.rows import ticket_row, ticks
from aioalphapoint.testing.users import Visitor
from wire import (
    CANCEL,
    CANCEL_FAILED,
    CODE,
    DENIED,
    FAILED,
    GET_ALL_TICKETS,
    GET_TICKET,
    GET_TICKETS,
    GET_WITHDRAWS,
    GOOD,
    INCOMPLETE,
    LOG_OUT,
    LOGGED_IN,
    LOGGED_OUT,
    LOGIN,
    NO_RESOURCE,
    NOT_FOUND,
    OPERATOR,
    OTHER_CODE,
    PENDING,
    PING,
    PONG,
    READS,
    SUBSCRIBE,
    SUBSCRIBE_ALL,
    SUBSCRIBED,
    TICKET,
    TICKET_ROW,
    TWICE,
    WITHDRAW_ROW,
    WRONG_OMS,
    add,
    add_many,
    ask,
    dialled,
    hear,
    hide_tokens,
    numbers_in,
    payload_of,
    reply,
    swap,
)


@pytest.mark.parametrize("frame", [CANCEL, CANCEL_FAILED, *READS, GET_ALL_TICKETS, LOG_OUT, SUBSCRIBE, SUBSCRIBE_ALL])
@pytest.mark.usefixtures("alice", "admin")  # logged in, on connections of their own
async def test_a_call_before_login_finds_no_endpoint(exchange: SimulatedExchange, guest: Socket, frame: str) -> None:
    before, head = add(exchange), frame.partition(',"o":')[0]
    assert await ask(guest, frame) == swap(head, '"m":0', '"m":5') + ',"o":"Endpoint Not Found"}'
    assert exchange.ticket(TICKET) == before


async def test_an_unknown_function_finds_no_endpoint(alice: Socket) -> None:
    assert await ask(alice, swap(PING, "Ping", "Nothing")) == '{"m":5,"i":8,"n":"Nothing","o":"Endpoint Not Found"}'


@pytest.mark.parametrize("number", [0, 1, 2, 7, -3, 2**63 - 1])
async def test_a_ping_without_login_is_answered_under_whatever_number(guest: Socket, number: int) -> None:
    assert await ask(guest, swap(PING, "8", str(number))) == swap(PONG, "8", str(number))


@pytest.mark.parametrize("garbage", ["", "hello", "[]", PING[:-1], swap(PING, ',"o":"{}"', ""), b"\xff", PING.encode()])
async def test_what_is_no_frame_gets_no_answer_and_the_socket_stays_open(
    exchange: SimulatedExchange, guest: Socket, garbage: str | bytes
) -> None:
    async with asyncio.timeout(5):
        await guest.send(garbage)
    assert await ask(guest, PING) == PONG
    assert [(arrival.sequence, arrival.answer) for arrival in exchange.journal] == [(None, None), (8, PONG)]


@pytest.mark.parametrize(
    ("login", "frame", "status", "after"),
    [
        *[(LOGIN, CANCEL, status, "UserCanceled") for status in PENDING],
        (LOGIN, swap(CANCEL, CODE, CODE.upper()), "Pending", "UserCanceled"),
        *[(OPERATOR, swap(CANCEL, r"UserId\":1", rf"UserId\":{user}"), "Pending", "AdminCanceled") for user in (1, 2)],
        (OPERATOR, CANCEL_FAILED, "Failed", "AdminCanceled"),
    ],
)
async def test_a_cancel_is_accepted_once_and_seen_on_the_ticket(
    exchange: SimulatedExchange, login: str, frame: str, status: str, after: str
) -> None:
    add(exchange, status)
    async with dialled(exchange, login) as socket:
        assert await ask(socket, frame) == reply(json.loads(frame)["n"], GOOD)
        changed = exchange.ticket(TICKET)
        assert changed.status == after
        assert rf"\"{changed.updated_by_user_name}\"" in login
        assert await ask(socket, frame) == reply(json.loads(frame)["n"], FAILED + rf"is {after}\"}}")
    assert exchange.ticket(TICKET) == changed


@pytest.mark.parametrize(
    ("login", "frame", "status"),
    [
        *[(LOGIN, CANCEL, status) for status in WithdrawStatus if status not in PENDING],
        *[(OPERATOR, CANCEL_FAILED, status) for status in WithdrawStatus if status != "Failed"],
    ],
)
async def test_a_status_out_of_place_refuses_the_cancel_and_stays(
    exchange: SimulatedExchange, login: str, frame: str, status: WithdrawStatus
) -> None:
    before = add(exchange, status)
    async with dialled(exchange, login) as socket:
        assert await ask(socket, frame) == reply(json.loads(frame)["n"], FAILED + rf"is {status}\"}}")
    assert exchange.ticket(TICKET) == before


@pytest.mark.parametrize(
    ("login", "frame", "edit", "answer"),
    [
        *[(login, CANCEL, (CODE, OTHER_CODE), NOT_FOUND) for login in (LOGIN, OPERATOR)],  # it is of another account
        *[(LOGIN, frame, (r"OMSId\":1", r"OMSId\":2"), WRONG_OMS) for frame in (CANCEL, *READS, SUBSCRIBE)],
        *[(LOGIN, frame, (":7", ":8"), DENIED) for frame in (CANCEL, *READS, SUBSCRIBE)],  # somebody else's account
        (LOGIN, CANCEL, (r"UserId\":1", r"UserId\":2"), DENIED),
        (LOGIN.replace("alice", "trader"), CANCEL, (r"UserId\":1", r"UserId\":3"), DENIED),
        *[(LOGIN, CANCEL, (key, "Other"), INCOMPLETE) for key in ("OMSId", "UserId", "AccountId", "RequestCode")],
        *[(LOGIN, CANCEL, (":7", wrong), INCOMPLETE) for wrong in (":7.0", r":\"7\"", ":true", ":null")],
        (LOGIN, CANCEL, (rf"\"{CODE}\"", "7"), INCOMPLETE),
        *[
            (LOGIN, frame, ("", ""), DENIED) for frame in (CANCEL_FAILED, GET_ALL_TICKETS, SUBSCRIBE_ALL)
        ],  # operators only
        (OPERATOR, GET_ALL_TICKETS, (r"OMSId\":1", r"OMSId\":2"), WRONG_OMS),
        *[(OPERATOR, GET_ALL_TICKETS, (key, "Other"), INCOMPLETE) for key in ("OMSId", "OperatorId")],
        (OPERATOR, GET_ALL_TICKETS, (r"OperatorId\":1", r"OperatorId\":\"1\""), INCOMPLETE),
        *[
            (OPERATOR, GET_ALL_TICKETS, (r"Id\":1}", rf"Id\":1,\"{key}\":null}}"), INCOMPLETE)
            for key in ("StartIndex", "Limit")
        ],
        (OPERATOR, CANCEL_FAILED, ("292", "299"), FAILED + r"not found for OmsId, TicketId\"}"),
        (OPERATOR, CANCEL_FAILED, (":1,", ":2,"), WRONG_OMS),
        *[(OPERATOR, CANCEL_FAILED, (key, "Other"), INCOMPLETE) for key in ("omsId", "ticketId")],
        (OPERATOR, CANCEL_FAILED, ("292", r"\"292\""), INCOMPLETE),
        (LOGIN, GET_TICKETS, (":7", r":7,\"Limit\":\"2\""), INCOMPLETE),
        (LOGIN, GET_TICKET, (CODE, OTHER_CODE), NO_RESOURCE),
    ],
)
async def test_a_refused_call_says_why_and_changes_nothing(
    exchange: SimulatedExchange, login: str, frame: str, edit: tuple[str, str], answer: str
) -> None:
    exchange.add_user("trader", "a password of trader", account_id=7, permissions=["Trading"])
    before = [add(exchange, "Failed", OTHER_CODE, 8), add(exchange), add(exchange, account_id=8)]
    async with dialled(exchange, login) as socket:
        assert await ask(socket, swap(frame, *edit)) == reply(json.loads(frame)["n"], answer)
        assert await ask(socket, PING) == PONG
    assert [exchange.ticket(TICKET + n) for n in range(3)] == before


def test_rows_are_written_byte_for_byte_as_gateways_do() -> None:
    rules, now = Exchange(new_token=str), datetime(2023, 3, 23, 12, 48, 31, 67000, UTC)
    visitor = Visitor(User(1, "alice", "secret", frozenset({7}), frozenset({"Withdraw", "Trading"})))
    rules.add(WithdrawTicket.model_validate(json.loads(TICKET_ROW, parse_float=Decimal)))
    payload = '{"OMSId":1,"UserId":1,"AccountId":7,"RequestCode":"490b4fa3-53fc-44f4-bd29-7e16be86fba3"}'
    assert rules.answer(visitor, "GetWithdrawTicket", payload, now).payload == TICKET_ROW
    assert rules.answer(visitor, "GetWithdrawTickets", payload, now).payload == f"[{TICKET_ROW}]"
    assert rules.answer(visitor, "GetWithdraws", payload, now).payload == f"[{WITHDRAW_ROW}]"
    assert rules.answer(visitor, "CancelWithdraw", payload, now).changed == rules.tickets[TICKET]
    row = swap(swap(TICKET_ROW, "0001-01-01T00:00:00", "2023-03-23T12:48:31.067Z"), "Pending", "UserCanceled")
    row = swap(swap(row, 'UpdateTimestampTick":0', 'UpdateTimestampTick":638151725110670000'), ':8,"', ':1,"')
    assert rules.answer(visitor, "GetWithdrawTicket", payload, now).payload == swap(row, '"w"', '"alice"')


@pytest.mark.parametrize("amount", ["0.0010000000000000000000000000", "123456789012345678.9012345678", "1.10"])
async def test_a_withdrawal_is_read_in_the_documented_shapes_and_with_every_digit(
    exchange: SimulatedExchange, alice: Socket, amount: str
) -> None:
    assert await ask(alice, GET_WITHDRAWS) == reply("GetWithdraws", "[]")
    exchange.add_withdraw(account_id=7, amount=amount, request_code=UUID(CODE))
    replies = [await ask(alice, frame) for frame in READS]
    assert all(rf"\"Amount\":{amount}," in frame for frame in replies)
    [withdraw], [ticket], same_ticket = (payload_of(frame) for frame in replies)
    assert ticket == same_ticket
    assert (list(ticket), list(withdraw)) == (list(json.loads(TICKET_ROW)), list(json.loads(WITHDRAW_ROW)))
    assert (ticket["Status"], ticket["RequestCode"], ticket["TicketNumber"]) == ("Pending", CODE, TICKET)
    assert (withdraw["TicketStatus"], withdraw["WithdrawCode"], withdraw["TicketNumber"]) == ("Pending", CODE, TICKET)
    assert (ticket["LastUpdateTimestamp"], ticket["LastUpdateTimestampTick"]) == ("0001-01-01T00:00:00", 0)


PAGES = [
    ("", slice(200)),
    (r",\"Limit\":3", slice(3)),
    (r",\"Limit\":0", slice(0)),
    (r",\"StartIndex\":1,\"Limit\":2", slice(1, 3)),
    (r",\"StartIndex\":201,\"Limit\":2", slice(201, 203)),
    (r",\"StartIndex\":202,\"Limit\":2", slice(0)),
    (rf",\"StartIndex\":{10**30},\"Limit\":{10**30}", slice(0)),
]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_tickets_come_in_pages_from_the_end_that_was_asked_for(newest_first: bool) -> None:
    async with SimulatedExchange(newest_first=newest_first) as exchange:
        exchange.add_user("alice", "a password of alice", account_id=7)
        exchange.add_user("operator", "a password of the operator", permissions=["Operator"])
        mine = [*add_many(exchange, 1), *add_many(exchange, 1, 8)][:1] + add_many(exchange, 201)
        everybodys = [mine[0], TICKET + 1, *mine[1:]]
        if newest_first:
            mine, everybodys = mine[::-1], everybodys[::-1]
        async with dialled(exchange, LOGIN) as socket:
            assert numbers_in(await ask(socket, GET_WITHDRAWS)) == mine
            for paging, part in PAGES:
                assert numbers_in(await ask(socket, swap(GET_TICKETS, ":7", f":7{paging}"))) == mine[part]
        async with dialled(exchange, OPERATOR) as socket:
            for paging, part in PAGES[:-2]:
                frame = swap(GET_ALL_TICKETS, r"OperatorId\":1", rf"OperatorId\":1{paging}")
                assert numbers_in(await ask(socket, frame)) == everybodys[part]


async def test_an_operator_reads_the_tickets_of_every_account_as_their_owners_do(
    exchange: SimulatedExchange, alice: Socket, admin: Socket
) -> None:
    add(exchange, "Failed")
    add(exchange, account_id=8)
    rows = payload_of(await ask(admin, GET_ALL_TICKETS))
    assert [(row["AccountId"], row["Status"]) for row in rows] == [(7, "Failed"), (8, "Pending")]
    assert rows[:1] == payload_of(await ask(alice, GET_TICKETS))
    for comments in ("true", "false"):
        frame = swap(GET_ALL_TICKETS, r"OperatorId\":1", rf"OperatorId\":1,\"IncludeComments\":{comments}")
        assert payload_of(await ask(admin, frame)) == rows
    other_operator = swap(GET_ALL_TICKETS, r"OperatorId\":1", r"OperatorId\":2")
    assert await ask(admin, other_operator) == reply("GetAllWithdrawTickets", "[]")


async def test_only_the_rows_of_the_page_are_written(
    exchange: SimulatedExchange, alice: Socket, admin: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_many(exchange, 10)
    written = []

    def counted(ticket: WithdrawTicket) -> dict[str, object]:
        written.append(ticket.ticket_number)
        return ticket_row(ticket)

    monkeypatch.setattr("aioalphapoint.testing.exchange.ticket_row", counted)
    for socket, frame, last in ((alice, GET_TICKETS, ":7"), (admin, GET_ALL_TICKETS, r"OperatorId\":1")):
        listed = numbers_in(await ask(socket, swap(frame, last, rf"{last},\"StartIndex\":3,\"Limit\":2")))
        assert written == listed == [TICKET + 3, TICKET + 4]
        written.clear()


class Unwalked(dict[Any, Any]):
    """A dictionary that nobody may walk over; its last key may be asked for."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("walked over")

    items = keys = values = __iter__  # type: ignore[assignment]  # they fail before they could give a view


def test_adding_and_finding_a_ticket_walk_over_no_others() -> None:
    exchange = SimulatedExchange()
    rules, add_one = exchange._rules, partial(exchange.add_withdraw, account_id=7, amount="1")
    add_many(exchange, 1000)
    rules.tickets, rules._numbers[7] = Unwalked(rules.tickets), Unwalked(rules._numbers[7])
    ticket = add_one()
    assert ticket.ticket_number == TICKET + 1000
    with pytest.raises(ValueError, match="already"):
        add_one(request_code=UUID(ticket.request_code))
    visitor = Visitor(User(1, "alice", "secret", frozenset({7}), frozenset({"Withdraw", "Trading"})))
    payload = json.dumps({"OMSId": 1, "UserId": 1, "AccountId": 7, "RequestCode": ticket.request_code})
    for function in ("GetWithdrawTicket", "CancelWithdraw"):
        assert rules.answer(visitor, function, payload, datetime.now(UTC)).executed
    assert exchange.ticket(ticket.ticket_number).status == "UserCanceled"
    assert exchange.set_status(ticket.ticket_number, "Pending").status == "Pending"
    with pytest.raises(AssertionError, match="walked over"):
        rules.answer(visitor, "GetWithdraws", payload, datetime.now(UTC))  # which shows that a walk is noticed


async def test_a_request_code_is_found_in_its_own_account(exchange: SimulatedExchange, alice: Socket) -> None:
    theirs, mine = add(exchange, account_id=8), add(exchange)
    assert payload_of(await ask(alice, GET_TICKET))["TicketNumber"] == mine.ticket_number
    assert await ask(alice, CANCEL) == reply("CancelWithdraw", GOOD)
    assert exchange.ticket(mine.ticket_number).status == "UserCanceled"
    assert exchange.ticket(theirs.ticket_number) == theirs


async def test_a_request_code_is_not_added_twice_to_an_account(exchange: SimulatedExchange, alice: Socket) -> None:
    before = add(exchange)
    with pytest.raises(ValueError, match="already"):
        add(exchange, "Failed")
    assert exchange.ticket(TICKET) == before
    assert numbers_in(await ask(alice, GET_TICKETS)) == [TICKET]
    assert add(exchange, code=OTHER_CODE).ticket_number == TICKET + 1, "what was refused took no number"


async def test_an_event_precedes_the_reply_and_collides_with_it(exchange: SimulatedExchange, alice: Socket) -> None:
    assert await ask(alice, SUBSCRIBE) == reply("SubscribeAccountEvents", SUBSCRIBED)
    for number, code in ((2, CODE), (4, OTHER_CODE)):
        add(exchange, code=code)
        event = await ask(alice, swap(swap(CANCEL, '"i":2', f'"i":{number}'), CODE, code))
        assert event.startswith(f'{{"m":3,"i":{number},"n":"WithdrawTicketUpdateEvent","o":"{{')
        assert await hear(alice) == reply("CancelWithdraw", GOOD, number)
        assert payload_of(event) == payload_of(await ask(alice, swap(GET_TICKET, CODE, code)))
        assert payload_of(event)["Status"] == "UserCanceled"


async def test_events_go_to_subscribers_alone_and_each_counts_its_own(
    exchange: SimulatedExchange, guest: Socket, alice: Socket, admin: Socket
) -> None:
    exchange.add_user("bob", "a password of bob", account_id=8)
    await ask(guest, LOGIN.replace("alice", "bob"))
    assert await ask(guest, swap(SUBSCRIBE, ":7", ":8")) == reply("SubscribeAccountEvents", SUBSCRIBED)
    for newcomer, subscribe, code in ((admin, SUBSCRIBE_ALL, CODE), (alice, SUBSCRIBE, OTHER_CODE)):
        await ask(newcomer, subscribe)
        add(exchange, code=code)
        async with dialled(exchange, LOGIN) as unsubscribed:
            assert await ask(unsubscribed, swap(CANCEL, CODE, code)) == reply("CancelWithdraw", GOOD)
    events = [json.loads(await hear(socket)) for socket in (admin, admin, alice)]
    assert [(event["m"], event["i"]) for event in events] == [(3, 2), (3, 4), (3, 2)]
    assert await ask(guest, PING) == PONG


@pytest.mark.parametrize("status", ["FullyProcessed", "Failed", "SomethingNew"])
async def test_what_the_exchange_does_to_a_ticket_by_itself_is_read_and_heard(
    exchange: SimulatedExchange, alice: Socket, admin: Socket, guest: Socket, status: str
) -> None:
    before, other = add(exchange), add(exchange, account_id=8)
    await ask(alice, SUBSCRIBE)
    await ask(admin, SUBSCRIBE_ALL)
    changed = exchange.set_status(TICKET, status)
    assert changed == exchange.ticket(TICKET)
    moment, tick = changed.last_update_timestamp, changed.last_update_timestamp_tick
    assert (before.last_update_timestamp, before.last_update_timestamp_tick) == (None, 0)
    assert moment is not None
    assert before.created_timestamp is not None
    assert moment >= before.created_timestamp
    assert tick == ticks(moment)
    update = {"status": status, "last_update_timestamp": moment, "last_update_timestamp_tick": tick}
    assert changed == before.model_copy(update=update), "nothing else changes"
    for socket in (alice, admin):
        event = await hear(socket)
        assert event.startswith('{"m":3,"i":2,"n":"WithdrawTicketUpdateEvent","o":"{')
        row = payload_of(event)
        assert (row["TicketNumber"], row["Status"], row["LastUpdateTimestampTick"]) == (TICKET, status, tick)
        assert payload_of(await ask(socket, GET_TICKET)) == row
    assert await ask(guest, PING) == PONG, "who has not subscribed hears nothing"
    exchange.set_status(other.ticket_number, status)
    assert payload_of(await hear(admin))["TicketNumber"] == other.ticket_number
    assert await ask(alice, PING) == PONG, "it is of somebody else's account"


async def test_a_status_that_the_exchange_sets_decides_what_can_be_cancelled(
    exchange: SimulatedExchange, alice: Socket
) -> None:
    add(exchange)
    exchange.set_status(TICKET, "fullyprocessed")
    assert await ask(alice, CANCEL) == reply("CancelWithdraw", FAILED + r"is FullyProcessed\"}")
    exchange.set_status(TICKET, "New")
    assert await ask(alice, CANCEL) == reply("CancelWithdraw", GOOD)


async def test_an_unknown_ticket_gets_no_status(exchange: SimulatedExchange, admin: Socket) -> None:
    await ask(admin, SUBSCRIBE_ALL)
    with pytest.raises(KeyError):
        exchange.set_status(TICKET, "Failed")
    assert await ask(admin, GET_ALL_TICKETS) == reply("GetAllWithdrawTickets", "[]")  # and no event before it


async def test_an_older_version_takes_subscriptions_and_tells_of_no_ticket() -> None:
    async with SimulatedExchange(sends_ticket_events=False) as exchange:
        exchange.add_user("operator", "a password of the operator", permissions=["Operator"])
        add(exchange)
        async with dialled(exchange, OPERATOR) as socket:
            for frame in (SUBSCRIBE, SUBSCRIBE_ALL):
                for answer in (SUBSCRIBED, TWICE):
                    assert await ask(socket, frame) == reply(json.loads(frame)["n"], answer)
            exchange.set_status(TICKET, "New")
            assert await ask(socket, CANCEL) == reply("CancelWithdraw", GOOD)  # and no event before it
            exchange.log_out_everybody()
            assert json.loads(await hear(socket))["n"] == "LogoutEvent", "other events come"


@pytest.mark.parametrize("frame", [SUBSCRIBE, SUBSCRIBE_ALL])
async def test_a_second_subscription_is_refused_and_the_first_goes_on(
    exchange: SimulatedExchange, admin: Socket, frame: str
) -> None:
    add(exchange)
    for answer in (SUBSCRIBED, TWICE, TWICE):
        assert await ask(admin, frame) == reply(json.loads(frame)["n"], answer)
    assert json.loads(await ask(admin, CANCEL))["m"] == 3
    assert await hear(admin) == reply("CancelWithdraw", GOOD)


async def test_log_out_ends_login_and_subscriptions(exchange: SimulatedExchange, admin: Socket) -> None:
    for _ in range(2):  # a second login may subscribe afresh
        assert await ask(admin, SUBSCRIBE) == reply("SubscribeAccountEvents", SUBSCRIBED)
        assert await ask(admin, SUBSCRIBE_ALL) == reply("SubscribeAllAccountEvents", SUBSCRIBED)
        assert await ask(admin, LOG_OUT) == reply("LogOut", GOOD)
        assert await ask(admin, LOG_OUT) == LOGGED_OUT
        await ask(admin, OPERATOR)
    add(exchange)
    assert await ask(admin, CANCEL) == reply("CancelWithdraw", GOOD)  # and no event before it


async def test_the_journal_tells_in_order_what_came_and_went_back(exchange: SimulatedExchange, guest: Socket) -> None:
    answers = [await ask(guest, PING)]
    async with dialled(exchange) as second:
        answers += [await ask(second, LOGIN), await ask(second, LOG_OUT)]
    answers += [await ask(guest, LOG_OUT)]
    assert [hide_tokens(answer) for answer in answers] == [PONG, LOGGED_IN, reply("LogOut", GOOD), LOGGED_OUT]
    assert list(exchange.journal) == [
        Arrival(1, PING, 8, "Ping", "{}", answers[0], executed=True),
        Arrival(2, LOGIN, 9, "AuthenticateUser", json.loads(LOGIN)["o"], answers[1], executed=True),
        Arrival(2, LOG_OUT, 2, "LogOut", "{}", answers[2], executed=True),
        Arrival(1, LOG_OUT, 2, "LogOut", "{}", answers[3], executed=False),
    ]


async def test_the_journal_tells_when_and_whether_a_call_was_carried_out(
    exchange: SimulatedExchange, alice: Socket
) -> None:
    add(exchange)
    start = asyncio.get_running_loop().time()
    frames = [CANCEL, CANCEL, GET_TICKET, swap(GET_TICKET, CODE, OTHER_CODE), CANCEL_FAILED, SUBSCRIBE, SUBSCRIBE]
    frames += [swap(LOGIN, "a password", "wrong"), swap(PING, "Ping", "Nothing"), PING, LOG_OUT, LOG_OUT]
    for frame in frames:
        await ask(alice, frame)
    _, *arrivals = exchange.journal
    executed = [True, False, True, False, False, True, False, False, False, True, True, False]
    assert [arrival.executed for arrival in arrivals] == executed
    moments = [start, *(arrival.moment for arrival in arrivals), asyncio.get_running_loop().time()]
    assert moments == sorted(moments)


async def test_the_exchange_listens_on_this_machine_alone(exchange: SimulatedExchange) -> None:
    assert exchange._server is not None
    assert [listener.getsockname()[0] for listener in exchange._server.sockets] == ["127.0.0.1"]


async def test_leaving_with_clients_connected_is_quick_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()
    async with asyncio.timeout(5):
        async with SimulatedExchange() as exchange:
            exchange.add_user("alice", "a password of alice", account_id=7)
            sockets = [await connect(exchange.url, proxy=None, compression=None) for _ in range(3)]
            await ask(sockets[0], LOGIN)
            await ask(sockets[0], SUBSCRIBE)
            sockets[1].transport.pause_reading()  # it will not answer the goodbye
            start = loop.time()
        assert loop.time() - start < 2
        sockets[1].transport.resume_reading()
        for socket in sockets:
            await socket.wait_closed()
            assert socket.close_code == 1001
    assert asyncio.all_tasks() == before
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("user_name", "user_id"), [("alice", None), ("alice", 9), ("somebody", 1)])
async def test_a_user_is_not_added_twice(
    exchange: SimulatedExchange, guest: Socket, user_name: str, user_id: int | None
) -> None:
    with pytest.raises(ValueError, match="already"):
        exchange.add_user(user_name, "another password", user_id=user_id)
    assert hide_tokens(await ask(guest, LOGIN)) == LOGGED_IN


@pytest.mark.parametrize("amount", [1.1, True])
def test_an_amount_that_lost_digits_is_refused(amount: Any) -> None:
    exchange = SimulatedExchange()
    with pytest.raises(TypeError, match="amount must be a str, int or Decimal"):
        exchange.add_withdraw(account_id=7, amount=amount)
    with pytest.raises(KeyError):
        exchange.ticket(TICKET)
