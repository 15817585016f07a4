"""The futures table, alone: the future of each call, and the table after each way for a call to end."""

import asyncio
import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioalphapoint import CallNotSent, CallTimeout, ConnectionLost, Stats
from aioalphapoint._envelope import Envelope, MessageType
from aioalphapoint._pending import PendingCall, PendingCalls
from test_faults import timers


def lost(function: str, sequence: int) -> ConnectionLost:
    return ConnectionLost("gone", function=function, sequence=sequence)


def register(
    table: PendingCalls, function: str = "F", *, seconds: float = 60.0, is_written: bool = True
) -> PendingCall:
    call = table.register(function, deadline=asyncio.get_running_loop().time() + seconds, timeout=seconds)
    call.is_written = is_written
    return call


def reply(sequence: int, payload: str = "{}", kind: MessageType = MessageType.REPLY) -> Envelope:
    return Envelope(kind, sequence, "f", payload)


async def test_numbers_are_even_from_two_and_start_again_in_each_table() -> None:
    for _ in range(2):
        table = PendingCalls(Stats())
        calls = [register(table) for _ in range(5)]
        assert [call.sequence for call in calls] == [2, 4, 6, 8, 10]
        for call in calls:
            table.forget(call)
        assert len(table) == 0


async def test_a_number_is_not_used_again_after_its_call_left() -> None:
    table = PendingCalls(Stats())
    left = register(table)
    table.forget(left)
    table.forget(left)  # a second time is nobody's harm
    call = register(table)
    assert call.sequence == 4
    table.forget(call)


@given(order=st.permutations(range(8)))
def test_replies_in_any_order_reach_their_own_callers(order: list[int]) -> None:
    async def run() -> None:
        stats = Stats()
        table = PendingCalls(stats)
        calls = [register(table) for _ in order]
        for position in order:
            table.resolve(reply(calls[position].sequence, str(position)))
        assert [call.future.result().payload for call in calls] == [str(position) for position in range(8)]
        for call in calls:
            table.forget(call)
        assert (len(table), stats.replies, stats.late_replies, stats.dropped_frames) == (0, 8, 0, 0)

    asyncio.run(run())


@pytest.mark.parametrize("kind", MessageType)
async def test_only_replies_and_errors_complete_a_call(kind: MessageType) -> None:
    stats = Stats()
    table = PendingCalls(stats)
    call = register(table)
    table.resolve(reply(call.sequence, kind=kind))
    completes = kind in (MessageType.REPLY, MessageType.ERROR)
    assert call.future.done() is completes
    assert (stats.replies, stats.dropped_frames) == ((1, 0) if completes else (0, 1))
    table.forget(call)


async def test_doubled_late_and_unknown_replies_are_counted_and_touch_nobody() -> None:
    stats = Stats()
    table = PendingCalls(stats)
    first, second = register(table), register(table)
    table.resolve(reply(first.sequence, "first"))
    table.resolve(reply(first.sequence, "doubled"))
    table.forget(first)
    table.resolve(reply(first.sequence, "late"))
    for unknown in (0, 1, 3, -2, 6, 2**62):
        table.resolve(reply(unknown))
    for _ in range(2):
        table.resolve(reply(second.sequence, "event", MessageType.EVENT))
    assert first.future.result().payload == "first"
    assert not second.future.done()
    assert (stats.replies, stats.late_replies, stats.dropped_frames) == (1, 2, 8)
    table.resolve(reply(second.sequence, "second"))
    assert second.future.result().payload == "second"
    table.forget(second)


async def test_a_deadline_ends_its_own_call_alone() -> None:
    table = PendingCalls(Stats())
    hurried, patient = register(table, "Hurried", seconds=0.01), register(table)
    with pytest.raises(CallTimeout, match=r"^Hurried got no reply within 0.01 s") as caught:
        await hurried.future
    assert (caught.value.function, caught.value.sequence, caught.value.timeout) == ("Hurried", 2, 0.01)
    assert isinstance(caught.value, TimeoutError)
    assert not patient.future.done()
    for call in (hurried, patient):
        table.forget(call)
    assert len(table) == 0


async def test_a_reply_just_before_the_deadline_wins() -> None:
    stats = Stats()
    table = PendingCalls(stats)
    call = register(table, seconds=0.01)
    table.resolve(reply(call.sequence))
    timer = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.03, timer.set_result, None)
    await timer  # past the deadline: an exception set on the finished future would be an error of the loop
    assert call.future.result().sequence == call.sequence
    table.forget(call)


async def test_the_end_of_the_connection_fails_every_call_with_an_error_of_its_own() -> None:
    table = PendingCalls(Stats())
    calls = [register(table, f"F{number}") for number in range(100)]
    calls[3].future.cancel()  # its caller was cancelled in the same moment
    table.fail_all(lost)
    errors = [call.future.exception() for number, call in enumerate(calls) if number != 3]
    assert len({id(error) for error in errors}) == 99
    assert [(error.function, error.sequence) for error in errors if isinstance(error, ConnectionLost)] == [
        (call.function, call.sequence) for number, call in enumerate(calls) if number != 3
    ]
    assert str(errors[0]) == "gone"
    for call in calls:
        table.forget(call)
    assert len(table) == 0


async def test_nothing_is_registered_after_the_end() -> None:
    table = PendingCalls(Stats())
    table.fail_all(lost)
    with pytest.raises(AssertionError):
        register(table)
    assert len(table) == 0


async def test_a_failure_that_nobody_looks_at_is_not_reported_by_asyncio() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    table = PendingCalls(Stats())
    call = register(table)
    table.fail_all(lost)
    table.forget(call)
    del call
    gc.collect()
    assert complaints == []


async def test_the_round_trip_is_measured_from_the_frame_to_its_reply() -> None:
    stats = Stats()
    table = PendingCalls(stats)
    call = register(table)
    call.registered -= 0.5  # as if half a second had passed
    table.resolve(reply(call.sequence))
    assert stats.last_round_trip == pytest.approx(0.5, abs=0.2)
    table.forget(call)


async def test_nothing_answers_a_call_that_was_not_written_and_it_ends_as_not_sent() -> None:
    stats = Stats()
    table = PendingCalls(stats)
    call = register(table, seconds=0.01, is_written=False)
    table.resolve(reply(call.sequence))
    assert not call.future.done()
    assert (stats.replies, stats.late_replies) == (0, 1)
    with pytest.raises(CallNotSent, match=r"^F was not sent: it could not be written within 0\.01 s$"):
        await call.future
    table.forget(call)
    assert len(table) == 0


async def test_the_end_of_a_connection_leaves_no_timer_behind() -> None:
    loop = asyncio.get_running_loop()
    table = PendingCalls(Stats())
    call = register(table, seconds=1234.0)
    table.fail_all(lost)
    table.forget(call)
    assert not [timer for timer in timers(loop) if not timer.cancelled() and timer.when() > loop.time() + 1000]
