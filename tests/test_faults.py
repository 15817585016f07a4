"""What goes wrong on the simulated exchange on request, seen through a raw WebSocket in frames written by hand."""

import asyncio
import json
import logging
import random
import socket as tcp
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from logging.handlers import BufferingHandler
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from aioalphapoint.testing import Faults, SimulatedExchange
from conftest import at_once
from wire import (
    CANCEL,
    CANCEL_FAILED,
    CODE,
    DENIED,
    FAILED,
    GET_TICKET,
    GET_TICKETS,
    GOOD,
    LOCKED,
    LOG_OUT,
    LOGGED_IN,
    LOGGED_OUT,
    LOGIN,
    NOT_FOUND,
    OPERATOR,
    OTHER_CODE,
    PING,
    PONG,
    REFUSED,
    SUBSCRIBE,
    TICKET,
    add,
    add_many,
    ask,
    by_token,
    dialled,
    hear,
    hide_tokens,
    payload_of,
    reply,
    swap,
    token_of,
)

HANDSHAKE = (
    b"GET /WSGateway/ HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CANCELLED = reply("CancelWithdraw", GOOD)
FAULTS: dict[str, Callable[[Faults], AbstractContextManager[None]]] = {
    "mute": lambda faults: faults.mute(),
    "delay": lambda faults: faults.delay(3600),
    "reject": lambda faults: faults.reject(),
    "accept_only": lambda faults: faults.accept_only(),
    "garble": lambda faults: faults.garble(),
    "duplicate": lambda faults: faults.duplicate(),
    "reorder": lambda faults: faults.reorder(99, random.Random(7)),
    "cut": lambda faults: faults.cut(),
    "cut with a code": lambda faults: faults.cut(1011, before=True),
    "freeze": lambda faults: faults.freeze(),
    "refuse_dial": lambda faults: faults.refuse_dial(),
    "refuse_login": lambda faults: faults.refuse_login(),
}


def ping(number: int) -> str:
    return swap(PING, "8", str(number))


def pong(number: int) -> str:
    return swap(PONG, "8", str(number))


def port_of(exchange: SimulatedExchange) -> int:
    return int(exchange.url.split(":")[2].split("/")[0])


def function_of(frame: str) -> str:
    function = json.loads(frame)["n"]
    assert isinstance(function, str)
    return function


async def say(socket: Socket, *frames: str) -> None:
    async with asyncio.timeout(5):
        for frame in frames:
            await socket.send(frame)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.001)


async def arrived(exchange: SimulatedExchange, count: int) -> None:
    await until(lambda: len(exchange.journal) >= count)


async def end_of(socket: Socket) -> ConnectionClosed:
    with pytest.raises(ConnectionClosed) as closed:
        await hear(socket)
    return closed.value


def was_reset(end: ConnectionClosed) -> bool:
    return (end.rcvd, end.sent) == (None, None) and isinstance(end.__cause__, ConnectionResetError)


def timers(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    return list(vars(loop)["_scheduled"])  # asyncio's own heap: it offers no other look at what is to come


# Every fault.


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_undone_on_leaving_after_an_exception_too(exchange: SimulatedExchange, name: str) -> None:
    add(exchange)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), FAULTS[name](exchange.faults):
            raise ZeroDivisionError
    async with dialled(exchange, LOGIN) as socket:
        assert await ask(socket, CANCEL) == CANCELLED
        with FAULTS[name](exchange.faults), FAULTS[name](exchange.faults):
            pass
        assert await ask(socket, PING) == PONG
    assert exchange.ticket(TICKET).status == "UserCanceled"


@pytest.mark.parametrize("name", FAULTS)
async def test_what_a_fault_did_to_calls_is_over_with_it(exchange: SimulatedExchange, name: str) -> None:
    async with dialled(exchange) as before:
        with FAULTS[name](exchange.faults):
            await say(before, ping(2))
            if name != "freeze":
                await arrived(exchange, 1)
        with suppress(ConnectionClosed):
            await say(before, ping(4))
            while await hear(before) != pong(4):
                pass
    async with dialled(exchange, LOGIN) as socket:
        assert await ask(socket, PING) == PONG


@pytest.mark.parametrize("name", FAULTS)
def test_leaving_the_exchange_is_quick_and_quiet_with_any_fault_on(
    name: str, leavings: dict[str, Future[None]]
) -> None:
    leavings[name].result()


@pytest.fixture(scope="module")
def leavings() -> dict[str, Future[None]]:
    log = BufferingHandler(capacity=1000)
    log.setLevel(logging.WARNING)
    logging.getLogger().addHandler(log)
    try:
        told = at_once(leave, FAULTS)
    finally:
        logging.getLogger().removeHandler(log)
    # Development mode tells of slow steps, which a busy machine has.
    assert [record for record in log.buffer if not record.getMessage().startswith("Executing ")] == []
    return told


async def leave(name: str) -> None:
    loop, before = asyncio.get_running_loop(), asyncio.all_tasks()

    async def dial() -> Socket:
        return await connect(exchange.url, proxy=None, compression=None, ping_interval=None)

    async with asyncio.timeout(8):
        with ExitStack() as stack:
            async with SimulatedExchange() as exchange:
                exchange.add_user("alice", "a password of alice", account_id=7)
                sockets = [await dial() for _ in range(3)]
                await ask(sockets[0], LOGIN)
                await ask(sockets[0], SUBSCRIBE)
                stack.enter_context(FAULTS[name](exchange.faults))
                if name == "freeze":
                    sockets.append(await dial())
                for socket in sockets:
                    await say(socket, PING, LOGIN)
                if name != "freeze":
                    await arrived(exchange, 5)
                sockets[2].transport.pause_reading()  # it will not answer a goodbye
                add(exchange)
                start = loop.time()
            assert loop.time() - start < 2
            sockets[2].transport.resume_reading()
            for socket in sockets:
                await socket.close()
                await socket.wait_closed()
            if name == "freeze":
                assert {socket.close_code for socket in sockets} == {1006}, "none hears a goodbye"
    assert asyncio.all_tasks() == before
    assert not [timer for timer in timers(loop) if not timer.cancelled()]


@pytest.mark.parametrize("name", ["mute", "delay", "reject", "garble", "duplicate", "reorder", "cut"])
async def test_a_fault_can_be_limited_to_one_function(exchange: SimulatedExchange, alice: Socket, name: str) -> None:
    limited: dict[str, Callable[[Faults], AbstractContextManager[None]]] = {
        "mute": lambda faults: faults.mute("CancelWithdraw"),
        "delay": lambda faults: faults.delay(3600, "CancelWithdraw"),
        "reject": lambda faults: faults.reject(102, function="CancelWithdraw"),
        "garble": lambda faults: faults.garble("CancelWithdraw"),
        "duplicate": lambda faults: faults.duplicate("CancelWithdraw"),
        "reorder": lambda faults: faults.reorder(2, random.Random(7), "CancelWithdraw"),
        "cut": lambda faults: faults.cut(function="CancelWithdraw"),
    }
    add(exchange)
    with limited[name](exchange.faults):
        assert await ask(alice, PING) == PONG
        assert await ask(alice, GET_TICKETS) == exchange.journal[-1].answer
        assert await ask(alice, ping(10)) == pong(10)
        await say(alice, CANCEL, PING)
        answers = []
        with suppress(ConnectionClosed):
            answers.append(await hear(alice))
            while answers[-1] != PONG:
                answers.append(await hear(alice))
    assert answers != [CANCELLED, PONG], "the fault concerns this function"


async def test_of_two_faults_of_a_kind_the_inner_one_that_concerns_the_call_counts(
    exchange: SimulatedExchange, guest: Socket
) -> None:
    faults, codes = exchange.faults, []
    with faults.reject(101), faults.reject(102, function="Ping"), faults.reject(104, function="Other"):
        codes.append(payload_of(await ask(guest, PING))["errorcode"])
        with faults.reject(106):
            codes.append(payload_of(await ask(guest, PING))["errorcode"])
        codes.append(payload_of(await ask(guest, PING))["errorcode"])
    assert codes == [102, 106, 102]


# Answers that are lost, late, refused, unreadable, doubled, out of order.


async def test_a_muted_call_is_carried_out_and_not_answered(exchange: SimulatedExchange, alice: Socket) -> None:
    add(exchange)
    with exchange.faults.mute():
        await say(alice, CANCEL)
        await arrived(exchange, 2)
    assert await ask(alice, PING) == PONG
    assert exchange.ticket(TICKET).status == "UserCanceled"
    assert [(arrival.executed, arrival.answer) for arrival in exchange.journal][1:] == [(True, None), (True, PONG)]


async def test_a_mute_inside_a_mute_leaves_the_outer_one_on(exchange: SimulatedExchange, guest: Socket) -> None:
    with exchange.faults.mute():
        with exchange.faults.mute():
            pass
        await say(guest, ping(2))
        await arrived(exchange, 1)
    assert await ask(guest, PING) == PONG


async def test_a_delayed_call_is_carried_out_at_once_and_holds_no_other_up(
    exchange: SimulatedExchange, alice: Socket
) -> None:
    add(exchange)
    start = asyncio.get_running_loop().time()
    with exchange.faults.delay(0.5, "CancelWithdraw"):
        await say(alice, CANCEL)
        assert await ask(alice, PING) == PONG
        assert exchange.ticket(TICKET).status == "UserCanceled"
        assert exchange.journal[-2].answer is None
        assert asyncio.get_running_loop().time() - start < 0.5
    assert await ask(alice, ping(10)) == pong(10), "leaving does not hurry it"
    assert await hear(alice) == CANCELLED
    assert asyncio.get_running_loop().time() - start >= 0.5
    assert exchange.journal[1].answer == CANCELLED


async def test_a_delayed_reply_to_a_guest_who_has_left_is_dropped(exchange: SimulatedExchange) -> None:
    loop = asyncio.get_running_loop()
    with exchange.faults.delay(3600):
        async with dialled(exchange) as socket:
            await say(socket, PING)
            await arrived(exchange, 1)
    await until(lambda: not exchange._guests)
    assert not [timer for timer in timers(loop) if timer.when() > loop.time() + 60 and not timer.cancelled()]


@pytest.mark.parametrize(
    ("code", "detail", "answer"),
    [
        (101, None, r"\"Operation Failed\",\"errorcode\":101,\"detail\":null}"),
        (102, "a reason", r"\"Server Error\",\"errorcode\":102,\"detail\":\"a reason\"}"),
        (106, None, r"\"Operation Not Supported\",\"errorcode\":106,\"detail\":null}"),
        (107, None, r"\"Operation In Process\",\"errorcode\":107,\"detail\":null}"),
        (12345, None, r"null,\"errorcode\":12345,\"detail\":null}"),
    ],
)
async def test_a_rejected_call_is_refused_and_not_carried_out(
    exchange: SimulatedExchange, alice: Socket, code: int, detail: str | None, answer: str
) -> None:
    before = add(exchange)
    with exchange.faults.reject(code, detail):
        refused = reply("CancelWithdraw", r"{\"result\":false,\"errormsg\":" + answer)
        assert await ask(alice, CANCEL) == refused
    assert exchange.ticket(TICKET) == before
    assert (exchange.journal[-1].executed, exchange.journal[-1].answer) == (False, refused)
    assert await ask(alice, CANCEL) == CANCELLED


async def test_a_rejected_login_is_none(exchange: SimulatedExchange, guest: Socket) -> None:
    with exchange.faults.reject():
        await ask(guest, LOGIN)
    assert await ask(guest, LOG_OUT) == LOGGED_OUT


@pytest.mark.parametrize(
    ("login", "frame", "status"), [(LOGIN, CANCEL, "Pending"), (OPERATOR, CANCEL_FAILED, "Failed")]
)
async def test_a_cancel_that_is_only_accepted_is_answered_as_received_and_not_carried_out(
    exchange: SimulatedExchange, login: str, frame: str, status: str
) -> None:
    before = add(exchange, status)
    async with dialled(exchange, login) as socket:
        assert await ask(socket, SUBSCRIBE) == exchange.journal[-1].answer
        received = reply(function_of(frame), GOOD)
        with exchange.faults.accept_only():
            for _ in range(2):  # the ticket still allows it
                assert await ask(socket, frame) == received  # and no event before it
                assert (exchange.journal[-1].executed, exchange.journal[-1].answer) == (False, received)
        assert exchange.ticket(TICKET) == before, "leaving carries nothing out"
        assert '"m":3' in await ask(socket, frame)
        assert await hear(socket) == received
    assert exchange.journal[-1].executed
    assert exchange.ticket(TICKET).status.is_cancelled


@pytest.mark.parametrize(
    ("login", "frame", "edit", "answer"),
    [
        (LOGIN, CANCEL, (CODE, OTHER_CODE), NOT_FOUND),
        (LOGIN, CANCEL, (":7", ":8"), DENIED),
        (LOGIN, CANCEL_FAILED, ("", ""), DENIED),
        (OPERATOR, CANCEL_FAILED, ("", ""), FAILED + r"is Pending\"}"),
    ],
)
async def test_what_the_rules_refuse_stays_refused_where_cancels_are_only_accepted(
    exchange: SimulatedExchange, login: str, frame: str, edit: tuple[str, str], answer: str
) -> None:
    before = add(exchange)
    async with dialled(exchange, login) as socket:
        with exchange.faults.accept_only():
            assert await ask(socket, swap(frame, *edit)) == reply(function_of(frame), answer)
    assert exchange.ticket(TICKET) == before


async def test_other_functions_go_on_where_cancels_are_only_accepted(
    exchange: SimulatedExchange, alice: Socket, admin: Socket
) -> None:
    add(exchange)
    with exchange.faults.accept_only("CancelFailedWithdrawTicket"):
        assert await ask(alice, CANCEL) == CANCELLED
        assert exchange.journal[-1].executed
    add(exchange, "Failed", OTHER_CODE)
    failed = swap(CANCEL_FAILED, str(TICKET), str(TICKET + 1))
    with exchange.faults.accept_only("CancelWithdraw"):
        assert await ask(admin, failed) == reply("CancelFailedWithdrawTicket", GOOD)
        assert exchange.journal[-1].executed
    with exchange.faults.accept_only():
        assert payload_of(await ask(alice, GET_TICKET))["Status"] == "UserCanceled"
        assert payload_of(await ask(alice, swap(GET_TICKET, CODE, OTHER_CODE)))["Status"] == "AdminCanceled"
        assert await ask(alice, SUBSCRIBE) == exchange.journal[-1].answer
        assert await ask(alice, LOG_OUT) == reply("LogOut", GOOD)
        assert await ask(alice, LOG_OUT) == LOGGED_OUT
        assert hide_tokens(await ask(alice, LOGIN)) == LOGGED_IN
    assert [arrival.executed for arrival in exchange.journal][-6:] == [True, True, True, True, False, True]


async def test_a_rejection_comes_before_an_acceptance_alone_and_a_cut_after_it(
    exchange: SimulatedExchange, alice: Socket
) -> None:
    before = add(exchange)
    with exchange.faults.accept_only():
        with exchange.faults.reject(102):
            assert payload_of(await ask(alice, CANCEL))["errorcode"] == 102
        with exchange.faults.cut(1011):
            await say(alice, CANCEL)
            await end_of(alice)
    assert exchange.ticket(TICKET) == before
    assert [arrival.executed for arrival in exchange.journal] == [True, False, False]


async def test_a_garbled_reply_finds_its_call_and_cannot_be_read(exchange: SimulatedExchange, alice: Socket) -> None:
    add(exchange)
    with exchange.faults.garble():
        assert await ask(alice, CANCEL) == reply("CancelWithdraw", r"{\"result\":true,\"errormsg\":nul")
        garbled = await ask(alice, swap(GET_TICKETS, ":7", r":7,\"Limit\":0"))
        assert garbled == reply("GetWithdrawTickets", "[")
        assert exchange.journal[-1].answer == garbled
    assert exchange.ticket(TICKET).status == "UserCanceled"
    assert exchange.journal[-1].executed
    assert await ask(alice, PING) == PONG


async def test_a_duplicated_reply_comes_twice_and_the_call_is_carried_out_once(
    exchange: SimulatedExchange, alice: Socket
) -> None:
    add(exchange)
    with exchange.faults.duplicate():
        assert await ask(alice, CANCEL) == CANCELLED
        assert await hear(alice) == CANCELLED
        with exchange.faults.delay(0):
            assert await ask(alice, PING) == PONG
            assert await hear(alice) == PONG
    assert [arrival.function for arrival in exchange.journal][1:] == ["CancelWithdraw", "Ping"]
    assert await ask(alice, ping(10)) == pong(10)


@pytest.mark.parametrize("seed", range(5))
async def test_reordered_replies_wait_for_each_other_and_come_in_the_order_of_chance(
    exchange: SimulatedExchange, guest: Socket, seed: int
) -> None:
    numbers = [2, 4, 6, 8, 10]
    chance = random.Random(seed)
    order = [sorted(numbers), sorted(n + 10 for n in numbers)]
    for block in order:
        chance.shuffle(block)
    with exchange.faults.reorder(5, random.Random(seed)):
        await say(guest, *map(ping, numbers[:4]))
        await arrived(exchange, 4)
        assert [arrival.answer for arrival in exchange.journal] == [None] * 4
        await say(guest, ping(10), *(ping(number + 10) for number in numbers))
        heard = [await hear(guest) for _ in range(10)]
    assert heard == [pong(number) for block in order for number in block]
    assert [arrival.answer for arrival in exchange.journal] == [pong(number) for number in range(2, 22, 2)]
    assert await ask(guest, PING) == PONG


async def test_replies_held_for_reordering_are_sent_on_leaving(exchange: SimulatedExchange, guest: Socket) -> None:
    async with dialled(exchange) as leaver:
        with exchange.faults.reorder(9, random.Random(7)):
            await say(guest, ping(2), ping(4))
            await say(leaver, PING)
            await arrived(exchange, 3)
            await leaver.close()
            await until(lambda: len(exchange._guests) == 1)
    assert {await hear(guest), await hear(guest)} == {pong(2), pong(4)}
    assert await ask(guest, PING) == PONG
    assert [arrival.answer for arrival in exchange.journal if arrival.connection == 2] == [None]


async def test_a_delayed_reply_that_comes_after_the_reordering_is_held_no_more(
    exchange: SimulatedExchange, guest: Socket
) -> None:
    with exchange.faults.reorder(9, random.Random(7)), exchange.faults.delay(0.4):
        await say(guest, PING)
        await arrived(exchange, 1)
    assert exchange.journal[0].answer is None
    assert await hear(guest) == PONG


# Connections that end.


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("code", [None, 1000, 1001, 1011, 1012, 3000, 4999])
async def test_a_cut_ends_the_connection_unanswered_before_or_after_the_call(
    exchange: SimulatedExchange, alice: Socket, code: int | None, before: bool
) -> None:
    add(exchange)
    async with dialled(exchange) as other:
        with exchange.faults.cut(code, before=before, function="CancelWithdraw"):
            assert await ask(alice, PING) == PONG
            await say(alice, CANCEL, ping(10))
            end = await end_of(alice)
            assert was_reset(end) if code is None else (end.rcvd and end.rcvd.code) == code
            assert await ask(other, PING) == PONG, "other connections go on"
    assert exchange.ticket(TICKET).status == ("Pending" if before else "UserCanceled")
    cut = exchange.journal[2]
    assert (cut.function, cut.executed, cut.answer) == ("CancelWithdraw", not before, None)
    assert [arrival.sequence for arrival in exchange.journal] == [9, 8, 2, 8], "what came after the cut is not heard"
    async with dialled(exchange, LOGIN) as later:
        assert await ask(later, GET_TICKETS) == exchange.journal[-1].answer


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000])
async def test_what_is_no_close_code_is_refused_at_once(exchange: SimulatedExchange, guest: Socket, code: int) -> None:
    with pytest.raises(ValueError, match="code must be a close code"), exchange.faults.cut(code):
        pass
    with pytest.raises(ValueError, match="code must be a close code"):
        await exchange.cut_now(code)
    assert await ask(guest, PING) == PONG


@pytest.mark.parametrize("code", [None, 1001, 4000])
async def test_cutting_now_ends_all_present_connections_and_no_later_one(
    exchange: SimulatedExchange, guest: Socket, alice: Socket, code: int | None
) -> None:
    async with asyncio.timeout(5):
        await exchange.cut_now(code)
    for socket in (guest, alice):
        end = await end_of(socket)
        assert was_reset(end) if code is None else (end.rcvd and end.rcvd.code) == code
    async with dialled(exchange, LOGIN) as later:
        assert await ask(later, PING) == PONG
        assert len(exchange._guests) == 1
    async with asyncio.timeout(5):
        await exchange.cut_now(code)  # there is nobody


@asynccontextmanager
async def stuffed(exchange: SimulatedExchange) -> AsyncIterator[Socket]:
    """Log somebody in who asks for megabytes and reads none of them, until the exchange hears no more calls."""
    add_many(exchange, 200)
    narrow = tcp.socket()
    narrow.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 4096)
    narrow.connect(("127.0.0.1", port_of(exchange)))
    async with asyncio.timeout(5):
        socket = await connect(
            exchange.url, sock=narrow, proxy=None, compression=None, ping_interval=None, max_size=None
        )
    await ask(socket, LOGIN)
    socket.transport.pause_reading()
    await say(socket, *[GET_TICKETS] * 60)
    heard = -1
    while heard != len(exchange.journal):
        heard = len(exchange.journal)
        await asyncio.sleep(0.05)
    assert heard < 61
    yield socket
    socket.transport.abort()


async def test_a_guest_that_reads_nothing_cannot_hold_a_cut_up(exchange: SimulatedExchange) -> None:
    async with stuffed(exchange):
        heard = len(exchange.journal)
        async with asyncio.timeout(3):
            await exchange.cut_now(1011)
        await until(lambda: not exchange._guests)
        assert len(exchange.journal) == heard, "what had not been heard is not heard any more"


# The black hole.


async def hears_nothing(*waiting: asyncio.Future[Any]) -> bool:
    done, _ = await asyncio.wait(waiting, timeout=0.2)
    return not done


async def test_frozen_connections_are_neither_read_nor_answered_until_the_thaw(
    exchange: SimulatedExchange, alice: Socket, guest: Socket
) -> None:
    add(exchange)
    with exchange.faults.freeze():
        await say(alice, CANCEL, PING)
        async with asyncio.timeout(5):
            pong_waiter = asyncio.ensure_future(await guest.ping())
        heard = asyncio.ensure_future(hear(alice))
        with exchange.faults.freeze():
            pass  # the outer one goes on
        assert await hears_nothing(heard, pong_waiter)
        assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser"]
        assert exchange.ticket(TICKET).status == "Pending"
    async with asyncio.timeout(5):
        assert await heard == CANCELLED
        await pong_waiter
    assert await hear(alice) == PONG
    assert await ask(guest, PING) == PONG


async def test_a_new_connection_falls_silent_after_its_handshake(exchange: SimulatedExchange) -> None:
    with ExitStack() as stack:
        stack.enter_context(exchange.faults.freeze())
        async with dialled(exchange) as newcomer:
            heard = asyncio.ensure_future(ask(newcomer, PING))
            assert await hears_nothing(heard)
            assert not exchange.journal
            stack.close()
            assert await heard == PONG


async def test_a_frozen_connection_takes_no_part_in_a_closing_handshake(
    exchange: SimulatedExchange, guest: Socket
) -> None:
    with exchange.faults.freeze():
        closing = asyncio.ensure_future(guest.close())
        assert await hears_nothing(closing)
    async with asyncio.timeout(5):
        await closing
    assert guest.close_code == 1000


async def test_events_and_late_replies_wait_for_the_thaw_in_order(
    exchange: SimulatedExchange, alice: Socket, guest: Socket
) -> None:
    with ExitStack() as held:
        held.enter_context(exchange.faults.reorder(9, random.Random(7)))
        await say(alice, PING)
        await arrived(exchange, 2)
        with exchange.faults.freeze():
            heard = asyncio.ensure_future(hear(alice))
            exchange.log_out_everybody()
            held.close()
            assert await hears_nothing(heard)
            assert exchange.journal[-1].answer is None
    assert await heard == '{"m":3,"i":2,"n":"LogoutEvent","o":"{}"}'
    assert await hear(alice) == PONG
    assert await ask(guest, PING) == PONG


async def test_who_leaves_a_frozen_connection_is_missed_after_the_thaw(
    exchange: SimulatedExchange, alice: Socket, guest: Socket
) -> None:
    with exchange.faults.freeze():
        alice.transport.abort()
        await asyncio.sleep(0.1)
        assert len(exchange._guests) == 2
    await until(lambda: len(exchange._guests) == 1)
    assert await ask(guest, PING) == PONG


async def test_a_freeze_reads_nothing_more_of_what_has_piled_up(exchange: SimulatedExchange) -> None:
    async with stuffed(exchange) as socket:
        await say(socket, *[PING] * 5000)
        with exchange.faults.freeze():
            answers = [arrival.answer for arrival in exchange.journal if arrival.answer]
            wire = socket.transport.get_extra_info("socket")
            wire.setsockopt(tcp.SOL_SOCKET, tcp.SO_RCVBUF, 2**20)  # narrow no longer: that was to stuff it
            socket.transport.resume_reading()
            with suppress(TimeoutError):  # what had been handed to the operating system before still comes
                while True:
                    async with asyncio.timeout(0.3):
                        answer = await socket.recv()
                    assert answer in answers
                    answers.remove(answer)
            assert not [arrival for arrival in exchange.journal if arrival.function == "Ping"]
        pongs = 0
        while pongs < 5000:
            pongs += await hear(socket) == PONG
        assert len(exchange.journal) == 5061
        assert await ask(socket, ping(10)) == pong(10)


async def test_a_frozen_connection_can_be_cut_and_is_reset_whatever_the_code(
    exchange: SimulatedExchange, guest: Socket
) -> None:
    with exchange.faults.freeze():
        async with asyncio.timeout(5):
            await exchange.cut_now(1011)
        assert was_reset(await end_of(guest))
    async with dialled(exchange) as later:
        assert await ask(later, PING) == PONG


async def test_a_frozen_guest_who_is_told_too_much_is_shown_out(
    exchange: SimulatedExchange, alice: Socket, guest: Socket
) -> None:
    await ask(alice, SUBSCRIBE)
    [silent] = [guest for guest in exchange._guests.values() if guest.visitor.user]
    with exchange.faults.freeze():
        for count in range(70):
            assert silent.line.transport.is_closing() is (count > 64), count  # 64 KiB each, of 4 MiB
            silent.send_event("SomeEvent", "x" * (2**16 - 40))
        await until(lambda: len(exchange._guests) == 1)
    await end_of(alice)
    assert await ask(guest, PING) == PONG


# Handshakes and logins.


@pytest.mark.parametrize("status", [301, 403, 429, 500, 503])
async def test_a_refused_dial_says_so_by_its_status_and_leaves_connections_alone(
    exchange: SimulatedExchange, guest: Socket, status: int
) -> None:
    with exchange.faults.refuse_dial(status):
        # by hand, because the client of websockets would follow a redirect
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(exchange))
            writer.write(HANDSHAKE)
            assert (await reader.readline()).startswith(f"HTTP/1.1 {status} ".encode())
            writer.close()
            await writer.wait_closed()
        assert await ask(guest, PING) == PONG
    async with dialled(exchange, LOGIN) as later:
        assert await ask(later, PING) == PONG


@pytest.mark.parametrize("status", [0, 101, 200, 299, 600, 999])
def test_what_is_no_refusal_is_refused_at_once(status: int) -> None:
    with pytest.raises(ValueError), SimulatedExchange().faults.refuse_dial(status):
        pass


@pytest.mark.parametrize(("locked", "answer"), [(False, REFUSED), (True, LOCKED)])
async def test_a_refused_login_counts_for_nothing(
    exchange: SimulatedExchange, alice: Socket, guest: Socket, locked: bool, answer: str
) -> None:
    token = await token_of(alice)
    with exchange.faults.refuse_login(locked=locked):
        for _ in range(6):
            assert await ask(guest, LOGIN) == reply("AuthenticateUser", answer, 9)
        assert await ask(guest, by_token(token)) == reply("WebAuthenticateUser", answer, 9)
        code = swap(LOGIN, "AuthenticateUser", "Authenticate2FA")
        no_code = LOCKED if locked else r"{\"Authenticated\":false}"
        assert await ask(guest, code) == reply("Authenticate2FA", no_code, 9)
        assert await ask(guest, LOG_OUT) == LOGGED_OUT
        assert await ask(alice, GET_TICKETS) == reply("GetWithdrawTickets", "[]"), "who is logged in stays so"
    assert not any(arrival.executed for arrival in exchange.journal if arrival.connection == 2)
    assert hide_tokens(await ask(guest, LOGIN)) == LOGGED_IN


async def test_expired_tokens_are_worthless_and_later_ones_are_not(
    exchange: SimulatedExchange, alice: Socket, guest: Socket
) -> None:
    token = await token_of(alice)
    exchange.faults.expire_token()
    assert await ask(guest, by_token(token)) == reply("WebAuthenticateUser", REFUSED, 9)
    assert await ask(alice, GET_TICKETS) == reply("GetWithdrawTickets", "[]"), "who is logged in stays so"
    assert await ask(guest, by_token(token)) == reply("WebAuthenticateUser", REFUSED, 9), "activity does not revive it"
    token = await token_of(alice)
    assert payload_of(await ask(guest, by_token(token)))["Authenticated"] is True


# Arguments that would do nothing, or the opposite.


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_delay_must_end(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"), SimulatedExchange().faults.delay(seconds):
        pass


def test_a_rejection_must_refuse_and_a_reordering_must_hold_something() -> None:
    faults = SimulatedExchange().faults
    with pytest.raises(ValueError, match="code must not be 0"), faults.reject(0):
        pass
    with pytest.raises(ValueError, match="count must not be below 1"), faults.reorder(0, random.Random(7)):
        pass
