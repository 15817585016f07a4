"""Hostile frames: whatever the exchange sends, nobody is harmed but the call that it answers.

What noise does to one good reply stands in test_connection.py, what is no frame in test_envelope.py. `make chaos`
sends a million frames where this sends thousands.
"""

import asyncio
import json
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from websockets.asyncio.server import ServerConnection
from websockets.utils import accept_key

from aioalphapoint import (
    AuthenticationFailed,
    Client,
    ConnectFailed,
    ConnectionLost,
    Gap,
    NotCancelled,
    NotConfirmed,
    Password,
    SessionState,
    WithdrawTicket,
)
from aioalphapoint.bulk import OutcomeState, cancel_withdraws
from aioalphapoint.reconcile import confirm_cancelled
from chaos.frames import LOGIN, Frames, kept
from chaos.hostile import hostile_frames, late_replies
from chaos.oracles import check, check_message, check_payload
from chaos.strategies import messages, payloads
from conftest import ALICE, SOON
from scripted import GOOD, answer_all, raw, reply, scripted
from wire import CODE, OTHER_CODE, TICKET_ROW


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages)
def test_any_message_is_a_frame_that_survives_the_way_there_and_back_or_no_frame(message: bytes) -> None:
    check_message(message)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payloads)
def test_any_payload_is_an_answer_or_an_error_that_is_documented_whoever_reads_it(payload: str) -> None:
    check_payload(payload)


@pytest.mark.parametrize("messages", [kept(), [Frames(seed).message() for seed in range(300)]], ids=["corpus", "seeds"])
def test_the_messages_of_the_corpus_and_of_the_generator_break_nothing(messages: list[bytes]) -> None:
    for message in messages:
        check(message)


def test_the_generator_gives_the_same_frames_for_the_same_seed_and_frames_of_every_kind() -> None:
    first, second = Frames(1), Frames(1)
    messages = [first.message() for _ in range(1000)]
    assert messages == [second.message() for _ in range(1000)]
    kinds = Counter(None if (frame := check_message(message)) is None else frame.type for message in messages)
    assert kinds.keys() == {None, *range(6)}
    assert max(kinds.values()) < 800


async def test_good_calls_are_answered_right_while_hostile_frames_and_replies_come() -> None:
    line = await hostile_frames(seed=1, count=3000)
    assert line.holds, line


async def test_callers_that_left_leave_no_residue_however_late_their_replies_come() -> None:
    line = await late_replies(seed=1, count=500)
    assert line.holds, line


# Logins.


async def test_a_hostile_answer_to_a_login_is_a_refusal_or_a_clear_yes_and_nothing_else() -> None:
    frames, chance = Frames(1), random.Random(1)

    async def answer(socket: ServerConnection) -> None:
        async for request in socket:
            for noise in (frames.message(), frames.message()):
                if not re.search(rb'"i"\s*:\s*[24]', noise):  # else it is the answer
                    await socket.send(noise, text=True)
            payload = frames.payload() if chance.random() < 0.3 else frames.document(LOGIN)
            kind, number = chance.choice("11115"), json.loads(request)["i"]
            await socket.send(f'{{"m":{kind},"i":{number},"n":"F","o":{json.dumps(payload)}}}')

    outcomes: Counter[str] = Counter()
    async with scripted(answer) as url:
        for _ in range(60):
            client = Client(url, Password("a", "b", lambda: "111111"), timeout=5, connect_timeout=5)
            try:
                await client.connect()
            except AuthenticationFailed:
                assert client.state is SessionState.FAILED
                outcomes["no"] += 1
            else:
                assert (client.state, client.stats.in_flight) == (SessionState.READY, 0)
                outcomes["yes"] += 1
            await client.close()
    assert outcomes.keys() == {"no", "yes"}


# Subscriptions, reconcile, bulk.

GOOD_TICKET = TICKET_ROW.replace('"Status":"Pending"', '"Status":"UserCanceled"')
OTHER_TICKET = WithdrawTicket(ticket_number=293, account_id=7, request_code=OTHER_CODE)
TICKET = WithdrawTicket(ticket_number=292, account_id=7, request_code=CODE)


class Mixed:
    """A script that answers well what is about one ticket, and with hostile payloads what is about any other."""

    def __init__(self) -> None:
        self.frames = Frames(2)

    async def __call__(self, socket: ServerConnection) -> None:
        async for request in socket:
            frame = json.loads(request)
            for name in ("WithdrawTicketUpdateEvent", "withdrawticketupdateevent", "E"):
                event = {"m": 3, "i": 2, "n": name, "o": self.frames.payload()}
                await socket.send(json.dumps(event))
            if frame["n"] == "AuthenticateUser":
                await socket.send(reply(request, '{"Authenticated":true,"UserId":1}'))
            elif frame["n"].startswith("Subscribe"):
                await socket.send(reply(request, '{"Subscribed":true}'))
            elif CODE in frame["o"]:
                await socket.send(reply(request, GOOD if "Cancel" in frame["n"] else GOOD_TICKET))
            else:
                await socket.send(reply(request, self.frames.payload()))


async def test_hostile_answers_about_one_ticket_keep_nobody_from_cancelling_another() -> None:
    async with scripted(Mixed()) as url, Client(url, ALICE, timeout=5) as client:
        others = [OTHER_TICKET.model_copy(update={"request_code": str(UUID(int=number))}) for number in range(100)]
        outcomes = await cancel_withdraws(client, [*others, TICKET], confirm_timeout=0.1, timeout=5)
        assert outcomes[-1].state is OutcomeState.CONFIRMED
        assert {outcome.state for outcome in outcomes[:-1]} == {"accepted", "refused", "unknown"}
        assert client.stats.reconnects == client.stats.in_flight == 0


async def test_a_ticket_is_confirmed_cancelled_though_hostile_events_come_and_no_hostile_answer_confirms() -> None:
    async with scripted(Mixed()) as url, Client(url, timeout=5) as client:
        for _ in range(20):
            assert (await confirm_cancelled(client, account_id=7, request_code=CODE, timeout=5)).status.is_cancelled
        with pytest.raises((NotConfirmed, NotCancelled)):
            await confirm_cancelled(client, account_id=7, request_code=OTHER_CODE, timeout=0.3)
        assert client.stats.reconnects == client.stats.in_flight == 0


async def test_hostile_events_come_through_a_subscription_one_by_one_and_end_nothing() -> None:
    frames, told = Frames(3), 300

    async def tell(socket: ServerConnection) -> None:
        await socket.send(reply(await socket.recv(), '{"Subscribed":true}'))
        for _ in range(told):
            event = {"m": 3, "i": 2, "n": "WithdrawTicketUpdateEvent", "o": frames.payload()}
            await socket.send(json.dumps(event))
        await socket.send('{"m":3,"i":2,"n":"Last","o":"{}"}')
        await answer_all(socket)

    async with (
        scripted(tell) as url,
        Client(url, timeout=5) as client,
        client.subscribe_account_events(account_id=7) as events,
    ):
        heard = Counter([type(event).__name__ async for event in until_last(events)])
        assert heard.keys() == {"Event", "WithdrawTicketUpdateEvent"}
        assert client.stats.events == told + 1
        await client.call("F")


async def until_last(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for event in events:
        if getattr(event, "name", "") == "Last":
            return
        yield event


# Sizes.

MOST = 2**17  # bytes that a message may have in what follows
BOMB = zlib.compress(b"a" * 2**26, wbits=-15)  # 64 MiB in 65 KB


def frame(opcode: int, length: int, data: bytes = b"") -> bytes:
    """Write a WebSocket frame by hand, with any length in its header."""
    return bytes([opcode, 127]) + struct.pack("!Q", length) + data


def text_frame(text: str) -> bytes:
    """Write a short text frame by hand."""
    return bytes([0x81, len(text)]) + text.encode()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (frame(0xC1, len(BOMB), BOMB), "reserved bits"),
        (frame(0x81, 2**63 - 1), "limit of 131072 bytes"),
        (frame(0x81, 2**63), "limit of 131072 bytes"),
        (frame(0x82, MOST + 1), "limit of 131072 bytes"),
        (frame(0x01, MOST, b"a" * MOST) + frame(0x00, 1, b"a"), "limit of 131072 bytes"),
        (frame(0x01, 2, b"{}") + frame(0x81, 2, b"{}"), "continuation"),
        (frame(0x80, 2, b"{}"), "continuation"),
        (frame(0x83, 0), "opcode"),
        (bytes([0x89, 126]) + struct.pack("!H", 126) + b"a" * 126, "control frame"),
        (bytes([0x81, 0x82]) + b"\0\0\0\0{}", "masking"),
    ],
    ids=[
        *("compressed", "2^63 - 1", "2^63", "binary", "fragments"),
        *("fragment torn", "no first fragment", "opcode", "long ping", "masked"),
    ],
)
async def test_a_frame_that_breaks_the_protocol_or_the_bound_ends_its_connection_and_not_the_session(
    sent: bytes, words: str
) -> None:
    connections = 0

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(1000)
        writer.write(sent if connections == 1 else text_frame('{"m":1,"i":2,"n":"F","o":"[19]"}'))
        await reader.read(1000)  # the goodbye

    async with raw(send) as url, Client(url, timeout=5, reconnect=SOON, max_message_size=MOST) as client:
        with pytest.raises(ConnectionLost, match=f"the server broke the protocol: .*{words}"):
            await client.call("F")
        assert await client.call("F") == [19]
        assert client.stats.reconnects == 1


async def test_a_server_that_claims_to_compress_though_nobody_offered_is_refused() -> None:
    async def claim(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        key = (await reader.readuntil(b"\r\n\r\n")).split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        writer.write(b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        writer.write(f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode() + frame(0xC1, len(BOMB), BOMB))
        await reader.read(1000)
        writer.close()

    async with await asyncio.start_server(claim, "127.0.0.1", 0) as server:
        client = Client(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", connect_timeout=5)
        with pytest.raises(ConnectFailed, match="no extensions supported"):
            await client.connect()
        assert client.state is SessionState.FAILED


async def test_a_hundred_thousand_unsolicited_events_hold_up_no_call_and_are_not_kept() -> None:
    calls, names = 100, ["WithdrawTicketUpdateEvent", "AccountPositionEvent", "F", "", "authenticateuser", "Ping"]

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events = b"".join(
            text_frame(f'{{"m":3,"i":{2 * number},"n":"{names[number % len(names)]}","o":"{{}}"}}')
            for number in range(1000)
        )
        await reader.readexactly(1)
        for number in range(calls):
            writer.write(events + text_frame(f'{{"m":1,"i":{2 + 2 * number},"n":"F","o":"{number}"}}'))
            await writer.drain()
        await reader.read(1000)

    async with raw(flood) as url, Client(url, timeout=30) as client:
        with client.events(size=10) as events:
            assert await asyncio.gather(*(client.call("F") for _ in range(calls))) == list(range(calls))
            assert client.stats.events == 1000 * calls
            assert client.stats.dropped_events == 1000 * calls - 10
            assert await anext(events) == Gap(dropped=1000 * calls - 10)
            assert (client.stats.in_flight, client.stats.dropped_frames, client.stats.late_replies) == (0, 0, 0)
