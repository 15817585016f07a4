"""The message frame, against frames written by hand."""

import itertools
import json
import re
from collections.abc import Iterator
from decimal import Decimal, ExtendedContext, localcontext
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aioalphapoint._envelope import BadEnvelope, Envelope, MessageType, decode, encode, read_json, write_json

GOLDEN = Path(__file__).parent / "golden"


def lines(name: str) -> list[str]:
    text = (GOLDEN / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith("#")]


def golden_frames() -> Iterator[tuple[str, Envelope]]:
    for filled, case in itertools.groupby(lines("frames.txt"), key=bool):
        if filled:
            frame, kind, number, function, payload = case
            yield (
                frame.removeprefix("> "),
                Envelope(MessageType(int(kind[2:])), int(number[2:]), function[2:], payload[2:]),
            )


@pytest.mark.parametrize(("frame", "envelope"), list(golden_frames()))
def test_a_golden_frame_is_read_and_written_byte_for_byte(frame: str, envelope: Envelope) -> None:
    assert decode(frame.encode()) == envelope
    assert encode(envelope) == frame.encode()


@pytest.mark.parametrize("line", lines("no_frames.txt"))
def test_what_is_no_frame_says_why(line: str) -> None:
    reason, message = line.split(" | ", 1)
    with pytest.raises(BadEnvelope, match=f"^{re.escape(reason)}"):
        decode(message.encode())


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + b'{"m":1,"i":2,"n":"F","o":"{}"}',  # a byte order mark
        '{"m":1,"i":2,"n":"F","o":"{}"}'.encode("utf-16"),
        b'{"m":1,"i":2,"n":"\xed\xa0\x80","o":"{}"}',  # a surrogate in UTF-8
        b"[" * 100_000,
        b'{"m":1,"i":2,"n":"F","o":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"m":1,"i":' + b"9" * 100_000 + b',"n":"F","o":"{}"}',
    ],
    ids=["empty", "not UTF-8", "BOM", "UTF-16", "surrogate", "deep", "deep payload", "long integer"],
)
def test_hostile_bytes_are_no_frame(message: bytes) -> None:
    with pytest.raises(BadEnvelope):
        decode(message)


@pytest.mark.parametrize(
    "written", ['{"result": true, "amount": 0.10}', "[19]", "true", "null", "1E+2", "1e400", '{"o": {"o":1}}']
)
@pytest.mark.parametrize(
    "frame",
    [
        '{"m":1,"i":2,"n":"F","o":%s}',
        '{"m":1,"i":2,"n":"F","o": %s}',
        '{"m":1,"i":2,"n":"F","o":%s }',
        ' {"i" : 2,\n"n":"F", "m":1, "o" :\t%s\r} ',
        '{"o":%s,"m":1,"x":{"o":"not this"},"i":2,"n":"F"}',
        '{"m":1,"i":2,"n":"F","\\u006f":%s}',
    ],
    ids=["as documented", "a gap before it", "a gap behind it", "with gaps", "in another order", "with an escaped key"],
)
def test_a_bare_payload_is_the_text_that_stands_there(frame: str, written: str) -> None:
    assert decode((frame % written).encode()) == Envelope(MessageType.REPLY, 2, "F", written)


def test_unknown_keys_beside_the_four_are_passed_over() -> None:
    assert decode(b'{"v":2,"m":1,"i":2,"n":"F","o":"{}"}') == Envelope(MessageType.REPLY, 2, "F", "{}")


@given(
    kind=st.sampled_from(MessageType),
    sequence=st.integers(-(2**63), 2**63 - 1),
    function=st.text(),
    payload=st.text(),
)
@example(kind=MessageType.REPLY, sequence=-(2**63), function="F", payload="{}")
@example(kind=MessageType.REPLY, sequence=2**63 - 1, function="F", payload="{}")
def test_any_frame_survives_the_way_there_and_back(
    kind: MessageType, sequence: int, function: str, payload: str
) -> None:
    envelope = Envelope(kind, sequence, function, payload)
    written = encode(envelope)
    assert decode(written) == envelope
    assert decode(bytearray(written)) == decode(memoryview(written)) == envelope
    assert json.loads(written) == {"m": kind, "i": sequence, "n": function, "o": payload}


gaps = st.sampled_from(["", "", "", " ", "\n", "\t\r"])


@given(st.lists(gaps, min_size=18, max_size=18), st.sampled_from(['"{}"', '""', '{"a": 1}', "7", "null", '" "']))
def test_gaps_between_the_tokens_of_a_frame_mean_nothing(between: list[str], payload: str) -> None:
    tokens = ["{", '"m"', ":", "1", ",", '"i"', ":", "2", ",", '"n"', ":", '"F"', ",", '"o"', ":", payload, "}"]
    written = "".join(itertools.chain(*zip(between, [*tokens, ""], strict=True)))
    text = json.loads(payload)
    assert decode(written.encode()) == Envelope(MessageType.REPLY, 2, "F", text if isinstance(text, str) else payload)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("mino") | st.text(), inner),
)


@given(st.binary() | any_json.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_a_frame_or_a_bad_envelope(message: bytes) -> None:
    try:
        envelope = decode(message)
    except BadEnvelope:
        return
    assert decode(encode(envelope)) == envelope


@given(st.decimals(allow_nan=False, allow_infinity=False, places=28))
def test_every_digit_of_a_decimal_survives(number: Decimal) -> None:
    text = write_json({"Amount": number})
    read = read_json(text)
    assert isinstance(read, dict)
    assert str(read["Amount"]) == str(number) or read["Amount"] == number
    assert "E" not in text


def test_a_number_out_of_range_is_refused_in_any_decimal_context() -> None:
    with localcontext(ExtendedContext), pytest.raises(ValueError, match="out of range"):
        read_json("[1e9999999999999999999]")


def test_a_number_keeps_its_trailing_zeros() -> None:
    assert write_json(read_json("[0.0010000000000000000000000000]")) == "[0.0010000000000000000000000000]"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": [1, float("nan")]}, r"nan at \['a'\]\[1\]"),
        ({"a": float("inf")}, r"inf at \['a'\]"),
        ({"a": Decimal("NaN")}, r"'NaN'\) at \['a'\]"),
        ({"a": Decimal("1E+999999")}, "1E"),
        ({"a": {1: 2}}, r"key 1 at \['a'\] has no place"),
        ({"a": {1, 2}}, r"set at \['a'\]"),
        (b"bytes", "bytes has no place"),
        (10**5000, "digit"),
    ],
    ids=["nan", "inf", "Decimal nan", "huge exponent", "key", "set", "bytes", "long int"],
)
def test_what_json_cannot_hold_is_named_with_its_place(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        write_json(value)


@pytest.mark.parametrize(("last", "first_beyond"), [("1E+100", "1E+101"), ("1E-100", "1E-101")])
def test_a_number_is_written_in_plain_digits_up_to_a_hundred_places_either_way(last: str, first_beyond: str) -> None:
    written = write_json(Decimal(last))
    assert Decimal(written) == Decimal(last)
    assert set(written) <= set("01.")
    with pytest.raises(ValueError, match=re.escape(f"the number Decimal('{first_beyond}') has no place in JSON")):
        write_json(Decimal(first_beyond))


def test_what_is_nested_too_deep_is_refused_in_reading() -> None:
    with pytest.raises(ValueError, match="^nested too deep$"):
        read_json("[" * 100_000)


def test_what_is_nested_too_deep_is_refused_in_writing_too() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="^it is nested too deep$"):
        write_json(nested)


def test_json_is_written_compact_and_in_order() -> None:
    value = {"z": None, "a": [True, False, 1, "é", 1.5, Decimal("1.10"), (), {}]}
    assert write_json(value) == '{"z":null,"a":[true,false,1,"\\u00e9",1.5,1.10,[],{}]}'
