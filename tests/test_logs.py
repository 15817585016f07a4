"""The logs: every frame without its secrets on `aioalphapoint.wire`, the life of the session on `aioalphapoint`."""

import asyncio
import json
import logging
import pickle
import re
import secrets as chance
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    ApiKey,
    AuthenticationFailed,
    Backoff,
    CallTimeout,
    Client,
    ConnectionLost,
    NotConnected,
    Password,
    SessionState,
    SessionToken,
)
from aioalphapoint._envelope import Envelope, MessageType
from aioalphapoint._secrets import Secrets, _is_private, is_private, without_keys, without_secrets
from aioalphapoint._wire import Wire
from aioalphapoint.testing import SimulatedExchange
from conftest import ALICE
from scripted import answer_all, raw, reply, scripted

SOON = Backoff(first=0.01, cap=0.05)
YES = '{"Authenticated":true,"User":{"UserId":492,"AccountId":7,"OMSId":1},"SessionToken":"%s"}'


@pytest.fixture(autouse=True)
def every_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def wire(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Give the records of frames, without the host."""
    return [record.message.split(" ", 1)[1] for record in caplog.records if record.name == "aioalphapoint.wire"]


# Frames.


async def test_each_frame_is_one_record_and_until_the_login_is_through_only_an_outline(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(exchange.url, ALICE) as client:
        await client.ping()
    frames = [record.message for record in caplog.records if record.name == "aioalphapoint.wire"]
    assert all(frame.startswith(f"{exchange.url.removesuffix('/WSGateway/')} ") for frame in frames)
    login, answer, *rest = wire(caplog)
    assert login == f"> AuthenticateUser 2, {len(LOGIN)} bytes, not shown (login)"
    assert answer.startswith("< REPLY 2, ")
    assert rest == [r'> {"m":0,"i":4,"n":"Ping","o":"{}"}', r'< {"m":1,"i":4,"n":"Ping","o":"{\"msg\":\"PONG\"}"}']
    assert {record.levelno for record in caplog.records if record.name == "aioalphapoint.wire"} == {logging.DEBUG}


LOGIN = r'{"m":0,"i":2,"n":"AuthenticateUser","o":"{\"UserName\":\"alice\",\"Password\":\"a password of alice\"}"}'


async def test_what_is_no_frame_shows_its_size_and_a_long_frame_its_length(caplog: pytest.LogCaptureFixture) -> None:
    async def babble(socket: ServerConnection) -> None:
        request = await socket.recv()
        await socket.send("no-frame-text")
        await socket.send(b"binary-text")
        await socket.send(reply(request, json.dumps("x" * 5000)))
        await answer_all(socket)

    async with scripted(babble) as url, Client(url) as client:
        await client.call("F")
        text, binary, long = wire(caplog)[1:]
    assert (text, binary) == ("< no frame, 13 bytes", "< no frame, 11 bytes")
    assert re.fullmatch(r"< .{2000}\.\.\. \(\d{4} characters\)", long)


def test_a_frame_too_large_to_be_searched_shows_its_outline(caplog: pytest.LogCaptureFixture) -> None:
    shown = Wire("host", Secrets())
    shown.open()
    shown.received(Envelope(MessageType.REPLY, 4, "F", "[]"), 2**18 + 1)
    assert wire(caplog) == ["< REPLY 4, 262145 bytes, not shown (too large)"]


async def test_no_control_character_reaches_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    evil = "\x1b[2J\u202e\x7f\n\x9b"

    async def attack(socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            await socket.send(json.dumps({"m": 3, "i": 2, "n": evil, "o": evil}, ensure_ascii=False))
            await socket.send(json.dumps({"m": 1, "i": frame["i"], "n": evil, "o": evil}, ensure_ascii=False))

    async with scripted(attack) as url, Client(url) as client:
        await client.call(evil)
        await client.call(f"Authenticate{evil}")
    assert len(wire(caplog)) == 6
    assert all(line.isascii() and line.isprintable() for line in wire(caplog))


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ('{"Password":"canary"}', '{"Password":"***"}'),
        ('{"PASSWORD":"canary","a":[{"sessiontoken":"canary"}]}', '{"PASSWORD":"***","a":[{"sessiontoken":"***"}]}'),
        ('{"Code":"canary","RequestCode":"r","errorcode":0}', '{"Code":"***","RequestCode":"r","errorcode":0}'),
        ('{"Code":123456,"WithdrawCode":"w"}', '{"Code":"***","WithdrawCode":"w"}'),
        ('{"APISecret":{"deep":["canary"]}}', '{"APISecret":"***"}'),
        ('{"TwoFAToken":null,"Use2FA":false}', '{"TwoFAToken":null,"Use2FA":false}'),
        (r'{"detail":"{\"Signature\":\"canary\",\"a\":1}"}', r'{"detail":"{\"Signature\":\"***\",\"a\":1}"}'),
        (r'["[\"{\\\"APIKey\\\":\\\"canary\\\"}\"]"]', r'["[\"{\\\"APIKey\\\":\\\"***\\\"}\"]"]'),
        (r'{"Pass\u0077ord":"canary"}', '{"Password":"***"}'),
        ('{"SessionToken":"canary"', "***"),
        ('{"a":1,"a":"canary"}', "***"),
        (r'{"errormsg":"Bad: {\"Password\":\"canary\"}"}', '{"errormsg":"***"}'),
        ("token = canary", "***"),
        ("Invalid username or password", "Invalid username or password"),
        ("Endpoint Not Found", "Endpoint Not Found"),
        ('{"Amount":0.0010000000000000000000000000}', '{"Amount":0.0010000000000000000000000000}'),
        ("", ""),
        ("[" * 100 + '"canary"' + "]" * 100, None),
    ],
)
def test_what_stands_under_a_secrets_key_is_replaced(payload: str, shown: str | None) -> None:
    assert shown is None or without_keys(payload) == shown
    assert "canary" not in without_keys(payload)


def escapes(text: str) -> Iterator[str]:
    """Give the ways in which a server may write a text inside a JSON string."""
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield "".join(f"\\u{ord(letter):04X}" if ord(letter) < 2**16 else letter for letter in text)
    yield json.dumps(text)[1:-1].replace("/", r"\/").replace("&", r"\u0026")


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=4).filter(lambda secret: "*" not in secret),
    st.lists(st.integers(0, 3), max_size=4),
)
@example('pass"word', [0, 0, 0, 0])
@example("tom&jerry/\u00fc\\", [3, 2, 1, 3])
def test_a_known_secret_is_found_however_it_is_escaped(secret: str, ways: list[int]) -> None:
    text = secret
    for way in ways:
        text = list(escapes(text))[way]
    shown = without_secrets(f"<{text}>", [secret])
    assert "***" in shown
    assert secret not in shown
    with suppress(json.JSONDecodeError):  # what is left of the text need not be JSON any more
        for _ in ways:
            shown = json.loads(f'"{shown}"', strict=False)
            assert secret not in shown


def test_a_secret_inside_another_leaves_no_rest_of_it_and_what_is_escaped_too_deep_is_withheld() -> None:
    assert without_secrets("a-token-and-more, a-token", ["a-token", "a-token-and-more"]) == "***, ***"
    assert without_secrets("nothing\\" * 2 + "\\" * 200, ["canary"]) == "***"
    assert without_secrets("as it was", []) == "as it was"


def test_what_is_learnt_is_bounded_and_what_is_kept_is_never_forgotten() -> None:
    known = Secrets(["the password"])
    for number in range(1000):
        known.learn(f'{{"SessionToken":"token number {number:04}","UserId":7,"Locked":false,"TwoFAToken":""}}')
    assert known.out_of("the password, token number 0999, token number 0899, 7") == "***, ***, token number 0899, 7"
    assert repr(known) == "<Secrets, 101 known>"


def test_no_login_is_taken_for_something_else() -> None:
    assert all(map(is_private, ["AuthenticateUser", "webauthenticateuser", "Authenticate2FA", "ResetPassword"]))
    assert not any(map(is_private, ["CancelWithdraw", "GetWithdrawTickets", "Ping", "LogOut"]))
    remembered = _is_private.cache_info().currsize
    assert is_private("x" * 1000 + "Authenticate2FA")
    assert not is_private("x" * 1000)
    assert _is_private.cache_info().currsize == remembered


def everybody(canary: str) -> list[ApiKey | Password | SessionToken]:
    return [
        Password("alice", f"password-{canary}", lambda: f"code-{canary}"),
        ApiKey(f"key-{canary}", f"secret-{canary}", 96),
        SessionToken(f"given-{canary}"),
    ]


def echoes(words: str, request: str | bytes) -> list[str]:
    """Give frames that say the words in every place of a frame that an exchange fills."""
    frame = json.loads(request)
    quoted = json.dumps({"a": json.dumps({"b": words})})
    return [
        json.dumps({"m": 3, "i": 2, "n": "E", "o": words}),
        json.dumps({"m": 3, "i": 4, "n": words, "o": quoted}),
        json.dumps({"m": 3, "i": 6, "n": "E", "o": json.dumps({words: json.dumps(str(request))})}),
        json.dumps({"m": 1, "i": frame["i"], "n": words, "o": quoted}),
        json.dumps({"m": 1, "i": frame["i"], "n": "F", "o": json.dumps(f"Bad: {words} {request!s}")}),  # doubled
        json.dumps({"m": 5, "i": 1, "n": "F", "o": f"{words} {request!s}"}),
    ]


@pytest.mark.parametrize("kind", [0, 1, 2])
async def test_no_secret_is_in_any_log_though_the_exchange_echoes_all_it_ever_heard(
    kind: int, caplog: pytest.LogCaptureFixture
) -> None:
    canary = f'{chance.token_hex(4)}"\u00fc/{chance.token_hex(4)}'  # the middle makes for escapes
    credentials = everybody(canary)[kind]
    heard = [credentials.secret] if isinstance(credentials, ApiKey) else []  # never sent, but the exchange knows it
    last_login: list[str] = []

    async def echo(socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            fields = json.loads(frame["o"])
            if "Authenticate" in frame["n"]:
                heard.extend(value for key, value in fields.items() if key not in ("UserId", "UserName", "Nonce"))
                heard.append(f"token-{len(heard)}-{canary}")
                answer = json.loads(YES % "x") | {"SessionToken": heard[-1], "Requires2FA": "Password" in fields}
                for text in echoes(heard[-1], request)[:3] if not last_login else []:  # what nobody can know yet
                    await socket.send(text)
                last_login[:] = [reply(request, json.dumps(answer))]
                await socket.send(last_login[0])
            else:
                await socket.send(last_login[0])  # late, and doubled
                await socket.send(last_login[0].replace("true", "tru"))
                for words in heard:
                    for text in echoes(words, request):
                        await socket.send(text)

    async with scripted(echo) as url, Client(url, credentials) as client:
        await client.call("F")
        await client.call("AuthenticateUser", {"UserName": "a", "Password": f"other-{canary}"})
        await client.call("G")
        await client.ping()
    assert len(heard) >= 4
    assert len(wire(caplog)) > 50
    shown = caplog.text + json.loads(f'"{json.dumps(caplog.text)[1:-1]}"')
    assert [part for part in canary.split('"\u00fc/') if part in shown] == []
    assert [words for words in heard if words in shown] == []


async def test_logins_made_by_call_show_no_payload_either_way_their_late_replies_included(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def oracle(socket: ServerConnection) -> None:
        login = await socket.recv()
        odd = json.dumps({"m": 1, "i": 2, "n": "Other", "o": '{"Who":"canary"}'})
        await socket.send(odd)
        await socket.send(odd)
        async for request in socket:
            await socket.send(reply(login, '{"Who":"canary"}'))
            await socket.send(reply(request, '{"Who":"somebody"}'))

    async with scripted(oracle) as url, Client(url) as client:
        await client.call("WebAuthenticateUser", {"Unknown": "canary"})
        await client.call("F")
    assert "canary" not in caplog.text
    assert wire(caplog)[0].startswith("> WebAuthenticateUser 2, ")
    assert [line.split(",")[0] for line in wire(caplog) if "not shown" in line][1:] == ["< REPLY 2"] * 3
    assert "somebody" in wire(caplog)[-1]


async def test_what_is_secret_by_its_key_or_its_function_is_hidden_after_the_login_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def tell(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send('{"m":3,"i":8,"n":"WebAuthenticateEvent","o":"canary"}')
            await socket.send(reply(request, json.dumps({"APISecret": "canary", "a": '{"Token":"canary","b":1}'})))

    async with scripted(tell) as url, Client(url) as client:
        await client.call("F", {"NewPassword": "canary"})
    assert wire(caplog) == [
        r'> {"m":0,"i":2,"n":"F","o":"{\"NewPassword\":\"***\"}"}',
        "< EVENT 8, 53 bytes, not shown (login)",
        r'< {"m":1,"i":2,"n":"F","o":"{\"APISecret\":\"***\",\"a\":\"{\\\"Token\\\":\\\"***\\\",\\\"b\\\":1}\"}"}',
    ]
    assert "canary" not in caplog.text


async def test_the_token_of_a_login_whose_caller_is_gone_is_known_from_its_late_reply_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def late(socket: ServerConnection) -> None:
        login = await socket.recv()
        request = await socket.recv()
        await socket.send(reply(login, YES % "canary"))
        await socket.send('{"m":3,"i":8,"n":"canary","o":"now it is canary"}')
        await socket.send(reply(request))

    async with scripted(late) as url, Client(url) as client:
        with pytest.raises(CallTimeout):
            await client.call("AuthenticateUser", timeout=0.02)
        await client.call("F")
    assert wire(caplog)[-2] == '< {"m":3,"i":8,"n":"***","o":"now it is ***"}'


async def test_nobody_need_listen_for_the_token_of_a_late_reply_to_be_known(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    is_late = asyncio.Event()

    async def answer_late(socket: ServerConnection) -> None:
        request = await socket.recv()
        await is_late.wait()
        await socket.send(reply(request, '{"SessionToken":"canary-token"}'))
        await socket.close(4000, "bye canary-token")

    async with scripted(answer_late) as url, Client(url, reconnect=Backoff(first=5, cap=5)) as client:
        with pytest.raises(CallTimeout):
            await client.call("AuthenticateUser", {"SessionToken": ""}, timeout=0.05)
        other = asyncio.create_task(client.call("F"))
        await asyncio.sleep(0)
        is_late.set()
        with pytest.raises(ConnectionLost, match=r"close code 4000, bye \*\*\*"):
            await other
    assert "canary" not in caplog.text


async def test_a_token_is_known_to_the_close_reason_that_comes_in_the_same_bytes() -> None:
    async def answer_and_leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        payload = json.dumps('{"SessionToken":"canary"}')
        answer = f'{{"m":1,"i":2,"n":"AuthenticateUser","o":{payload}}}'.encode()
        reason = (4000).to_bytes(2, "big") + b"bye canary"
        writer.write(b"\x81" + bytes([len(answer)]) + answer + b"\x88" + bytes([len(reason)]) + reason)
        await asyncio.Event().wait()

    async with raw(answer_and_leave) as url, Client(url, reconnect=Backoff(first=5, cap=5)) as client:
        connection = client._session.current
        assert connection is not None
        await client.call("AuthenticateUser")
        assert await connection.wait_ended(timeout=5) == "close code 4000, bye ***"


async def test_only_logins_and_their_answers_are_learnt_from() -> None:
    async def tell_a_token(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(reply(request, YES % "a token"))

    async with scripted(tell_a_token) as url, Client(url) as client:
        secrets = client._session.login.secrets
        await client.call("F", {"SessionToken": "no login"})
        assert secrets.out_of("a token, no login") == "a token, no login"
        await client.call("AuthenticateUser")
        assert secrets.out_of("a token, no login") == "***, no login"


async def test_calls_of_one_turn_are_logged_in_the_order_of_their_numbers(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(answer_all) as url, Client(url) as client:
        await asyncio.gather(*(client.call("F") for _ in range(5)))
    left = [json.loads(record[2:])["i"] for record in wire(caplog) if record.startswith(">")]
    assert left == [2, 4, 6, 8, 10]


async def test_a_token_learnt_while_nobody_listened_is_known_when_somebody_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    canary = chance.token_hex(8)

    async def tell(socket: ServerConnection) -> None:
        login = await socket.recv()
        await socket.send(reply(login, YES % canary))
        async for request in socket:
            await socket.send(reply(request, json.dumps(f"it was {canary}")))

    async with scripted(tell) as url:
        caplog.set_level(logging.INFO, "aioalphapoint.wire")
        async with Client(url, ALICE) as client:
            assert wire(caplog) == []
            caplog.set_level(logging.DEBUG, "aioalphapoint.wire")
            await client.call("F")
    assert wire(caplog)[-1] == r'< {"m":1,"i":4,"n":"F","o":"\"it was ***\""}'


def test_more_logins_than_are_remembered_hide_everything(caplog: pytest.LogCaptureFixture) -> None:
    shown = Wire("host", Secrets())
    shown.open()
    for number in range(1001):
        shown.hide(Envelope(MessageType.REQUEST, number, "AuthenticateUser", "{}"))
    assert list(shown.private) == list(range(1, 1001))  # the latest: they may be waited for
    shown.received(Envelope(MessageType.REPLY, 1000, "F", '{"Who":"canary"}'), 20)
    assert "canary" not in caplog.text
    assert len(wire(caplog)) == 1


def fail(_record: logging.LogRecord) -> bool:
    raise LookupError("a filter that fails")


async def test_a_filter_that_raises_changes_no_calls_outcome(exchange: SimulatedExchange) -> None:
    log = logging.getLogger("aioalphapoint.wire")
    log.addFilter(fail)
    try:
        async with Client(exchange.url, ALICE) as client:
            assert await client.call("Ping") == {"msg": "PONG"}
            assert client.stats.reconnects == 0
    finally:
        log.removeFilter(fail)


async def test_a_filter_that_raises_is_not_the_fate_of_a_session(exchange: SimulatedExchange) -> None:
    log = logging.getLogger("aioalphapoint")
    level = log.level
    log.setLevel(logging.INFO)
    log.addFilter(fail)
    try:
        client = Client(exchange.url, ALICE, reconnect=Backoff(first=0.01, cap=0.01))
        await client.connect()
        await exchange.cut_now()
        await client.wait_for_state(SessionState.RECONNECTING, timeout=5)
        assert await client.call("Ping") == {"msg": "PONG"}
        with exchange.faults.refuse_dial(404):
            await exchange.cut_now()
            await client.wait_for_state(SessionState.FAILED, timeout=5)
        with pytest.raises(NotConnected, match="HTTP status 404"):
            await client.call("Ping")
        await client.connect()
        await client.close()
        assert client.state is SessionState.CLOSED
        assert [task for task in asyncio.all_tasks() if "aioalphapoint" in task.get_name()] == []
    finally:
        log.removeFilter(fail)
        log.setLevel(level)


def test_a_secret_too_long_to_be_remembered_hides_everything_and_costs_nothing() -> None:
    secrets = Secrets()
    secrets.learn(json.dumps({"SessionToken": '"\\' * 1_000_000}))
    began = time.process_time()
    assert secrets.out_of("bye") == "***"
    assert time.process_time() - began < 0.05
    quick = Secrets(['"\\' * 4_000])
    began = time.process_time()
    assert quick.out_of("bye") == "bye"
    assert time.process_time() - began < 0.2


def test_keys_that_a_program_reads_push_no_token_of_the_clients_own_out() -> None:
    secrets = Secrets()
    secrets.learn('{"SessionToken":"the-live-token"}', is_own=True)
    secrets.learn(json.dumps([{"APIKey": f"key-{n}", "APISecret": f"secret-{n}"} for n in range(200)]))
    assert secrets.out_of("the-live-token key-199") == "*** ***"


def test_known_secrets_are_not_pickled() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secrets(["a-canary"]))


@pytest.mark.parametrize(
    "key",
    ["TwoFactorCode", "PendingEmailCode", "BackupCodes", "Code", "Passcode", "PrivateKey", "TOTP", "Authorization"],
)
def test_what_may_let_somebody_in_is_hidden_by_its_key(key: str) -> None:
    assert "canary" not in without_keys(json.dumps({key: "a-canary"}))
    assert "canary" not in without_keys(f"refused: {key}=a-canary")
    assert without_keys('{"RequestCode":"1","WithdrawCode":"2","errorcode":3}') == (
        '{"RequestCode":"1","WithdrawCode":"2","errorcode":3}'
    )


async def test_a_token_of_an_earlier_login_is_in_no_sentence_about_a_refused_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = iter(
        [
            '{"Authenticated":true,"SessionToken":"a-canary-0123456789abcdef","UserId":1}',
            json.dumps({"Authenticated": False, "errormsg": "x" * 175 + " a-canary-0123456789abcdef"}),
        ]
    )

    async def server(socket: ServerConnection) -> None:
        await socket.send(reply(await socket.recv(), next(answers)))
        async for _request in socket:
            await socket.close()

    async with scripted(server) as url:
        client = Client(url, Password("alice", "x"), reconnect=Backoff(first=0.01, cap=0.01))
        await client.connect()
        with pytest.raises(ConnectionLost):
            await client.call("Ping")
        await client.wait_for_state(SessionState.FAILED, timeout=5)
        with pytest.raises(AuthenticationFailed) as caught:
            await client.call("Ping")
    assert "canary" not in caplog.text + str(caught.value)


def test_nothing_is_formatted_while_nobody_listens(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with SimulatedExchange() as exchange:
            exchange.add_user("alice", "x", account_id=7)
            async with Client(exchange.url, Password("alice", "x")) as client:
                await client.ping()

    def formatted(*_args: object) -> None:
        raise AssertionError("formatted for nobody")

    for name in ("sent", "received", "dropped"):
        monkeypatch.setattr(Wire, name, formatted)
    caplog.set_level(logging.INFO, "aioalphapoint.wire")
    asyncio.run(run())


# The life of the session.


def life(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.message) for record in caplog.records if record.name == "aioalphapoint"]


def like(caplog: pytest.LogCaptureFixture, *expected: tuple[str, str]) -> None:
    """Compare what was told, but for the host and for how long things took."""
    host = re.compile(r"ws://[\d.]+:\d+")
    told = [(level, re.sub(r"[\d.]+ s", "# s", host.sub("HOST", text))) for level, text in life(caplog)]
    assert all(float(seconds) < 60 for _, text in life(caplog) for seconds in re.findall(r"(-?[\d.]+) s", text))
    assert told == list(expected)


async def test_an_operator_reads_who_is_connected_what_was_lost_and_when_it_came_back(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(exchange.url, ALICE, reconnect=Backoff(first=0.01, cap=0.01)) as client:
        await client.ping()
        lost = asyncio.create_task(client.wait_for_state(SessionState.RECONNECTING, timeout=5))
        await asyncio.sleep(0)
        await exchange.cut_now(1001)
        await lost
        await client.ping()
        await asyncio.gather(client.close(), client.close())
    like(
        caplog,
        ("INFO", "HOST: connected in # s, logged in as user 1"),
        ("WARNING", "HOST: connection lost after # s (close code 1001), dialling again in # s"),
        ("WARNING", "HOST: reconnected after # s, logged in as user 1"),
        ("INFO", "HOST: session closed"),
    )


async def test_a_dial_that_fails_tells_why_and_when_the_next_one_is_and_a_session_given_up_tells_why(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(exchange.url, reconnect=SOON) as client:
        with exchange.faults.refuse_dial(503):
            await exchange.cut_now()
            with pytest.raises(NotConnected):
                await client.ping(timeout=0.05)
        with exchange.faults.refuse_dial(403):
            await client.wait_for_state(SessionState.FAILED, timeout=5)
    log = life(caplog)
    like(
        caplog,
        ("INFO", "HOST: connected in # s, without a login"),
        ("WARNING", "HOST: connection lost after # s (no close frame), dialling again in # s"),
        *[
            (
                "WARNING",
                "HOST: dial failed (HOST refused the WebSocket handshake with HTTP status 503), dialling again in # s",
            )
        ]
        * (len(log) - 3),
        ("ERROR", "HOST: session given up: HOST refused the WebSocket handshake with HTTP status 403"),
    )
    assert len(log) > 3


async def test_a_refused_login_is_given_up_loudly_unless_it_is_raised(
    exchange: SimulatedExchange, caplog: pytest.LogCaptureFixture
) -> None:
    with exchange.faults.refuse_login(), pytest.raises(AuthenticationFailed):
        await Client(exchange.url, ALICE).connect()
    assert life(caplog) == []  # it was raised, so it is not logged
    async with Client(exchange.url, ALICE, reconnect=SOON) as client:
        with exchange.faults.refuse_login():
            await exchange.cut_now()
            await client.wait_for_state(SessionState.FAILED, timeout=5)
    (level, text) = life(caplog)[-1]
    assert level == "ERROR"
    assert ": session given up: the exchange refused the login: " in text


async def test_a_close_reason_that_echoes_a_secret_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    canary = f'{chance.token_hex(4)}"{chance.token_hex(4)}'
    logins = 0

    async def echo(socket: ServerConnection) -> None:
        nonlocal logins
        logins += 1
        await socket.send(reply(await socket.recv(), YES % f"token-{logins}"))
        await socket.recv()
        await socket.close(1008, f"Bad: {canary}, {json.dumps(canary)} token-{logins}")

    async with scripted(echo) as url, Client(url, Password("alice", canary), reconnect=SOON) as client:
        with pytest.raises(ConnectionLost) as caught:
            await client.call("F")
        await client.wait_for_state(SessionState.RECONNECTING, timeout=5)
        await client.wait_for_state(SessionState.READY, timeout=5)
    told = "".join(traceback.format_exception(caught.value)) + "".join(text for _, text in life(caplog))
    assert told.count('close code 1008, Bad: ***, "***" ***') == 2
    assert not [part for part in canary.split('"') if part in told]
