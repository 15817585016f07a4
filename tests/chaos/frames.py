"""Hostile frames: the blocks they are built of, and a fast generator that a seed decides.

The blocks are JSON texts, not values: what is hostile about them is often that no value could be written that way.
tests/chaos/strategies.py lets hypothesis build with the same blocks. The corpus is what the fuzzer found worth
keeping, one message a line.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from wire import CODE, TICKET_ROW, WITHDRAW_ROW

__all__ = ["DOCUMENTS", "KEYS", "LOGIN", "NAMES", "ODD", "Frames", "golden", "keep", "kept", "nested", "rendered"]

_TESTS = Path(__file__).parents[1]
_CORPUS = _TESTS / "chaos/corpus/messages.txt"


def nested(depth: int, inner: str = "1", *, objects: bool = False) -> str:
    """Nest lists, or objects, in one another."""
    return '{"a":' * depth + inner + "}" * depth if objects else "[" * depth + inner + "]" * depth


# No JSON, or JSON that strict readers refuse, stands beside plain JSON of every type.
NUMBERS = (
    *("0", "-0", "1", "2", "7", "20", "101", "107", "292", "909", "-1", "1.0", "1.10", "2.0", "0e5", "1E+2", "1e-2"),
    *("9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("0.0010000000000000000000000000", "1e100", "1e101", "1e400", "-1e400", "1e-400", "1e999999999", "1e-999999999"),
    *("1e9999999999999999999", "9" * 50, "9" * 4300, "9" * 4301, "0." + "1" * 500),
    *("NaN", "Infinity", "-Infinity", "nan", "01", "+1", ".5", "1.", "0x10", "1_0", "\u0661"),
)
TEXTS = (
    *('""', '" "', '"1"', '"1.10"', '"-1"', '"7"', '"true"', '"Pending"', '"UserCancelled"', '"Endpoint Not Found"'),
    *(
        f'"{CODE}"',
        f'"{CODE.upper()}"',
        '"2023-03-23T12:48:31.067Z"',
        '"0001-01-01T00:00:00"',
        '"9999-12-31T23:59:59-14"',
    ),
    *('"9999-99-99"', '"0002-01-01T00:00:00+23:59"', '"1E+9"', '"NaN"', '"\\u0661"', '"{\\"a\\":1}"', '"[1,"', '"[]"'),
    *(
        r'"\ud800"',
        r'"\ude00\ud83d"',
        r'"\ud83d\ude00"',
        r'"\u0000"',
        '"\x00"',
        '"\x7f\x1b[2J"',
        '"a\nb"',
        r'"\x"',
        '"open',
    ),
    *('"\U0001f600"', '"\ufeff"', '"\u202e"', "'single'", '"' + "x" * 3000 + '"', '"' + r"\u0041" * 300 + '"'),
)
OTHERS = (
    *(
        "null",
        "true",
        "false",
        "True",
        "[]",
        "{}",
        "[[]]",
        "[1,]",
        "{,}",
        '{"a"}',
        '{"a":1,"a":2}',
        '{"a":1,"A":2}',
        "",
    ),
    *(nested(40), nested(60, objects=True), nested(480), nested(520, objects=True), nested(3000), "[" * 3000),
)
ODD = (*NUMBERS, *TEXTS, *OTHERS)
"""JSON texts, and texts that look like it, of every type."""


def _fields(text: str) -> dict[str, str]:
    """Take an object of JSON text apart, numbers digit by digit."""
    pairs: list[tuple[str, object]] = json.loads(text, parse_float=_Digits, object_pairs_hook=list)
    return {key: value if isinstance(value, _Digits) else json.dumps(value) for key, value in pairs}


class _Digits(str):
    __slots__ = ()


_RESPONSE = '{"result":true,"errormsg":null,"errorcode":0,"detail":null}'
_REFUSAL = '{"result":false,"errormsg":"Operation Failed","errorcode":101,"detail":"Withdraw Ticket not found"}'
_USER = '{"UserId":492,"UserName":"alice","Email":"alice@example.com","AccountId":528,"OMSId":1,"Use2FA":false}'
LOGIN = {
    **_fields('{"Authenticated":true,"SessionToken":"token","Locked":false,"Requires2FA":false,"errormsg":null}'),
    "User": _USER,
    "UserId": "492",
}

DOCUMENTS: tuple[Mapping[str, str], ...] = (
    _fields(_RESPONSE),
    _fields(_REFUSAL),
    LOGIN,
    _fields(_USER),
    _fields(TICKET_ROW),
    _fields(WITHDRAW_ROW),
    {"Subscribed": "true"},
    {"Subscribe": "false"},
    {"msg": '"PONG"'},
)
"""What the exchange answers and tells, key by key: the values are JSON texts."""

KEYS = tuple(sorted({key for document in DOCUMENTS for key in document} | {"", "m", "i", "n", "o", "\ud800", "\x00"}))

NAMES = (
    *("CancelWithdraw", "CancelFailedWithdrawTicket", "GetWithdraws", "GetWithdrawTicket", "GetWithdrawTickets"),
    *("GetAllWithdrawTickets", "SubscribeAccountEvents", "AuthenticateUser", "Authenticate2FA", "Ping", "LogOut"),
    *("WithdrawTicketUpdateEvent", "withdrawticketupdateevent", "AccountPositionEvent", "NewOrderEvent", "", "\ud800"),
)
"""Functions and events, without `LogoutEvent`: that is an order to log in anew, which is obeyed."""


def rendered(pairs: Iterable[tuple[str, str]]) -> str:
    """Write keys and JSON texts as an object. A key may stand there twice."""
    return "{" + ",".join([f"{json.dumps(key)}:{value}" for key, value in pairs]) + "}"


def golden() -> list[bytes]:
    """Give the frames, and the messages that are none, which are written by hand in tests/golden."""
    frames = (_TESTS / "golden/frames.txt").read_text(encoding="utf-8").splitlines()
    others = (_TESTS / "golden/no_frames.txt").read_text(encoding="utf-8").splitlines()
    return [
        *(line.removeprefix("> ").encode() for line in frames if line.startswith("> ")),
        *(line.split(" | ", 1)[1].encode() for line in others if " | " in line),
    ]


def kept() -> list[bytes]:
    """Give the messages of the corpus."""
    lines = _CORPUS.read_text(encoding="ascii").splitlines()
    return [line.encode().decode("unicode_escape").encode("latin-1") for line in lines if not line.startswith("#")]


def keep(messages: Iterable[bytes]) -> None:
    """Write the corpus."""
    head = (
        "# What the fuzzer found worth keeping: one message a line, escaped as Python escapes. `make fuzz` writes it.\n"
    )
    lines = sorted({message.decode("latin-1").encode("unicode_escape").decode() for message in messages} - {""})
    _CORPUS.write_text(head + "".join(f"{line}\n" for line in lines), encoding="ascii")


# What a message is mutated by, byte for byte: NUL, BOM, surrogates and overlong forms in UTF-8, what ends a string.
_BYTES = (
    *(b"\x00", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xff", b"\xc0\x80", b"\xf4\x90\x80\x80", b'"'),
    *(b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b"e", b"\\u0000", b"\\ud800", b"NaN", b" ", b"\n"),
)


class Frames:
    """Any number of hostile messages, the same ones for the same seed.

    Args:
        seed: Decides which.
        numbers: What `i` may be where it is a number. None that is pending, where others wait for their replies.
    """

    def __init__(self, seed: int, numbers: tuple[int, ...] = (-2, 0, 1, 3, 2**40, 2**63 - 1, -(2**63))) -> None:
        self._chance = random.Random(seed)
        self._numbers = numbers
        self._written = [message for message in golden() + kept() if b"logout" not in message.lower()]

    def message(self) -> bytes:
        """Give a message: a frame, something near to one, or anything."""
        chance = self._chance.random()
        if chance < 0.25:
            return self._mutated(self._chance.choice(self._written))
        message = self.frame().encode("utf-8", "surrogatepass")
        return self._mutated(message) if chance < 0.4 else message

    def frame(self) -> str:
        """Give a frame, in which one thing or another may be wrong."""
        choice, odd = self._chance.choice, self._chance.random
        payload = self.payload()
        fields = [
            ("m", choice("11115333024") if odd() < 0.95 else choice(ODD)),
            ("i", str(choice(self._numbers)) if odd() < 0.95 else choice(ODD)),
            ("n", json.dumps(choice(NAMES)) if odd() < 0.95 else choice(ODD)),
            ("o", json.dumps(payload) if odd() < 0.95 else payload),
        ]
        if odd() < 0.1:
            fields = self._disturbed(fields)
        return rendered(fields)

    def payload(self) -> str:
        """Give the payload of a reply or an event, in which one thing or another may be wrong."""
        chance = self._chance.random()
        if chance < 0.1:
            return self._chance.choice(ODD)
        rows = [
            self.document(self._chance.choice(DOCUMENTS))
            for _ in range(1 if chance < 0.7 else self._chance.randrange(4))
        ]
        return rows[0] if chance < 0.7 else f"[{','.join(rows)}]"

    def document(self, document: Mapping[str, str]) -> str:
        """Write what the exchange answers, in which one thing or another may be wrong."""
        fields = list(document.items())
        for _ in range(self._chance.choice((0, 1, 1, 2, 5))):
            fields = self._disturbed(fields)
        return rendered(fields)

    def _disturbed(self, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        choice = self._chance.choice
        place = self._chance.randrange(len(fields) + 1)
        before, (key, value), after = fields[:place], (*fields, ("", ""))[place], fields[place + 1 :]
        match self._chance.randrange(6):
            case 0:
                return [*before, *after]
            case 1:
                return [*before, (key, value), (choice((key.upper(), key.lower(), key)), choice(ODD)), *after]
            case 2:
                return [*before, (choice(KEYS), choice(ODD)), *after]
            case 3:
                return [*after, *before]
            case _:
                return [*before, (key, choice(ODD)), *after]

    def _mutated(self, message: bytes) -> bytes:
        chance = self._chance
        for _ in range(chance.choice((1, 1, 2, 4))):
            start, end = sorted((chance.randrange(len(message) + 1), chance.randrange(len(message) + 1)))
            match chance.randrange(6):
                case 0:
                    message = message[:start]
                case 1:
                    message = message[:start] + message[end:]
                case 2:
                    message = message[:end] + message[start:]
                case 3:
                    message = message[:start] + bytes([chance.randrange(256)]) + message[start + 1 :]
                case _:
                    message = message[:start] + chance.choice(_BYTES) + message[start:]
        return message
