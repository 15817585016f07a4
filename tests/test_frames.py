"""The stream of WebSocket frames, taken apart: what is left to websockets and what is not, against websockets alone."""

import itertools
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from aioalphapoint._frames import FrameSplitter, text_frames

MOST = 70_000  # bytes of a message

sizes = st.sampled_from([0, 1, 2, 30, 124, 125, 126, 127, 300, 65_535, 65_536, MOST, MOST + 1]) | st.integers(0, 200)
usual = st.builds(
    lambda size, letter: frame(Opcode.TEXT, letter * size), sizes, st.sampled_from([b"a", b"\x81", b"\x00"])
)
unusual = st.builds(
    lambda opcode, size, is_last: frame(opcode, b"b" * min(size, 125), fin=is_last),
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    sizes,
    st.booleans(),
)
control = st.builds(
    lambda opcode, size: frame(opcode, b"c" * min(size, 125)), st.sampled_from([Opcode.PING, Opcode.PONG]), sizes
)
parts = st.builds(
    lambda opcode, between: frame(opcode, b"d", fin=False) + between + frame(Opcode.CONT, b"e"),
    st.sampled_from([Opcode.TEXT, Opcode.BINARY]),
    control | st.just(b""),
)
close = st.just(b"\x88\x02\x03\xe8")
streams = st.lists(usual | control | parts | usual | unusual | close | st.binary(max_size=20), max_size=12).map(
    b"".join
)


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


def client() -> Protocol:
    return Protocol(Side.CLIENT, state=State.OPEN, max_size=MOST)


def messages(protocol: Protocol) -> list[tuple[Opcode, bytes, bool]]:
    return [
        (event.opcode, bytes(event.data), event.fin)
        for event in protocol.events_received()
        if isinstance(event, Frame) and event.opcode is not Opcode.CLOSE
    ]


@given(stream=streams, seed=st.integers(0, 2**32))
@example(stream=frame(Opcode.TEXT, b"one", fin=False) + frame(Opcode.TEXT, b"two"), seed=0)
@example(stream=frame(Opcode.TEXT, b"a" * 126) + frame(Opcode.TEXT, b"b" * 65_536) * 2, seed=1)
@example(stream=b"\x83\x7e", seed=0)
@example(stream=b"\x81\xff", seed=0)
@example(stream=b"s\xff\x900\xc29", seed=0)
@example(stream=b"\x89\x00" * 3 + b"\x88\x00" + b"\x89\x00" * 3, seed=3)
@example(stream=b"\x81\xff" + b"\xff" * 8 + frame(Opcode.TEXT, b"no message of its own"), seed=2)
def test_wherever_a_stream_is_cut_all_arrives_that_websockets_alone_would_read_in_its_order(
    stream: bytes, seed: int
) -> None:
    alone, behind, chance = client(), client(), random.Random(seed)
    alone.receive_data(stream)
    splitter, read, at = FrameSplitter(MOST), list[tuple[Opcode, bytes, bool]](), 0
    while at < len(stream):
        until = at + chance.choice([1, 2, 3, 10, 100, len(stream)])
        for is_message, part in splitter.split(stream[at:until]):
            if not is_message:
                behind.receive_data(part)
                read += messages(behind)
            elif behind.state is State.OPEN:
                read.append((Opcode.TEXT, part, True))
        at = until
    assert read == messages(alone)
    assert behind.state is alone.state
    assert repr(behind.parser_exc) == repr(alone.parser_exc)
    assert behind.close_rcvd == alone.close_rcvd


def test_whole_text_messages_are_not_left_to_websockets() -> None:
    stream = frame(Opcode.TEXT, b"a") + frame(Opcode.TEXT, b"b" * 300) + frame(Opcode.TEXT, b"c" * 65_536)
    assert list(FrameSplitter(MOST).split(stream)) == [(True, b"a"), (True, b"b" * 300), (True, b"c" * 65_536)]


@pytest.mark.parametrize(
    ("before", "left"),
    [
        (frame(Opcode.PING, b"p"), frame(Opcode.PING, b"p")),
        (frame(Opcode.BINARY, b"b" * 300), frame(Opcode.BINARY, b"b" * 300)),
        (frame(Opcode.TEXT, b"a", fin=False) + frame(Opcode.CONT, b"b"),) * 2,
        (frame(Opcode.TEXT, b"a", fin=False) + frame(Opcode.PONG, b"") + frame(Opcode.CONT, b"b"),) * 2,
        (frame(Opcode.TEXT, b"a" * (MOST + 1)),) * 2,
    ],
    ids=["ping", "binary", "parts", "parts with a pong between", "too large"],
)
@pytest.mark.parametrize("cut", [1, 3, 5])
def test_behind_what_is_left_to_websockets_messages_are_taken_out_again(before: bytes, left: bytes, cut: int) -> None:
    splitter, largest = FrameSplitter(MOST), frame(Opcode.TEXT, b"m" * MOST)
    stream = before + largest * 2
    parts = [*splitter.split(stream[:cut]), *splitter.split(stream[cut:])]
    assert b"".join(part for is_message, part in parts if not is_message) == left
    assert [part for is_message, part in parts if is_message] == [b"m" * MOST] * 2


@pytest.mark.parametrize("masked", [b"\x81\x80abcd", b"\x81\x82abcdxy", b"\x81\xfe\x00\x7eabcd" + b"x" * 126])
def test_a_masked_message_is_a_breach_and_left_to_websockets(masked: bytes) -> None:
    stream = frame(Opcode.TEXT, b"one") + masked
    assert list(FrameSplitter(MOST).split(stream)) == [(True, b"one"), (False, masked)]


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x80"),
        (125, b"\x81\xfd"),
        (126, b"\x81\xfe\x00\x7e"),
        (65_535, b"\x81\xfe\xff\xff"),
        (65_536, b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_length_is_written_in_the_fewest_bytes(size: int, head: bytes) -> None:
    """RFC 6455, section 5.2, asks for that."""
    written = text_frames([b"x" * size])
    assert written.startswith(head)
    assert len(written) == len(head) + 4 + size


@given(st.lists(st.binary(max_size=200) | st.sampled_from([b"x" * 125, b"x" * 126, b"x" * 65_535, b"x" * 65_536])))
def test_what_is_written_is_what_a_server_reads(texts: list[bytes]) -> None:
    server = Protocol(Side.SERVER, state=State.OPEN)
    server.receive_data(text_frames(texts))
    assert messages(server) == [(Opcode.TEXT, text, True) for text in texts]


def test_each_frame_is_masked_by_bytes_of_its_own() -> None:
    written = text_frames([b"\x00" * 8] * 100)
    masks = [written[start + 2 : start + 6] for start in range(0, len(written), 14)]
    assert len(set(masks)) > 90
    assert all(
        written[start + 6 : start + 14] == mask * 2 for start, mask in zip(itertools.count(0, 14), masks, strict=False)
    )
