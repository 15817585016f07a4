"""Logging in to the simulated exchange, in frames written by hand, through a raw WebSocket."""

import hashlib
import hmac
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pyotp
import pytest
from websockets.asyncio.client import ClientConnection as Socket

from aioalphapoint.testing import SimulatedExchange, User
from aioalphapoint.testing.exchange import Exchange
from aioalphapoint.testing.users import Visitor
from wire import (
    CANCEL,
    FIRST_SIGNATURE,
    GET_TICKETS,
    GOOD,
    KEY,
    LOCKED,
    LOG_OUT,
    LOGGED_IN,
    LOGGED_OUT,
    LOGIN,
    OPERATOR,
    PING,
    PONG,
    REFUSED,
    SIGNED,
    SUBSCRIBE_ALL,
    SUBSCRIBED,
    TOTP_SECRET,
    add,
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
