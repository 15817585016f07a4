"""The message frame: four keys, `m` type, `i` sequence number, `n` function, `o` payload as JSON text.

Pure: text in, text out. Nothing here knows what a function means, who waits for a reply, or what a socket is.
The simulated exchange speaks through this module too, so the frames in tests/golden are written by hand: both
ends cannot share one mistake unseen.

Invariants:

* `decode` gives a whole envelope or raises `BadEnvelope`; no other exception, whatever the bytes.
* What is read as JSON is strict JSON (no `NaN`, no `Infinity`, no key twice in an object), and every number
  with a point or an exponent is a `Decimal` with the digits that were sent.
* What is written is ASCII, compact, in the key order of the exchange's documents.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring_ascii as _quoted  # what `json.dumps` comes to for a str
from typing import NamedTuple, NoReturn, TypeAlias

__all__ = [
    "BadEnvelope",
    "Envelope",
    "Json",
    "MessageType",
    "decode",
    "encode",
    "read_items",
    "read_json",
    "read_json_at",
    "write_json",
]

Json: TypeAlias = "bool | int | Decimal | str | list[Json] | dict[str, Json] | None"
"""What a payload holds once it is read: numbers with a point are `Decimal`, never float."""

INT64_MAX = 2**63 - 1

# .NET's decimal, which the exchange computes with, has 28 digits; far beyond that a short number such as
# 1e999999 would be written out as a megabyte of zeros.
_LARGEST_EXPONENT = 100


class MessageType(enum.IntEnum):
    """The `m` of a frame. Clients send REQUEST for everything, subscriptions too."""

    REQUEST = 0
    REPLY = 1
    SUBSCRIBE = 2
    EVENT = 3
    UNSUBSCRIBE = 4
    ERROR = 5


_TYPES = tuple(MessageType)  # at their own numbers


class Envelope(NamedTuple):
    """One frame. `payload` is the text of `o`: JSON, plain text, or nothing at all."""

    type: MessageType
    sequence: int
    function: str
    payload: str

    def __repr__(self) -> str:  # without the payload: a login's holds the password
        return f"Envelope({self.type.name}, {self.sequence}, {self.function!r})"


class BadEnvelope(ValueError):
    """The message is no frame; the reason is the exception's text."""


# How a frame begins that is written as in the exchange's documents, up to its payload: nearly every one is.
_begins_as_documented = re.compile(
    r'\{"m":([0-5]),"i":(0|[1-9][0-9]{0,17}),"n":"([A-Za-z0-9_]*)","o":(?=[^ \t\n\r])', re.ASCII
).match


def encode(envelope: Envelope) -> bytes:
    """Write a frame, byte for byte as in the exchange's documents."""
    kind, sequence, function, payload = envelope
    return f'{{"m":{int(kind)},"i":{sequence},"n":{_quoted(function)},"o":{_quoted(payload)}}}'.encode("ascii")


def decode(message: bytes | bytearray | memoryview) -> Envelope:
    """Read a frame.

    A payload that is not a string is taken as the text that stands there, because protocol notes and servers differ
    on whether `o` may hold a bare object; all else that is not as the documents say is refused.

    Raises:
        BadEnvelope: It is not UTF-8, not strict JSON, not an object, lacks one of the four keys, or a key
            holds what it may not hold.
    """
    try:
        text = str(message, "utf-8")
        return _as_documented(text) or _in_any_form(text)
    except BadEnvelope:
        raise
    except ValueError as error:  # UnicodeDecodeError is one too
        raise BadEnvelope(f"not JSON: {error}") from None


def _as_documented(text: str) -> Envelope | None:
    begin = _begins_as_documented(text)
    if begin is None:
        return None
    start = begin.end()
    payload, end = read_json_at(text, start)
    if text[end:] != "}":
        return None
    kind, sequence, function = begin.groups()
    return Envelope(
        _TYPES[int(kind)], int(sequence), function, payload if isinstance(payload, str) else text[start:end]
    )


def _in_any_form(text: str) -> Envelope:
    frame = read_json(text)
    if not isinstance(frame, dict):
        raise BadEnvelope(f"not an object but {type(frame).__name__}")
    try:
        kind, sequence, function, payload = frame["m"], frame["i"], frame["n"], frame["o"]
    except KeyError as error:
        raise BadEnvelope(f"key {error} is missing") from None
    # `type() is int` on purpose: in Python True is an int, and `"i": true` would answer call number 1.
    if type(kind) is not int or not MessageType.REQUEST <= kind <= MessageType.ERROR:
        raise BadEnvelope("m is not a message type")
    if type(sequence) is not int or not -INT64_MAX - 1 <= sequence <= INT64_MAX:
        raise BadEnvelope("i is not a 64-bit integer")
    if not isinstance(function, str):
        raise BadEnvelope("n is not a string")
    return Envelope(MessageType(kind), sequence, function, payload if isinstance(payload, str) else _source(text, "o"))


_gap = re.compile(r"[ \t\n\r]*").match


def _source(text: str, key: str) -> str:
    """Find the text of a member's value, in an object that was read already and has it."""
    end = text.index("{")
    while True:
        name, end = read_json_at(text, _behind_gap(text, end + 1))  # behind the brace, or the comma
        start = _behind_gap(text, _behind_gap(text, end) + 1)  # behind the colon
        _, end = read_json_at(text, start)
        if name == key:
            return text[start:end]
        end = _behind_gap(text, end)


def _behind_gap(text: str, index: int) -> int:
    gap = _gap(text, index)
    assert gap is not None  # noqa: S101  (it may be empty)
    return gap.end()


def _exact(digits: str) -> Decimal:
    try:
        number = Decimal(digits)
    except InvalidOperation:  # an exponent beyond what Decimal itself can hold
        number = Decimal("NaN")  # what a context without that trap gives
    if not number.is_finite():
        raise ValueError("number out of range")
    return number


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    # `{"result": false, "result": true}`: which of the two a reader believes is chance.
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key stands there twice")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_exact, parse_constant=_no_constant)


def read_json(text: str) -> Json:
    """Read strict JSON, every digit kept.

    Raises:
        ValueError: It is not JSON, or it is nested too deep or has too long an integer for this interpreter.
    """
    try:
        value: Json = _decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def read_json_at(text: str, start: int) -> tuple[Json, int]:
    """Read the strict JSON that begins at an index, and tell the index behind it; errors are those of `read_json`."""
    try:
        value: Json
        value, end = _decoder.raw_decode(text, start)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value, end


def write_json(value: object) -> str:
    """Write compact ASCII JSON, every digit of a `Decimal` kept.

    The standard encoder cannot write a `Decimal` as a number, and writes `NaN`, which is not JSON.

    Raises:
        ValueError: Something in it has no place in JSON; the message says what and where.
    """
    parts: list[str] = []
    try:
        _write(value, parts)
    except _OutOfPlace as error:
        path = "".join(f"[{step!r}]" for step in reversed(error.path))
        raise ValueError(f"{error.what}{f' at {path}' if path else ''} has no place in JSON") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return "".join(parts)


class _OutOfPlace(Exception):
    """Something that JSON cannot hold. Its path is gathered on the way up: only a failure pays for it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path: list[object] = []


def _write(value: object, parts: list[str]) -> None:
    match value:
        case None | bool() | str():
            parts.append(json.dumps(value))
        case int():
            parts.append(int.__repr__(value))
        case Decimal() | float():
            parts.append(_number(value))
        case Mapping():
            _write_items("{", value.items(), "}", parts)
        case list() | tuple():
            _write_items("[", enumerate(value), "]", parts)
        case _:
            raise _OutOfPlace(type(value).__name__)


def _write_items(opening: str, items: Iterable[tuple[object, object]], closing: str, parts: list[str]) -> None:
    parts.append(opening)
    for position, (key, item) in enumerate(items):
        if position:
            parts.append(",")
        if opening == "{":
            if not isinstance(key, str):
                raise _OutOfPlace(f"key {key!r}")
            parts.append(f"{json.dumps(key)}:")
        try:
            _write(item, parts)
        except _OutOfPlace as error:
            error.path.append(key)
            raise
    parts.append(closing)


def _number(value: Decimal | float) -> str:
    number = value if isinstance(value, Decimal) else Decimal(float.__repr__(value))
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int) or not -_LARGEST_EXPONENT <= exponent <= _LARGEST_EXPONENT:
        raise _OutOfPlace(f"the number {value!r}")
    return f"{number:f}"  # plain digits: not every reader of decimals takes an exponent


_before_items = re.compile(r"[ \t\n\r]*\[[ \t\n\r]*(\][ \t\n\r]*\Z)?").match
_behind_item = re.compile(r"[ \t\n\r]*(?:,[ \t\n\r]*|(\])[ \t\n\r]*\Z)").match


def read_items(text: str) -> Iterator[Json]:
    """Read a strict JSON array item by item: a long one takes a tenth of a second and more as a whole.

    Raises:
        ValueError: It is no array, or none to its end: only who has come to that has read a whole one.
    """
    gap = _before_items(text)
    while gap is not None and gap[1] is None:
        item, end = read_json_at(text, gap.end())
        yield item
        gap = _behind_item(text, end)
    if gap is None:
        raise ValueError("not an array")
