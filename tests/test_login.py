"""Logging in: what is sent, what counts as a yes, what is tried again, and what is never shown."""

import asyncio
import contextlib
import copy
import itertools
import json
import logging
import pickle
import secrets
import traceback
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    ApiKey,
    AuthenticationFailed,
    Backoff,
    CallTimeout,
    Client,
    ConnectFailed,
    ConnectionLost,
    Identity,
    InvalidArguments,
    NotConnected,
    Password,
    SessionState,
    SessionToken,
    UnexpectedReply,
)
from aioalphapoint._auth import Nonces, login_call, read_login, signature
from aioalphapoint.testing import SimulatedExchange
from conftest import SOON
from scripted import GOOD, answer_all, reply, scripted

ALICE = Password("alice", "a password")


@pytest.mark.parametrize(
    ("nonce", "user_id", "api_key", "secret", "expected"),
    [
        (
            "1234567890",
            "001",
            "test_api_key",
            "test_secret_key",
            "6da3735d764bb64c26da9c2d202333a9c7c6ae55198bdbc4a9f696b4a58e5975",
        ),
        (
            "2247733562",
            96,
            "28c68ac3fcfafc3d4e8d653fe57e5baf",
            "secret",
            "44c623957fdc342b2bf892182710c3816e0d73dccfabe25341588fe841cd6a5c",
        ),
    ],
)
def test_the_signature_of_the_published_vectors(
    nonce: str, user_id: str | int, api_key: str, secret: str, expected: str
) -> None:
    credentials = ApiKey(api_key, secret, user_id)
    assert signature(credentials, nonce) == expected
    assert login_call(credentials, nonce) == (
        "AuthenticateUser",
        {"APIKey": api_key, "Signature": expected, "UserId": str(user_id), "Nonce": nonce},
    )


def _any(value: Any) -> Any:
    return value


@given(st.lists(st.integers(0, 2**50), min_size=2))
def test_nonces_increase_strictly_whatever_the_clock_does(clock: list[int]) -> None:
    nonces = Nonces()
    given_out = [int(nonces.next(moment)) for moment in clock]
    assert all(later > earlier for earlier, later in itertools.pairwise(given_out))
    assert all(nonce >= moment for nonce, moment in zip(given_out, clock, strict=True))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [  # what the type checker would stop is tried all the same
        (lambda: Password("", "p"), "user_name must be a string that is not empty"),
        (lambda: Password("u", ""), "password must be a string that is not empty"),
        (lambda: Password("u", _any(12345)), "password must be a string that is not empty"),
        (lambda: Password("u", "p", _any("123456")), "two_factor must be a function that returns the code"),
        (lambda: ApiKey("", "s", 1), "api_key must be a string that is not empty"),
        (lambda: ApiKey("k", _any(None), 1), "secret must be a string that is not empty"),
        (lambda: ApiKey("k", "s", -1), "user_id must be a number from 0, or its digits, not -1"),
        (lambda: ApiKey("k", "s", True), "user_id must be a number from 0, or its digits, not True"),
        (lambda: ApiKey("k", "s", "one"), "user_id must be a number from 0, or its digits, not 'one'"),
        (lambda: ApiKey("k", "s\ud800", 1), "secret must be text that UTF-8 can hold"),
        (lambda: SessionToken(_any(b"token")), "token must be a string that is not empty"),
    ],
)
def test_credentials_that_cannot_be_are_refused_without_being_shown(make: Any, sentence: str) -> None:
    with pytest.raises(InvalidArguments, match=f"^{sentence}$"):
        make()


@pytest.mark.parametrize(
    ("answer", "identity"),
    [
        (
            {"Authenticated": True, "User": {"UserId": 492, "UserName": "alice", "AccountId": 528, "OMSId": 1}},
            Identity(user_id=492, user_name="alice", account_id=528, oms_id=1),
        ),
        ({"authenticated": True, "user": {"userId": 492, "accountId": 528}}, Identity(user_id=492, account_id=528)),
        ({"Authenticated": True, "SessionToken": "token", "UserId": 10}, Identity(user_id=10)),
        ({"Authenticated": True, "User": {"UserId": "492", "UserName": 5}}, Identity(user_id=492, user_name="5")),
        ({"Authenticated": True, "User": {}, "UserId": 10}, Identity(user_id=10)),
        ({"Authenticated": True, "authenticated": True}, Identity()),
        ({"Authenticated": True, "Requires2FA": False}, Identity()),
    ],
)
def test_a_good_answer_tells_who_it_is(answer: Any, identity: Identity) -> None:
    login = read_login(LOGIN_CALL, 2, answer)
    assert login.identity == identity
    assert not login.requires_2fa
    assert "token" not in repr(login).replace("session_token", "")


LOGIN_CALL = login_call(ALICE, "1")
UNKNOWN = "a shape that nobody knows"


@pytest.mark.parametrize(
    ("answer", "locked", "reason"),
    [
        ({"authenticated": False, "locked": False, "errormsg": "Invalid username or password"}, False, "Invalid"),
        ({"authenticated": False, "locked": True, "errormsg": None}, True, "no reason given"),
        ({"Authenticated": False, "Requires2FA": True}, False, "no reason given"),
        ({}, False, "no reason given"),
        ({"Authenticated": "true"}, False, UNKNOWN),
        ({"Authenticated": 1}, False, UNKNOWN),
        ({"Authenticated": True, "Requires2FA": 1}, False, UNKNOWN),
        ({"Authenticated": True, "Requires2FA": "true"}, False, UNKNOWN),
        ({"authenticated": False, "Authenticated": True}, False, UNKNOWN),
        ({"Authenticated": True, "User": {"UserId": True}}, False, UNKNOWN),
        ({"Authenticated": True, "User": {"UserId": -5}}, False, UNKNOWN),
        ({"Authenticated": True, "User": {"OMSId": "1_0"}}, False, UNKNOWN),
        # An int computed from this would hold the loop for minutes.
        ({"Authenticated": True, "UserId": Decimal("1E+99999999")}, False, UNKNOWN),
        ([], False, UNKNOWN),
        ("Endpoint Not Found", False, UNKNOWN),
    ],
)
def test_anything_but_a_clear_yes_is_a_refusal(answer: Any, locked: bool, reason: str) -> None:
    with pytest.raises(AuthenticationFailed, match=reason) as caught:
        read_login(LOGIN_CALL, 2, answer)
    assert (caught.value.locked, caught.value.requires_two_factor) == (locked, False)
    assert (caught.value.function, caught.value.sequence) == ("AuthenticateUser", 2)


class Gateway:
    """A scripted gateway: answers logins from a list, function by function, and every other call well."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.arrived: list[tuple[str, dict[str, Any]]] = []
        self.cut_on = "Cut"

    async def __call__(self, socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            name = frame["n"]
            self.arrived.append((name, json.loads(frame["o"])))
            if name == self.cut_on:
                socket.transport.abort()
                return
            answers = self.answers.get(name)
            await socket.send(reply(request, answers.pop(0) if answers else GOOD))

    @property
    def functions(self) -> list[str]:
        return [name for name, _ in self.arrived]


YES = (
    '{"Authenticated":true,"SessionToken":"token-1","User":{"UserId":492,"UserName":"alice","AccountId":528,"OMSId":3}}'
)
ASKS_2FA = '{"Authenticated":true,"User":{"UserId":492,"AccountId":528,"OMSId":3},"Requires2FA":true}'
YES_2FA = '{"Authenticated":true,"UserId":492,"SessionToken":"token-1"}'
FLAT = '{"Authenticated":true,"SessionToken":"token-2","UserId":492}'
NO = '{ "Authenticated": false }'


async def test_an_api_key_signs_in_with_four_strings_and_a_new_nonce_each_time() -> None:
    gateway = Gateway(AuthenticateUser=['{"Authenticated":true}', '{"Authenticated":true}'])
    credentials = ApiKey("the key", "the secret", 96)
    async with scripted(gateway) as url, Client(url, credentials, reconnect=SOON, timeout=5) as client:
        assert client.identity == Identity(user_id=96)
        with pytest.raises(ConnectionLost):
            await client.call("Cut")
        await client.call("Next")
    logins = [fields for name, fields in gateway.arrived if name == "AuthenticateUser"]
    assert len(logins) == 2
    for fields in logins:
        assert list(fields) == ["APIKey", "Signature", "UserId", "Nonce"]
        assert all(isinstance(value, str) for value in fields.values())
        assert fields["Signature"] == signature(credentials, fields["Nonce"])
    assert int(logins[1]["Nonce"]) > int(logins[0]["Nonce"])


async def test_a_session_token_signs_in_and_a_dead_one_is_final() -> None:
    gateway = Gateway(WebAuthenticateUser=[FLAT, NO])
    async with scripted(gateway) as url, Client(url, SessionToken("token"), reconnect=SOON, timeout=5) as client:
        assert client.identity == Identity(user_id=492)
        with pytest.raises(ConnectionLost):
            await client.call("Cut")
        with pytest.raises(AuthenticationFailed):
            await client.call("Next")
    assert gateway.arrived == [
        ("WebAuthenticateUser", {"SessionToken": "token"}),
        ("Cut", {}),
        ("WebAuthenticateUser", {"SessionToken": "token"}),
    ]


async def code_later() -> str:
    await asyncio.sleep(0)
    return "012345"


@pytest.mark.parametrize("two_factor", [lambda: "012345", code_later], ids=["function", "coroutine function"])
async def test_a_second_factor_is_asked_for_on_the_same_socket_and_ready_comes_after_it(two_factor: Any) -> None:
    gateway = Gateway(AuthenticateUser=[ASKS_2FA], Authenticate2FA=[YES_2FA])
    async with scripted(gateway) as url, Client(url, Password("alice", "a password", two_factor)) as client:
        assert client.identity == Identity(user_id=492, account_id=528, oms_id=3)
        await client.call("F")
    assert gateway.arrived == [
        ("AuthenticateUser", {"UserName": "alice", "Password": "a password"}),
        ("Authenticate2FA", {"Code": "012345"}),
        ("F", {}),
    ]


async def test_a_second_factor_that_nobody_gives_is_a_refusal_tried_once() -> None:
    gateway = Gateway(AuthenticateUser=[ASKS_2FA])
    async with scripted(gateway) as url:
        client = Client(url, ALICE)
        with pytest.raises(AuthenticationFailed, match="a second factor is required") as caught:
            await client.connect()
        assert caught.value.requires_two_factor
        with pytest.raises(AuthenticationFailed, match="^F was not sent: .*a second factor is required") as caught:
            await client.call("F")
        assert (caught.value.requires_two_factor, caught.value.function) == (True, "F")
    assert gateway.functions == ["AuthenticateUser"]


def break_down() -> str:
    raise LookupError("no code")


async def cancel_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return ""


@pytest.mark.parametrize(
    ("two_factor", "answer", "sentence"),
    [
        (lambda: "000000", NO, "the exchange refused the login: no reason given"),
        (lambda: "000000", ASKS_2FA, "the exchange asks for a further second factor"),
        (lambda: 12345, "", "two_factor must return the code as text"),
        (break_down, "", "two_factor raised LookupError"),
        (cancel_itself, "", "two_factor raised RuntimeError"),
    ],
)
async def test_a_second_factor_that_fails_is_a_refusal(two_factor: Any, answer: str, sentence: str) -> None:
    gateway = Gateway(AuthenticateUser=[ASKS_2FA], Authenticate2FA=[answer])
    async with scripted(gateway) as url:
        with pytest.raises(AuthenticationFailed, match=f"^{sentence}$") as caught:
            await Client(url, Password("alice", "a password", two_factor)).connect()
    assert caught.value.requires_two_factor
    assert gateway.functions.count("AuthenticateUser") == 1


async def test_looking_for_a_code_takes_nothing_from_the_time_of_the_login() -> None:
    async def code() -> str:
        await asyncio.sleep(0.3)
        return "012345"

    async def never() -> str:
        await asyncio.sleep(60)
        return ""

    secret = pyotp.random_base32()
    async with SimulatedExchange() as exchange:
        exchange.add_user("careful", "a password", account_id=8, totp_secret=secret)
        for patience, error in ((None, ConnectFailed), (5, AuthenticationFailed)):  # the code is a wrong one
            login = Password("careful", "a password", code, two_factor_timeout=patience)
            with pytest.raises(error):
                await Client(exchange.url, login, connect_timeout=0.2).connect()
        login = Password("careful", "a password", never, two_factor_timeout=0.3)
        with pytest.raises(ConnectFailed):
            await asyncio.wait_for(Client(exchange.url, login).connect(), 5)
        login = Password("careful", "a password", lambda: pyotp.TOTP(secret).now(), two_factor_timeout=60)
        with exchange.faults.mute(function="Authenticate2FA"), pytest.raises(ConnectFailed):
            await asyncio.wait_for(Client(exchange.url, login, connect_timeout=0.2).connect(), 5)
    with pytest.raises(InvalidArguments, match="two_factor_timeout must be a positive number of seconds, not 0"):
        Password("careful", "a password", code, two_factor_timeout=0)


async def test_after_a_second_factor_a_reconnect_uses_the_token_while_it_lives_and_then_asks_again() -> None:
    gateway = Gateway(
        AuthenticateUser=[ASKS_2FA, ASKS_2FA], Authenticate2FA=[YES_2FA, YES_2FA], WebAuthenticateUser=[FLAT, NO]
    )
    codes = iter(["111111", "222222"])
    credentials = Password("alice", "a password", lambda: next(codes))
    async with scripted(gateway) as url, Client(url, credentials, reconnect=SOON, timeout=5) as client:
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await client.call("Cut")
            await client.call("Next")
            assert client.identity == Identity(user_id=492, account_id=528, oms_id=3)
    assert gateway.arrived == [
        ("AuthenticateUser", {"UserName": "alice", "Password": "a password"}),
        ("Authenticate2FA", {"Code": "111111"}),
        ("Cut", {}),
        ("WebAuthenticateUser", {"SessionToken": "token-1"}),
        ("Next", {}),
        ("Cut", {}),
        ("WebAuthenticateUser", {"SessionToken": "token-2"}),
        ("AuthenticateUser", {"UserName": "alice", "Password": "a password"}),
        ("Authenticate2FA", {"Code": "222222"}),
        ("Next", {}),
    ]


@pytest.mark.parametrize("token", ['""', r'"\ud800"'], ids=["empty", "no text"])
async def test_a_token_that_no_login_could_send_is_none_and_the_session_goes_on(token: str) -> None:
    second = f'{{"Authenticated":true,"UserId":492,"SessionToken":{token}}}'
    gateway = Gateway(AuthenticateUser=[ASKS_2FA, ASKS_2FA], Authenticate2FA=[second, second])
    credentials = Password("alice", "a password", lambda: "111111")
    async with scripted(gateway) as url, Client(url, credentials, reconnect=SOON, timeout=5) as client:
        with pytest.raises(ConnectionLost):
            await client.call("Cut")
        await client.call("Next")
    login = ["AuthenticateUser", "Authenticate2FA"]
    assert gateway.functions == [*login, "Cut", *login, "Next"]


async def test_a_token_refused_because_the_user_is_locked_is_followed_by_nothing() -> None:
    gateway = Gateway(
        AuthenticateUser=[ASKS_2FA],
        Authenticate2FA=[YES_2FA],
        WebAuthenticateUser=['{"authenticated":false,"locked":true}'],
    )
    credentials = Password("alice", "a password", lambda: "111111")
    async with scripted(gateway) as url, Client(url, credentials, reconnect=SOON, timeout=5) as client:
        with pytest.raises(ConnectionLost):
            await client.call("Cut")
        with pytest.raises(AuthenticationFailed) as caught:
            await client.call("Next")
    assert caught.value.locked
    assert gateway.functions == ["AuthenticateUser", "Authenticate2FA", "Cut", "WebAuthenticateUser"]


async def test_a_token_once_refused_is_not_tried_again_though_what_came_after_it_failed() -> None:
    gateway = Gateway(AuthenticateUser=[ASKS_2FA], Authenticate2FA=[YES_2FA, YES_2FA], WebAuthenticateUser=[NO])
    credentials = Password("alice", "a password", lambda: "111111")
    async with scripted(gateway) as url, Client(url, credentials, reconnect=SOON, timeout=5) as client:
        with pytest.raises(ConnectionLost):
            await client.call("Cut")
        gateway.cut_on = "AuthenticateUser"
        with pytest.raises(NotConnected):
            await client.call("F", timeout=0.2)
        gateway.answers["AuthenticateUser"] = [ASKS_2FA]
        gateway.cut_on = "Cut"
        await client.call("Next")
    assert gateway.functions.count("WebAuthenticateUser") == 1
    assert gateway.functions.count("AuthenticateUser") >= 3


async def test_a_token_whose_answer_was_lost_is_used_again_and_no_code_is_asked_for() -> None:
    gateway = Gateway(AuthenticateUser=[ASKS_2FA], Authenticate2FA=[YES_2FA], WebAuthenticateUser=[FLAT, FLAT])
    asked: list[str] = []

    def two_factor() -> str:
        asked.append("")
        return "111111"

    async with (
        scripted(gateway) as url,
        Client(url, Password("a", "b", two_factor), reconnect=SOON, timeout=5) as client,
    ):
        with pytest.raises(ConnectionLost):
            await client.call("Cut")
        gateway.cut_on = "WebAuthenticateUser"
        with pytest.raises(NotConnected):
            await client.call("F", timeout=0.2)
        gateway.cut_on = "Cut"
        await client.call("Next")
    assert gateway.functions.count("WebAuthenticateUser") >= 2
    assert len(asked) == 1


async def test_a_second_factor_that_will_not_be_cancelled_holds_up_neither_close_nor_the_timeout() -> None:
    asked, end = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        asked.set()
        while not end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await end.wait()
        return "012345"

    gateway = Gateway(AuthenticateUser=[ASKS_2FA] * 3)
    async with scripted(gateway) as url:
        client = Client(url, Password("alice", "a password", stubborn), connect_timeout=0.1)
        with pytest.raises(ConnectFailed, match=r"within 0\.1 s"):
            await client.connect()
        client = Client(url, Password("alice", "a password", stubborn), connect_timeout=60)
        connecting = asyncio.create_task(client.connect())
        asked.clear()
        await asked.wait()
        await asyncio.wait_for(client.close(), 2)
        with pytest.raises(NotConnected):
            await connecting
        end.set()
        await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("way", ["m=5", "errormsg", "close reason"])
async def test_a_login_that_the_gateway_echoes_is_not_shown(way: str, caplog: pytest.LogCaptureFixture) -> None:
    async def echo(socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            if way == "m=5":
                await socket.send(json.dumps({"m": 5, "i": frame["i"], "n": frame["n"], "o": f"Bad: {frame['o']}"}))
            elif way == "errormsg":
                no = json.dumps({"Authenticated": False, "errormsg": f"Bad: {request!s}"})
                await socket.send(reply(request, no))
            else:
                await socket.close(1008, frame["o"])

    canary = f'{secrets.token_hex(4)}"{secrets.token_hex(4)}'  # the quotation mark makes for escapes
    async with scripted(echo) as url:
        with pytest.raises((AuthenticationFailed, ConnectFailed)) as caught:
            await Client(url, Password("alice", canary), reconnect=SOON).connect()
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert not [part for part in canary.split('"') if part in shown]
    assert ("***" in shown) == (way != "close reason")


async def test_a_logout_event_in_one_breath_with_the_logins_answer_is_not_missed() -> None:
    connections = 0

    async def breathless(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        login = await socket.recv()
        socket.protocol.send_text(reply(login, YES).encode())
        if connections == 1:
            socket.protocol.send_text(b'{"m":3,"i":2,"n":"LogoutEvent","o":"{}"}')
        socket.transport.write(b"".join(socket.protocol.data_to_send()))
        await answer_all(socket)

    async with scripted(breathless) as url, Client(url, ALICE, reconnect=SOON, timeout=5) as client:
        await client.call("F")
    assert connections == 2


async def test_two_clients_that_throw_each_other_out_do_not_log_in_at_full_pace() -> None:
    logins: list[float] = []
    enough = asyncio.Event()

    async def throw_out(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(reply(request, YES if "Authenticate" in str(request) else GOOD))
            if "Authenticate" in str(request):
                logins.append(asyncio.get_running_loop().time())
                if len(logins) == 6:
                    enough.set()
            else:
                await socket.send('{"m":3,"i":2,"n":"LogoutEvent","o":"{}"}')

    async with scripted(throw_out) as url, Client(url, ALICE, reconnect=Backoff(first=0.01, cap=10)) as client:
        while not enough.is_set():
            await asyncio.gather(client.call("F"), return_exceptions=True)
    assert logins[-1] - logins[0] >= 0.31


async def test_log_out_ends_the_login_and_closes_the_client() -> None:
    gateway = Gateway(AuthenticateUser=[YES])
    async with scripted(gateway) as url:
        client = Client(url, ALICE)
        await client.connect()
        with pytest.raises(InvalidArguments):
            await client.log_out(timeout=-1)
        assert str(client.state) == "ready"
        assert (await client.log_out()).is_accepted
        assert client.state is SessionState.CLOSED
        with pytest.raises(NotConnected):
            await client.call("F")
        with pytest.raises(NotConnected):
            await client.log_out()
    assert gateway.arrived[1:] == [("LogOut", {})]


async def test_a_log_out_ends_in_its_own_time_and_says_in_whose_name() -> None:
    async def mute(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with scripted(mute) as url:
        client = Client(url)
        await client.connect()
        with pytest.raises(CallTimeout, match=r"^LogOut got no reply within 0\.05 s"):
            await client.log_out(timeout=0.05)
        await client.connect()
    await client.wait_for_state(SessionState.RECONNECTING, timeout=5)
    with pytest.raises(NotConnected, match=r"^LogOut was not sent: there was no session within 0\.05 s \(") as caught:
        await client.log_out(timeout=0.05)
    assert caught.value.function == "LogOut"
    assert client.state is SessionState.CLOSED


async def test_a_log_out_that_a_full_connection_never_took_goes_out_on_the_next_one() -> None:
    connections = 0
    waits = asyncio.Event()

    async def full_at_first(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            socket.transport.pause_reading()
            await waits.wait()
            socket.transport.abort()
        await answer_all(socket)

    async with scripted(full_at_first) as url:
        client = Client(url, reconnect=SOON, timeout=5)
        await client.connect()
        big = asyncio.create_task(client.call("Big", {"blob": "x" * 2**23}))
        await anyio.wait_all_tasks_blocked()
        leaving = asyncio.create_task(client.log_out())
        await anyio.wait_all_tasks_blocked()
        assert client.stats.sent == 1
        waits.set()
        with pytest.raises(ConnectionLost):
            await big
        assert (await leaving).is_accepted
        assert (connections, client.state) == (2, SessionState.CLOSED)


async def test_our_own_logout_event_does_not_cut_off_the_answer() -> None:
    async def eventful(socket: ServerConnection) -> None:
        async for request in socket:
            if "LogOut" in str(request):
                await socket.send('{"m":3,"i":2,"n":"LogoutEvent","o":"{}"}')
            await socket.send(reply(request, YES if "Authenticate" in str(request) else GOOD))

    async with scripted(eventful) as url, Client(url, ALICE) as client:
        assert (await client.log_out()).is_accepted


@pytest.mark.parametrize("name", ["LogoutEvent", "logoutevent"])
async def test_a_logout_event_means_a_new_login_on_a_new_connection(name: str) -> None:
    connections: list[ServerConnection] = []
    arrived: list[tuple[int, str]] = []

    async def throw_out(socket: ServerConnection) -> None:
        connections.append(socket)
        async for request in socket:
            function = json.loads(request)["n"]
            arrived.append((len(connections), function))
            if function == "Held":
                await socket.send(f'{{"m":3,"i":4,"n":"{name}","o":"{{}}"}}')
            else:
                await socket.send(reply(request, YES if "Authenticate" in function else GOOD))

    async with scripted(throw_out) as url, Client(url, ALICE, reconnect=SOON, timeout=5) as client:
        with pytest.raises(ConnectionLost, match=r"\(the exchange logged us out\)"):
            await client.call("Held")
        await client.call("Next")
    assert arrived == [(1, "AuthenticateUser"), (1, "Held"), (2, "AuthenticateUser"), (2, "Next")]
    assert connections[0].close_code is not None


@pytest.mark.parametrize("script", ["refuse", "lose", "mute", "garble", "work", "asks", "plain"])
async def test_no_secret_is_in_any_log_repr_traceback_or_pickle(script: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    canaries = {kind: secrets.token_hex(8) for kind in ("password", "secret", "token", "code", "answer")}

    token = f'"SessionToken":"{canaries["answer"]}"'
    answers = {
        "garble": f"{{{token},",
        "refuse": f'{{"Authenticated":false,{token}}}',
        "asks": f'{{"Authenticated":true,"Requires2FA":true,{token}}}',
        "work": f'{{"Authenticated":true,{token}}}',
    }

    async def gateway(socket: ServerConnection) -> None:
        async for request in socket:
            if script == "lose":
                socket.transport.abort()
            elif script == "plain":
                await socket.send('{"m":5,"i":2,"n":"AuthenticateUser","o":"Endpoint Not Found"}')
            elif script in answers:
                second = "Authenticate2FA" in str(request)
                await socket.send(reply(request, answers["work" if second else script]))

    shown: list[str] = []
    everybody: list[ApiKey | Password | SessionToken] = [
        Password("alice", canaries["password"], lambda: canaries["code"]),
        ApiKey("the key", canaries["secret"], 96),
        SessionToken(canaries["token"]),
    ]
    for credentials in everybody:
        async with scripted(gateway) as url:
            client = Client(url, credentials, connect_timeout=0.2, timeout=0.2)
            try:
                async with client:
                    shown += [repr(client), repr(client.identity), repr(client.stats), repr(vars(client._session))]
                    if script == "work":
                        await client.call("AuthenticateUser", {"UserName": "a", "Password": canaries["password"]})
            except (AuthenticationFailed, ConnectFailed) as error:
                shown += [str(error), repr(vars(error)), "".join(traceback.format_exception(error))]
                shown.append(pickle.dumps(error).decode("latin-1"))
        shown += [repr(credentials), repr(client), repr(login_call(credentials, "1")), repr(client._session._settings)]
        assert copy.deepcopy(credentials) is copy.copy(credentials) is credentials
        for thing in (credentials, client):
            with pytest.raises(TypeError):
                pickle.dumps(thing)
    text = "\n".join([caplog.text, *shown])
    assert [kind for kind, canary in canaries.items() if canary in text] == []
    assert "asyncio" in caplog.text  # the loggers were listened to


async def test_the_answer_of_a_login_made_by_call_is_not_quoted() -> None:
    async def garble(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(reply(request, '{"SessionToken":"a-canary",'))

    async with scripted(garble) as url, Client(url) as client:
        for function in ("AuthenticateUser", "WebAuthenticateUser", "Authenticate2FA"):
            with pytest.raises(UnexpectedReply) as caught:
                await client.call(function, {})
            assert "a-canary" not in repr(vars(caught.value)) + str(caught.value)


async def test_fifty_clients_with_fifty_users_never_mix() -> None:
    users: dict[ServerConnection, str] = {}

    async def know(socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            fields = json.loads(frame["o"])
            if frame["n"] == "AuthenticateUser":
                users[socket] = fields["UserName"]
                number = int(fields["UserName"].removeprefix("user-"))
                assert fields["Password"] == f"password-{number}"
                yes = {"Authenticated": True, "User": {"UserId": number, "AccountId": number + 1000, "OMSId": 1}}
                await socket.send(reply(request, json.dumps(yes)))
            else:
                await socket.send(reply(request, json.dumps({"who": users[socket], "asked": fields})))

    async with scripted(know) as url:
        clients = [Client(url, Password(f"user-{n}", f"password-{n}"), timeout=30) for n in range(50)]
        await asyncio.gather(*(client.connect() for client in clients))
        for _ in range(5):
            answers = await asyncio.gather(
                *(client.call("WhoAmI", {"n": n, "k": k}) for k in range(4) for n, client in enumerate(clients))
            )
            assert answers == [{"who": f"user-{n}", "asked": {"n": n, "k": k}} for k in range(4) for n in range(50)]
        assert [client.identity.user_id for client in clients if client.identity] == list(range(50))
        await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize("script", [answer_all])
async def test_no_call_goes_out_before_the_login_is_answered(
    script: Callable[[ServerConnection], Awaitable[None]],
) -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(socket: ServerConnection) -> None:
        login = await socket.recv()
        asked.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await socket.recv()
        go_on.set()
        await socket.send(reply(login, YES))
        await script(socket)

    async with scripted(slow) as url:
        client = Client(url, ALICE)
        connecting = asyncio.create_task(client.connect())
        await asked.wait()
        await client.call("F")
        assert go_on.is_set()
        await connecting
        await client.close()


async def lose(client: Client, cut: Callable[[], Awaitable[None]]) -> None:
    """Cut, and come back when the client has noticed."""
    noticed = asyncio.create_task(client.wait_for_state(SessionState.RECONNECTING, timeout=5))
    await asyncio.sleep(0)
    await cut()
    await noticed


async def test_every_kind_of_credentials_works_against_the_simulated_exchange() -> None:
    totp_secret = pyotp.random_base32()
    asked: list[str] = []

    def code() -> str:
        asked.append(pyotp.TOTP(totp_secret).now())
        return asked[-1]

    async with SimulatedExchange() as exchange:
        robot = exchange.add_user("robot", "x", account_id=7, user_id=96, api_key="the key", api_secret="the secret")
        careful = exchange.add_user("careful", "a password", account_id=8, totp_secret=totp_secret)
        for credentials in (ApiKey("the key", "the secret", 96), Password("robot", "x")):
            async with Client(exchange.url, credentials, reconnect=SOON, timeout=5) as client:
                ticket = exchange.add_withdraw(account_id=7, amount="1")
                assert client.identity is not None
                assert client.identity.user_id == robot.user_id
                await exchange.cut_now()
                assert (await client.cancel_withdraw(account_id=7, request_code=ticket.request_code)).is_accepted
                assert (await client.log_out()).is_accepted

        async with Client(exchange.url, Password("careful", "a password", code), reconnect=SOON, timeout=5) as client:
            assert client.identity is not None
            assert client.identity.user_id == careful.user_id
            await lose(client, lambda: exchange.cut_now(1001))
            await client.call("GetWithdraws", {"OMSId": 1, "AccountId": 8})
            assert len(asked) == 1  # the token served
            exchange.faults.expire_token()
            await lose(client, lambda: exchange.cut_now(1001))
            await client.call("GetWithdraws", {"OMSId": 1, "AccountId": 8})
            assert len(asked) == 2  # it had died
            exchange.log_out_everybody()
            async for state in client.states():
                if state is SessionState.RECONNECTING:
                    break
            await client.call("GetWithdraws", {"OMSId": 1, "AccountId": 8})


async def test_a_client_never_locks_its_user_by_itself(exchange: SimulatedExchange) -> None:
    wrong = Password("alice", "a wrong password")
    for attempt in range(1, 6):
        with pytest.raises(AuthenticationFailed) as caught:
            await Client(exchange.url, wrong, reconnect=SOON).connect()
        assert len(exchange.journal) == attempt  # one login for one `connect`, whatever the answer
        assert not caught.value.locked
    with pytest.raises(AuthenticationFailed) as caught:
        await Client(exchange.url, wrong).connect()
    assert caught.value.locked


async def test_a_login_refused_for_a_while_at_a_reconnect_is_not_tried_again(exchange: SimulatedExchange) -> None:
    async with Client(exchange.url, Password("alice", "a password of alice"), reconnect=SOON, timeout=5) as client:
        with exchange.faults.refuse_login():
            await exchange.cut_now()
            await client.wait_for_state(SessionState.FAILED, timeout=5)
        with pytest.raises(AuthenticationFailed):
            await client.call("Ping")
        assert [arrival.function for arrival in exchange.journal] == ["AuthenticateUser"] * 2
        await client.connect()  # its owner decides to try again
        assert await client.call("Ping") == {"msg": "PONG"}
