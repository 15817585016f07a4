"""The simulated exchange, asked through a raw WebSocket in frames written by hand, never by the library's codec."""

import asyncio
import hashlib
import hmac
import json
import logging
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyotp
import pytest
from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect

from aioalphapoint import WithdrawStatus, WithdrawTicket
from aioalphapoint.testing import Arrival, SimulatedExchange, User
from aioalphapoint.testing.exchange import Exchange
from aioalphapoint.testing.users import Visitor

CODE = "490b4fa3-53fc-44f4-bd29-7e16be86fba3"
OTHER_CODE = "0" + CODE[1:]
TICKET = 292  # the first ticket's number
PENDING = ["New", "Pending", "Pending2Fa"]

PING = '{"m":0,"i":8,"n":"Ping","o":"{}"}'
PONG = r'{"m":1,"i":8,"n":"Ping","o":"{\"msg\":\"PONG\"}"}'
LOGIN = r'{"m":0,"i":9,"n":"AuthenticateUser","o":"{\"UserName\":\"alice\",\"Password\":\"a password of alice\"}"}'
OPERATOR = LOGIN.replace(r"\"alice\"", r"\"operator\"").replace("of alice", "of the operator")
LOGGED_IN = (
    r'{"m":1,"i":9,"n":"AuthenticateUser","o":"{\"Authenticated\":true,\"SessionToken\":\"TOKEN\",'
    r"\"User\":{\"UserId\":1,\"UserName\":\"alice\",\"Email\":\"alice@example.com\",\"EmailVerified\":true,"
    r"\"AccountId\":7,\"OMSId\":1,\"Use2FA\":false},\"Locked\":false,\"Requires2FA\":false,\"EnforceEnable2FA\":false,"
    r'\"TwoFAType\":null,\"TwoFAToken\":null,\"errormsg\":null}"}'
)
LOG_OUT = '{"m":0,"i":2,"n":"LogOut","o":"{}"}'
LOGGED_OUT = '{"m":5,"i":2,"n":"LogOut","o":"Endpoint Not Found"}'
CANCEL = (
    r'{"m":0,"i":2,"n":"CancelWithdraw","o":"{\"OMSId\":1,\"UserId\":1,\"AccountId\":7,'
    r'\"RequestCode\":\"490b4fa3-53fc-44f4-bd29-7e16be86fba3\"}"}'
)
CANCEL_FAILED = r'{"m":0,"i":2,"n":"CancelFailedWithdrawTicket","o":"{\"omsId\":1,\"ticketId\":292}"}'
GET_WITHDRAWS = r'{"m":0,"i":2,"n":"GetWithdraws","o":"{\"OMSId\":1,\"AccountId\":7}"}'
GET_TICKETS = r'{"m":0,"i":2,"n":"GetWithdrawTickets","o":"{\"OMSId\":1,\"AccountId\":7}"}'
GET_TICKET = (
    r'{"m":0,"i":2,"n":"GetWithdrawTicket","o":"{\"OMSId\":1,\"AccountId\":7,'
    r'\"RequestCode\":\"490b4fa3-53fc-44f4-bd29-7e16be86fba3\"}"}'
)
READS = [GET_WITHDRAWS, GET_TICKETS, GET_TICKET]
SUBSCRIBE = r'{"m":0,"i":2,"n":"SubscribeAccountEvents","o":"{\"OMSId\":1,\"AccountId\":7}"}'
SUBSCRIBE_ALL = '{"m":0,"i":2,"n":"SubscribeAllAccountEvents","o":"{}"}'

# Payloads of replies, as they stand in a frame.
SUBSCRIBED = r"{\"Subscribed\":true}"
GOOD = r"{\"result\":true,\"errormsg\":null,\"errorcode\":0,\"detail\":null}"
DENIED = r"{\"result\":false,\"errormsg\":\"Not Authorized\",\"errorcode\":20,\"detail\":null}"
INVALID = r"{\"result\":false,\"errormsg\":\"Invalid Request\",\"errorcode\":100,\"detail\":"
WRONG_OMS = INVALID + r"\"Invalid OMSId\"}"
INCOMPLETE = INVALID + r"\"Not all required fields are provided\"}"
FAILED = r"{\"result\":false,\"errormsg\":\"Operation Failed\",\"errorcode\":101,\"detail\":\"Withdraw Ticket "
NOT_FOUND = FAILED + r"not found for OmsId, AccountId, RequestCode\"}"
NO_RESOURCE = r"{\"result\":false,\"errormsg\":\"Resource Not Found\",\"errorcode\":104,\"detail\":null}"
TWICE = r"{\"result\":false,\"errormsg\":\"Already Subscribed.\",\"errorcode\":909,\"detail\":null}"

TICKET_ROW = (
    r'{"AssetManagerId":1,"AccountProviderId":2,"AccountId":7,"AccountName":"a","AssetId":3,"AssetName":"BTC",'
    r'"Amount":0.0010000000000000000000000000,"NotionalValue":24.10,"NotionalProductId":4,'
    r'"TemplateForm":"{\"TemplateType\":\"Standard\"}","TemplateFormType":"Standard","OMSId":1,'
    r'"RequestCode":"490b4fa3-53fc-44f4-bd29-7e16be86fba3","RequestIP":"192.0.2.1","RequestUserId":5,'
    r'"RequestUserName":"u","OperatorId":6,"Status":"Pending","FeeAmt":0.00,"UpdatedByUser":8,"UpdatedByUserName":"w",'
    r'"TicketNumber":292,"WithdrawTransactionDetails":"{\"TxId\":null}","RejectReason":null,'
    r'"CreatedTimestamp":"2023-03-23T12:48:31.067Z","LastUpdateTimestamp":"0001-01-01T00:00:00",'
    r'"CreatedTimestampTick":638151725110670000,"LastUpdateTimestampTick":0,"Comments":[],"Attachments":[],'
    r'"AuditLog":[]}'
)
WITHDRAW_ROW = (
    r'{"Amount":0.0010000000000000000000000000,"FeeAmount":0.00,"NotionalValue":24.10,"WithdrawId":100292,'
    r'"AssetManagerId":1,"AccountId":7,"AssetId":3,"TemplateForm":"{\"TemplateType\":\"Standard\"}",'
    r'"TemplateFormType":"Standard","OMSId":1,"TicketStatus":"Pending","TicketNumber":292,'
    r'"WithdrawTransactionDetails":"{\"TxId\":null}","WithdrawType":"",'
    r'"WithdrawCode":"490b4fa3-53fc-44f4-bd29-7e16be86fba3","AssetType":0,"Reaccepted":false,"NotionalProductId":4}'
)


REFUSED = r"{\"authenticated\":false,\"locked\":false,\"errormsg\":\"Invalid username or password\"}"
LOCKED = r"{\"authenticated\":false,\"locked\":true,\"errormsg\":\"User is locked\"}"
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

# The second signature vector of the protocol notes: user 96, secret `secret`.
KEY = "28c68ac3fcfafc3d4e8d653fe57e5baf"
SIGNED = (
    r'{"m":0,"i":9,"n":"AuthenticateUser","o":"{\"APIKey\":\"28c68ac3fcfafc3d4e8d653fe57e5baf\",'
    r"\"Signature\":\"44c623957fdc342b2bf892182710c3816e0d73dccfabe25341588fe841cd6a5c\","
    r'\"UserId\":\"96\",\"Nonce\":\"2247733562\"}"}'
)
FIRST_SIGNATURE = "6da3735d764bb64c26da9c2d202333a9c7c6ae55198bdbc4a9f696b4a58e5975"


def reply(function: str, payload: str, number: int = 2) -> str:
    return f'{{"m":1,"i":{number},"n":"{function}","o":"{payload}"}}'


def swap(frame: str, right: str, wrong: str) -> str:
    assert right in frame
    return frame.replace(right, wrong)


def hide_tokens(frame: str) -> str:
    return re.sub(r'(Token\\":\\")[\w-]{20,}', r"\1TOKEN", frame)


def payload_of(frame: str) -> Any:
    return json.loads(json.loads(frame)["o"], parse_float=Decimal)


async def hear(socket: Socket) -> str:
    async with asyncio.timeout(5):
        message = await socket.recv()
    assert isinstance(message, str), "the exchange sends no binary messages"
    return message


async def ask(socket: Socket, frame: str | bytes) -> str:
    async with asyncio.timeout(5):
        await socket.send(frame)
    return await hear(socket)


@asynccontextmanager
async def dialled(exchange: SimulatedExchange, login: str | None = None) -> AsyncIterator[Socket]:
    async with asyncio.timeout(5):
        socket = await connect(exchange.url, proxy=None, compression=None)
    try:
        if login is not None:
            assert payload_of(await ask(socket, login))["Authenticated"] is True
        yield socket
    finally:
        async with asyncio.timeout(5):
            await socket.close()


@pytest.fixture
async def guest(exchange: SimulatedExchange) -> AsyncIterator[Socket]:
    async with dialled(exchange) as socket:
        yield socket


@pytest.fixture
async def alice(exchange: SimulatedExchange) -> AsyncIterator[Socket]:
    async with dialled(exchange, LOGIN) as socket:
        yield socket


@pytest.fixture
async def admin(exchange: SimulatedExchange) -> AsyncIterator[Socket]:
    async with dialled(exchange, OPERATOR) as socket:
        yield socket


def add(exchange: SimulatedExchange, status: str = "Pending", code: str = CODE, account_id: int = 7) -> WithdrawTicket:
    return exchange.add_withdraw(account_id=account_id, amount="1.10", status=status, request_code=UUID(code))


async def test_a_good_login_answers_in_the_shape_of_a_gateway(guest: Socket) -> None:
    assert hide_tokens(await ask(guest, LOGIN)) == LOGGED_IN


@pytest.mark.parametrize("edit", [("a password", "wrong"), ("alice", "nobody"), ("Password", "password")])
async def test_a_refused_login_is_an_ordinary_reply_and_no_login(guest: Socket, edit: tuple[str, str]) -> None:
    assert await ask(guest, swap(LOGIN, *edit)) == reply("AuthenticateUser", REFUSED, 9)
    assert await ask(guest, LOG_OUT) == LOGGED_OUT
    assert hide_tokens(await ask(guest, LOGIN)) == LOGGED_IN


@pytest.mark.parametrize("name", ["7", "null", "[]", "{}"])
async def test_a_user_name_that_is_no_text_is_refused(guest: Socket, name: str) -> None:
    assert await ask(guest, swap(LOGIN, r"\"alice\"", name)) == reply("AuthenticateUser", REFUSED, 9)


# Session tokens.


def by_token(token: str, function: str = "WebAuthenticateUser") -> str:
    return rf'{{"m":0,"i":9,"n":"{function}","o":"{{\"SessionToken\":\"{token}\"}}"}}'


async def token_of(socket: Socket, login: str = LOGIN) -> str:
    token = payload_of(await ask(socket, login))["SessionToken"]
    assert isinstance(token, str)
    return token


async def test_each_login_gives_a_token_of_its_own_that_nobody_can_guess(guest: Socket) -> None:
    tokens = [await token_of(guest, login) for login in (LOGIN, LOGIN, OPERATOR)]
    assert len(set(tokens)) == 3
    assert min(map(len, tokens)) >= 32


async def test_a_session_token_logs_in_on_another_connection(
    exchange: SimulatedExchange, alice: Socket, guest: Socket
) -> None:
    token = await token_of(alice)
    answer = rf"{{\"Authenticated\":true,\"SessionToken\":\"{token}\",\"UserId\":1}}"
    assert await ask(guest, by_token(token)) == reply("WebAuthenticateUser", answer, 9)
    add(exchange)
    assert await ask(guest, CANCEL) == reply("CancelWithdraw", GOOD)


async def test_web_authenticate_user_takes_a_password_as_well(guest: Socket) -> None:
    login = swap(LOGIN, "AuthenticateUser", "WebAuthenticateUser")
    assert hide_tokens(await ask(guest, login)) == swap(LOGGED_IN, "AuthenticateUser", "WebAuthenticateUser")
    assert await ask(guest, LOG_OUT) == reply("LogOut", GOOD)
    refused = reply("WebAuthenticateUser", REFUSED, 9)
    assert await ask(guest, swap(login, "a password", "wrong")) == refused
    assert await ask(guest, LOG_OUT) == LOGGED_OUT


@pytest.mark.parametrize("token", ["", "unknown", "1"])
async def test_an_unknown_session_token_is_refused(guest: Socket, token: str) -> None:
    assert await ask(guest, by_token(token)) == reply("WebAuthenticateUser", REFUSED, 9)
    assert await ask(guest, swap(by_token(token), rf":\"{token}\"", ":[]")) == reply("WebAuthenticateUser", REFUSED, 9)
    assert await ask(guest, LOG_OUT) == LOGGED_OUT


async def test_authenticate_user_takes_no_session_token(alice: Socket, guest: Socket) -> None:
    login = by_token(await token_of(alice), "AuthenticateUser")
    assert await ask(guest, login) == reply("AuthenticateUser", REFUSED, 9)


async def test_log_out_ends_the_session_token_and_no_other(alice: Socket, guest: Socket) -> None:
    first, second = await token_of(guest), await token_of(alice)
    assert await ask(guest, LOG_OUT) == reply("LogOut", GOOD)
    assert await ask(guest, by_token(first)) == reply("WebAuthenticateUser", REFUSED, 9)
    assert payload_of(await ask(guest, by_token(second)))["Authenticated"] is True


def test_a_session_token_lives_for_an_hour_after_the_last_activity() -> None:
    names = iter("ab")
    rules, now = Exchange(new_token=lambda: next(names)), datetime(2023, 3, 23, tzinfo=UTC)
    rules.logins.add(User(1, "alice", "secret", frozenset({7}), frozenset()))
    minute = timedelta(minutes=1)

    def is_let_in(token: str, moment: datetime) -> bool:
        answer = rules.answer(Visitor(), "WebAuthenticateUser", f'{{"SessionToken":"{token}"}}', moment)
        return answer.executed

    first, second = Visitor(), Visitor()
    for visitor in (first, second):
        rules.answer(visitor, "AuthenticateUser", '{"UserName":"alice","Password":"secret"}', now)
    rules.answer(first, "Ping", "{}", now + 59 * minute)  # any call is an activity
    assert not is_let_in("b", now + 61 * minute)
    assert is_let_in("a", now + 119 * minute)  # and so is a login
    assert is_let_in("a", now + 179 * minute)
    rules.answer(first, "Ping", "{}", now + 240 * minute)  # too late
    assert not is_let_in("a", now + 240 * minute)
    assert rules.answer(first, "LogOut", "{}", now + 241 * minute).executed, "its own connection is logged in"


# API keys.


@pytest.fixture
def robot(exchange: SimulatedExchange) -> User:
    return exchange.add_user("robot", "p", account_id=9, user_id=96, api_key=KEY, api_secret="secret")


def signed(nonce: str, user_id: str = "96", key: str = KEY) -> str:
    signature = hmac.new(b"secret", f"{nonce}{user_id}{key}".encode(), hashlib.sha256).hexdigest()
    fields = {"APIKey": key, "Signature": signature, "UserId": user_id, "Nonce": nonce}
    return json.dumps({"m": 0, "i": 9, "n": "AuthenticateUser", "o": json.dumps(fields)})


@pytest.mark.usefixtures("robot")
async def test_a_signature_logs_in_and_gives_no_session_token(guest: Socket) -> None:
    welcome = LOGGED_IN.replace("alice", "robot").replace(r"UserId\":1", r"UserId\":96").replace(":7", ":9")
    assert await ask(guest, SIGNED) == swap(welcome, r"\"SessionToken\":\"TOKEN\",", "")
    assert await ask(guest, LOG_OUT) == reply("LogOut", GOOD)


@pytest.mark.parametrize(("user_id", "answer"), [(1, "Authenticated"), (100, "authenticated")])
async def test_the_user_id_may_have_zeros_before_it(user_id: int, answer: str) -> None:
    # The first signature vector of the protocol notes.
    login = swap(swap(SIGNED, KEY, "test_api_key"), r"\"96\"", r"\"001\"")
    login = swap(login, "44c623957fdc342b2bf892182710c3816e0d73dccfabe25341588fe841cd6a5c", FIRST_SIGNATURE)
    login = swap(login, "2247733562", "1234567890")
    async with SimulatedExchange() as other:
        other.add_user("vector", "p", user_id=user_id, api_key="test_api_key", api_secret="test_secret_key")
        async with dialled(other) as socket:
            assert payload_of(await ask(socket, login)).get(answer) is (user_id == 1)


@pytest.mark.parametrize(
    "edit",
    [
        (r"\"96\"", "96"),
        (r"\"2247733562\"", "2247733562"),
        (rf"\"{KEY}\"", "null"),
        (r"\"Nonce\"", r"\"nonce\""),
        ("44c6", "44C6"),
        ("44c6", "44c7"),
        ("2247733562", "2247733563"),
        ("2247733562", "-1"),
        (KEY, "another"),
        (r"\"96\"", r"\"1\""),
        (r"\"96\"", r"\"\""),
        ("AuthenticateUser", "WebAuthenticateUser"),
    ],
)
@pytest.mark.usefixtures("robot")
async def test_a_login_that_is_not_signed_in_every_detail_is_refused(guest: Socket, edit: tuple[str, str]) -> None:
    frame = swap(SIGNED, *edit)
    assert await ask(guest, frame) == reply(json.loads(frame)["n"], REFUSED, 9)
    assert await ask(guest, LOG_OUT) == LOGGED_OUT
    assert payload_of(await ask(guest, SIGNED))["Authenticated"] is True  # its nonce is not spent


@pytest.mark.usefixtures("robot")
async def test_a_nonce_must_be_above_the_last_accepted_one_of_its_key(
    exchange: SimulatedExchange, guest: Socket
) -> None:
    exchange.add_user("other", "p", user_id=97, api_key="other", api_secret="secret")
    for nonce, is_good in (("9", True), ("9", False), ("8", False), ("10", True), ("010", False), ("x", False)):
        answer = payload_of(await ask(guest, signed(nonce)))
        assert ("Authenticated" in answer) is is_good, nonce
    assert "Authenticated" in payload_of(await ask(guest, signed("1", "97", "other")))
    assert "Authenticated" not in payload_of(await ask(guest, signed("9" * 5000)))  # more than Python reads


# The second factor.


@pytest.fixture
def careful(exchange: SimulatedExchange) -> User:
    return exchange.add_user("careful", "a password of careful", account_id=9, user_id=9, totp_secret=TOTP_SECRET)


CAREFUL = LOGIN.replace("alice", "careful")
NO_CODE = r"{\"Authenticated\":false}"


HALF = (
    r'{"m":1,"i":9,"n":"AuthenticateUser","o":"{\"Authenticated\":true,\"SessionToken\":null,'
    r"\"User\":{\"UserId\":9,\"UserName\":\"careful\",\"Email\":\"careful@example.com\",\"EmailVerified\":true,"
    r"\"AccountId\":9,\"OMSId\":1,\"Use2FA\":true},\"Locked\":false,\"Requires2FA\":true,\"EnforceEnable2FA\":false,"
    r'\"TwoFAType\":\"Google\",\"TwoFAToken\":\"TOKEN\",\"errormsg\":null}"}'
)
WHOLE = r"{\"Authenticated\":true,\"SessionToken\":\"TOKEN\",\"UserId\":9}"
LIST = GET_TICKETS.replace(":7", ":9")
EMPTY_LIST = reply("GetWithdrawTickets", "[]")
NO_LIST = '{"m":5,"i":2,"n":"GetWithdrawTickets","o":"Endpoint Not Found"}'


def with_code(code: str = "") -> str:
    code = code or rf"\"{pyotp.TOTP(TOTP_SECRET).now()}\""
    return rf'{{"m":0,"i":9,"n":"Authenticate2FA","o":"{{\"Code\":{code}}}"}}'


def wrong_code() -> str:
    now = datetime.now(UTC)
    right = {pyotp.TOTP(TOTP_SECRET).at(now, counter_offset=offset) for offset in range(-2, 3)}
    return with_code(rf"\"{min({f'{number:06}' for number in range(6)} - right)}\"")


@pytest.mark.parametrize("function", ["AuthenticateUser", "WebAuthenticateUser"])
@pytest.mark.usefixtures("careful")
async def test_a_user_with_a_second_factor_is_logged_in_by_the_code_alone(guest: Socket, function: str) -> None:
    half = await ask(guest, swap(CAREFUL, "AuthenticateUser", function))
    assert hide_tokens(half) == swap(HALF, "AuthenticateUser", function)
    assert await ask(guest, LIST) == NO_LIST
    assert hide_tokens(await ask(guest, with_code())) == reply("Authenticate2FA", WHOLE, 9)
    assert await ask(guest, LIST) == EMPTY_LIST


@pytest.mark.usefixtures("careful")
async def test_the_token_of_a_half_login_is_no_session_token_and_that_of_a_whole_one_needs_no_code(
    guest: Socket, alice: Socket
) -> None:
    half = payload_of(await ask(guest, CAREFUL))
    assert await ask(alice, by_token(half["TwoFAToken"])) == reply("WebAuthenticateUser", REFUSED, 9)
    token = payload_of(await ask(guest, with_code()))["SessionToken"]
    assert hide_tokens(await ask(alice, by_token(token))) == reply("WebAuthenticateUser", WHOLE, 9)
    assert await ask(alice, LIST) == EMPTY_LIST


@pytest.mark.parametrize("code", ["123456", "null", r"\"\"", r"\"\u0661\u0662\"", r"\"\ud800\"", "[]"])
@pytest.mark.usefixtures("careful")
async def test_a_wrong_code_is_no_login_and_the_right_one_after_it_is(guest: Socket, code: str) -> None:
    await ask(guest, CAREFUL)
    for wrong in (wrong_code(), with_code(code.replace(r"\u", r"\\u"))):
        assert await ask(guest, wrong) == reply("Authenticate2FA", NO_CODE, 9)
        assert await ask(guest, LIST) == NO_LIST
    assert hide_tokens(await ask(guest, with_code())) == reply("Authenticate2FA", WHOLE, 9)


@pytest.mark.usefixtures("careful")
async def test_a_code_is_worth_nothing_but_on_the_connection_that_waits_for_it(
    exchange: SimulatedExchange, guest: Socket, alice: Socket
) -> None:
    await ask(guest, CAREFUL)
    for socket in (alice, guest):
        if socket is guest:
            await ask(guest, swap(CAREFUL, "a password", "wrong"))  # the next login takes the place of the first
        assert await ask(socket, with_code()) == reply("Authenticate2FA", NO_CODE, 9)
    assert await ask(alice, LOG_OUT) == reply("LogOut", GOOD)
    assert await ask(guest, LIST) == NO_LIST
    async with dialled(exchange) as later:
        assert await ask(later, with_code()) == reply("Authenticate2FA", NO_CODE, 9)


@pytest.mark.usefixtures("careful")
async def test_a_login_that_waits_for_a_code_ends_the_one_before(alice: Socket) -> None:
    assert hide_tokens(await ask(alice, CAREFUL)) == HALF
    assert await ask(alice, LOG_OUT) == LOGGED_OUT


def test_a_code_is_good_for_half_a_minute_before_and_after() -> None:
    rules, now = Exchange(new_token=str), datetime(2023, 3, 23, 12, 0, 10, tzinfo=UTC)
    rules.logins.add(User(9, "careful", "p", frozenset(), frozenset(), totp_secret=TOTP_SECRET))
    payload = f'{{"Code":"{pyotp.TOTP(TOTP_SECRET).at(now)}"}}'
    for seconds, is_good in ((-41, False), (-40, True), (0, True), (49, True), (50, False)):
        visitor = Visitor(awaits_code_of=rules.logins.users["careful"])
        moment = now + timedelta(seconds=seconds)
        assert rules.answer(visitor, "Authenticate2FA", payload, moment).executed is is_good, seconds
        assert (visitor.user is not None) is is_good


async def test_an_api_key_needs_the_code_too(exchange: SimulatedExchange, guest: Socket) -> None:
    secrets: dict[str, Any] = {"api_key": KEY, "api_secret": "secret", "totp_secret": TOTP_SECRET}
    exchange.add_user("careful", "p", account_id=9, user_id=96, **secrets)
    assert payload_of(await ask(guest, SIGNED))["Requires2FA"] is True
    assert await ask(guest, LIST) == NO_LIST
    assert payload_of(await ask(guest, with_code()))["Authenticated"] is True
    assert await ask(guest, LIST) == EMPTY_LIST


def test_without_pyotp_a_second_factor_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyotp", None)
    exchange = SimulatedExchange()
    exchange.add_user("alice", "p", api_key="key", api_secret="secret")
    with pytest.raises(ModuleNotFoundError, match=r"pyotp: pip install 'aioalphapoint\[testing\]'"):
        exchange.add_user("careful", "p", totp_secret=TOTP_SECRET)
    exchange.add_user("careful", "p")  # nothing of the first try is left


# Locked users.


FAILURES = {
    "password": ([], swap(CAREFUL, "a password", "wrong"), reply("AuthenticateUser", REFUSED, 9)),
    "signature": ([], swap(SIGNED, "44c6", "44c7"), reply("AuthenticateUser", REFUSED, 9)),
    "code": ([CAREFUL], "", reply("Authenticate2FA", NO_CODE, 9)),
    "each code after a password": ([CAREFUL], "", reply("Authenticate2FA", NO_CODE, 9)),
}


@pytest.mark.parametrize("what", FAILURES)
async def test_five_failed_logins_in_a_row_lock_the_user_until_somebody_unlocks_it(
    exchange: SimulatedExchange, guest: Socket, what: str
) -> None:
    secrets: dict[str, Any] = {"api_key": KEY, "api_secret": "secret", "totp_secret": TOTP_SECRET}
    exchange.add_user("careful", "a password of careful", account_id=9, user_id=96, **secrets)
    before, wrong, answer = FAILURES[what]
    for count in range(5):
        for frame in before if count == 0 or what.startswith("each") else []:
            await ask(guest, frame)
        assert await ask(guest, wrong or wrong_code()) == answer
    for frame in (CAREFUL, swap(CAREFUL, "a password", "wrong"), SIGNED, swap(SIGNED, "44c6", "44c7")):
        assert await ask(guest, frame) == reply("AuthenticateUser", LOCKED, 9)
    assert hide_tokens(await ask(guest, LOGIN)) == LOGGED_IN, "the others are not locked"
    exchange.unlock_user("careful")
    assert payload_of(await ask(guest, CAREFUL))["Authenticated"] is True
    assert payload_of(await ask(guest, with_code()))["Authenticated"] is True


@pytest.mark.usefixtures("careful")
async def test_a_locked_user_gets_in_by_no_code_and_no_token_but_stays_where_it_is(
    exchange: SimulatedExchange, guest: Socket
) -> None:
    await ask(guest, CAREFUL)
    token = payload_of(await ask(guest, with_code()))["SessionToken"]
    async with dialled(exchange) as half, dialled(exchange) as thief:
        await ask(half, CAREFUL)
        for _ in range(5):
            await ask(thief, swap(CAREFUL, "a password", "wrong"))
        assert await ask(half, with_code()) == reply("Authenticate2FA", LOCKED, 9)
        assert await ask(half, by_token(token)) == reply("WebAuthenticateUser", LOCKED, 9)
    assert await ask(guest, LIST) == EMPTY_LIST


async def test_a_whole_login_ends_the_row_of_failures(exchange: SimulatedExchange, guest: Socket) -> None:
    for _ in range(3):
        for _ in range(4):
            await ask(guest, swap(LOGIN, "a password", "wrong"))
        assert hide_tokens(await ask(guest, LOGIN)) == LOGGED_IN
    with pytest.raises(KeyError):
        exchange.unlock_user("nobody")


# What ends logins, and who may not be added.


async def test_logging_everybody_out_tells_who_was_logged_in_and_leaves_sockets_open(
    exchange: SimulatedExchange, guest: Socket, alice: Socket, admin: Socket
) -> None:
    token = await token_of(alice)
    assert await ask(admin, SUBSCRIBE_ALL) == reply("SubscribeAllAccountEvents", SUBSCRIBED)
    exchange.log_out_everybody()
    for socket in (alice, admin):
        assert await hear(socket) == '{"m":3,"i":2,"n":"LogoutEvent","o":"{}"}'
        assert await ask(socket, LOG_OUT) == LOGGED_OUT
    assert await ask(alice, by_token(token)) == reply("WebAuthenticateUser", REFUSED, 9)
    assert hide_tokens(await ask(alice, LOGIN)) == LOGGED_IN
    add(exchange)
    assert await ask(alice, CANCEL) == reply("CancelWithdraw", GOOD)
    for socket in (guest, admin):  # and no event before it, of either kind
        assert await ask(socket, PING) == PONG


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"api_key": "another"}, "belong together"),
        ({"api_secret": "secret"}, "belong together"),
        ({"api_key": KEY, "api_secret": "secret"}, "already"),
        ({"totp_secret": "0189"}, "totp_secret"),
    ],
)
@pytest.mark.usefixtures("robot")
async def test_a_user_who_could_not_log_in_is_not_added(
    exchange: SimulatedExchange, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        exchange.add_user("somebody", "p", **arguments)
    exchange.add_user("somebody", "p")


async def test_no_repr_holds_a_secret(exchange: SimulatedExchange, guest: Socket) -> None:
    secrets: dict[str, Any] = {"api_key": "a key", "api_secret": "a secret", "totp_secret": TOTP_SECRET}
    user = exchange.add_user("careful", "a password of careful", **secrets)
    await ask(guest, CAREFUL)
    secrets |= {"token": payload_of(await ask(guest, with_code()))["SessionToken"], "password": "a password"}
    visitor = Visitor(user, secrets["token"], user)
    shown = repr([user, visitor, exchange.faults, *exchange.journal])
    assert [name for name, secret in secrets.items() if secret in shown] == []


@pytest.mark.parametrize("frame", [CANCEL, CANCEL_FAILED, *READS, LOG_OUT, SUBSCRIBE, SUBSCRIBE_ALL])
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
        *[(LOGIN, frame, ("", ""), DENIED) for frame in (CANCEL_FAILED, SUBSCRIBE_ALL)],  # operators only
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
    rules.tickets[TICKET] = WithdrawTicket.model_validate(json.loads(TICKET_ROW, parse_float=Decimal))
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


async def test_tickets_of_the_account_come_in_pages(exchange: SimulatedExchange, alice: Socket) -> None:
    mine = [add(exchange, account_id=account_id).ticket_number for account_id in (8, *[7] * 202)][1:]
    for paging, numbers in (
        ("", mine[:200]),
        (r",\"Limit\":3", mine[:3]),
        (r",\"StartIndex\":1,\"Limit\":2", mine[1:3]),
        (r",\"StartIndex\":201,\"Limit\":2", mine[201:]),
        (r",\"StartIndex\":202,\"Limit\":2", []),
    ):
        rows = payload_of(await ask(alice, swap(GET_TICKETS, ":7", f":7{paging}")))
        assert [row["TicketNumber"] for row in rows] == numbers


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
