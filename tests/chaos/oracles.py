"""What must hold for any message, whatever its bytes. Each check raises where it does not.

The properties of tests/test_hostile.py, the fuzzer and the replay of its corpus all ask these. Beside the library's
own reader stands `json.loads`: where it knows better, or the library reads what is not strict JSON, that is found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation

from aioalphapoint import AlphaPointError, AuthenticationFailed, CallRejected, SessionToken, UnexpectedReply
from aioalphapoint._auth import login_call, read_login
from aioalphapoint._envelope import (
    INT64_MAX,
    BadEnvelope,
    Envelope,
    Json,
    MessageType,
    decode,
    encode,
    read_json,
    write_json,
)
from aioalphapoint._events import Event, Listener
from aioalphapoint._replies import (
    read_response,
    read_subscribed,
    read_ticket,
    read_tickets,
    read_value,
    read_withdraws,
)
from aioalphapoint._secrets import Secrets, without_keys
from aioalphapoint._subscription import Subscription
from aioalphapoint.models import StandardResponse
from aioalphapoint.stats import Stats
from wire import CODE

__all__ = ["check", "check_message", "check_payload", "is_accepted"]

_ACCOUNT = 7
_LOGIN = login_call(SessionToken("a token"), "")

# Characters that an error's sentence may have, whatever it quotes; a character is escaped to ten at most.
_LONGEST_SENTENCE = 5000

# Characters that one character of JSON may be written anew by: 1e100 is five, and a hundred and one.
_MOST_WRITTEN = 25


def check(message: bytes) -> None:
    """Check a message as a frame, its payload, and as a payload."""
    envelope = check_message(message)
    if envelope is not None:
        check_payload(envelope.payload)
    with suppress(UnicodeDecodeError):
        check_payload(message.decode("utf-8", "surrogatepass"))


def check_message(message: bytes) -> Envelope | None:
    """It is a frame that survives the way there and back, or a `BadEnvelope`; give the frame."""
    try:
        envelope = decode(message)
    except BadEnvelope:
        assert not _is_frame(message), "a frame as in the documents was refused"
        return None
    written = encode(envelope)
    assert decode(written) == envelope
    assert json.loads(written) == {
        "m": envelope.type,
        "i": envelope.sequence,
        "n": envelope.function,
        "o": envelope.payload,
    }
    with suppress(RecursionError):  # of the reference, which reads a few calls deeper than the library
        _check_against(_Reference(message.decode()), envelope)
    return envelope


def _check_against(sent: _Reference, envelope: Envelope) -> None:
    assert isinstance(sent.value, dict)
    assert not sent.is_odd
    assert _is_number(sent.value["m"], 0, 5)
    assert _is_number(sent.value["i"], -INT64_MAX - 1, INT64_MAX)
    assert [sent.value[key] for key in "min"] == [envelope.type, envelope.sequence, envelope.function]
    payload = sent.value["o"]
    assert payload == envelope.payload if isinstance(payload, str) else payload == read_json(envelope.payload)


def check_payload(payload: str) -> None:
    """Whatever reads payloads gives a value or an error that is documented for it."""
    _check_json(payload)
    for kind in (MessageType.REPLY, MessageType.ERROR):
        reply = Envelope(kind, 2, "F", payload)
        for read in _READERS:
            _check_reader(read, reply)
    event = _SUBSCRIPTION._typed(Event("WithdrawTicketUpdateEvent", payload))
    assert event is None or event.payload == payload
    Secrets().learn(payload)
    assert isinstance(without_keys(payload), str)


def is_accepted(payload: str) -> bool:
    """Tell whether a standard response accepts, by no more than `json.loads`."""
    fields = _Reference(payload).value
    assert isinstance(fields, dict)
    folded = _folded(fields)
    code = folded.get("errorcode")
    is_number = code is None or type(code) is int
    return is_number and ((folded.get("result") is True and code in {0, None}) or code == 107)


def _folded(fields: Mapping[str, object]) -> dict[str, object]:
    return {key.replace("_", "").lower(): value for key, value in fields.items()}


class _Reference:
    """JSON as `json.loads` reads it; `is_odd` where strict JSON, and the library, would not."""

    def __init__(self, text: str) -> None:
        self.is_odd = False
        self.value: object = json.loads(
            text, parse_float=self._number, parse_constant=self._odd, object_pairs_hook=self._object
        )

    def _odd(self, _text: object) -> None:
        self.is_odd = True

    def _number(self, digits: str) -> Decimal:
        number = Decimal("NaN")
        with suppress(InvalidOperation):
            number = Decimal(digits)
        self.is_odd = self.is_odd or not number.is_finite()
        return number

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        self.is_odd = self.is_odd or len({key for key, _ in pairs}) < len(pairs)
        return dict(pairs)


def _is_frame(message: bytes) -> bool:
    try:
        sent = _Reference(message.decode())
    except (ValueError, RecursionError):
        return False
    match sent.value:
        case {"m": kind, "i": sequence, "n": str(), "o": str()} if not sent.is_odd:
            return _is_number(kind, 0, 5) and _is_number(sequence, -INT64_MAX - 1, INT64_MAX)
    return False


def _is_number(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _check_json(text: str) -> None:
    try:
        value = read_json(text)
    except ValueError:
        with suppress(ValueError, RecursionError):
            assert _Reference(text).is_odd, "strict JSON was refused"
        return
    with suppress(RecursionError):  # likewise
        reference = _Reference(text)
        assert not reference.is_odd, "what is not strict JSON was read"
        assert value == reference.value
    try:
        written = write_json(value)
    except ValueError:  # a huge exponent, or deep nesting
        return
    assert written.isascii()
    assert len(written) <= _MOST_WRITTEN * len(text)
    again = read_json(written)
    assert write_json(again) == written
    # Two halves of a letter that stand side by side come back as one letter.
    assert again == value or any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_reader(read: Callable[[str, Envelope], object], reply: Envelope) -> None:
    allowed = (
        (CallRejected, UnexpectedReply, AuthenticationFailed)
        if read is _read_login
        else (CallRejected, UnexpectedReply)
    )
    try:
        value = read("F", reply)
    except allowed as error:
        _check_error(error)
        return
    assert reply.type is MessageType.REPLY, "a refusal was told as an answer"
    if isinstance(value, StandardResponse):
        assert is_accepted(reply.payload), "a refusal was told as accepted"


def _check_error(error: AlphaPointError) -> None:
    sentence = str(error)
    assert sentence.isprintable()
    assert len(sentence) < _LONGEST_SENTENCE


def _read_login(function: str, reply: Envelope) -> Json:
    value = read_value(function, reply)
    assert read_login(_LOGIN, reply.sequence, value).authenticated
    assert isinstance(value, dict)
    assert _folded(value)["authenticated"] is True
    return value


def _read_tickets(function: str, reply: Envelope) -> object:
    return list(read_tickets(function, reply))


def _read_withdraws(function: str, reply: Envelope) -> object:
    return list(read_withdraws(function, reply))


def _read_ticket(function: str, reply: Envelope) -> object:
    ticket = read_ticket(function, reply, account_id=_ACCOUNT, request_code=CODE)
    assert (ticket.account_id, ticket.request_code.lower()) == (_ACCOUNT, CODE)
    return ticket


async def _subscribe() -> None: ...


_SUBSCRIPTION = Subscription(Listener(1, Stats()), _subscribe, _ACCOUNT)

_READERS = (read_value, read_response, _read_tickets, _read_withdraws, read_subscribed, _read_ticket, _read_login)
