"""The storm of the campaign, small: `make chaos` runs it at full size. And its judges, who must see a lie."""

import asyncio
import time

import pytest

from aioalphapoint import CallNotSent, CallRejected, CallTimeout, ConnectionLost, StandardResponse
from aioalphapoint.testing import Arrival
from chaos.calls import KINDS
from chaos.lag import FirstStep, Lag
from chaos.ledger import Told, judge
from chaos.storm import storm

CANCEL = KINDS[0]
NOT_SENT = CallNotSent("F was not sent", function="F")
TIMED_OUT = CallTimeout("F got no reply", timeout=1.0, function="F", sequence=2)
LOST = ConnectionLost("the connection ended", close_code=1006, function="F", sequence=2)
REFUSED = CallRejected("F was refused", code=101, detail="300", function="F", sequence=2)


@pytest.mark.parametrize("seed", [104, 109])
async def test_in_a_storm_every_call_ends_in_time_and_is_told_the_truth(seed: int) -> None:
    tally = await storm(seed, calls=400, disconnects=5)
    assert tally.problems == []
    assert tally.verdict.ends["answered"] > 20


def answer(detail: str) -> StandardResponse:
    return StandardResponse(result=True, errormsg=None, errorcode=0, detail=detail)


def arrivals(*executed: bool) -> list[Arrival]:
    """Give what arrived of the call about ticket 300."""
    return [Arrival(1, "", 2, "F", '{"ticketId":300}', executed=was_executed) for was_executed in executed]


@pytest.mark.parametrize(
    ("outcome", "journal"),
    [
        (answer("300"), arrivals(True)),
        (REFUSED, arrivals(False)),
        (NOT_SENT, []),
        *((unknown, journal) for unknown in (LOST, TIMED_OUT) for journal in ([], arrivals(True), arrivals(False))),
    ],
)
def test_who_was_told_the_truth_is_counted_by_how_the_call_ended_alone(outcome: object, journal: list[Arrival]) -> None:
    verdict = judge([Told(CANCEL, 300, outcome)], journal)
    assert (verdict.problems, verdict.ends.total()) == ([], 1)


@pytest.mark.parametrize(
    ("outcome", "journal", "wrong"),
    [
        (answer("300"), [], "misreported"),
        (answer("300"), arrivals(False), "misreported"),
        (answer("300"), arrivals(True, False), "twice misreported"),
        (answer("301"), arrivals(True), "wrong_caller"),
        (None, arrivals(True), "wrong_caller"),
        (REFUSED, arrivals(True), "misreported"),
        (REFUSED, [], "misreported"),
        (NOT_SENT, arrivals(False), "misreported"),
        (LOST, arrivals(True, True), "twice"),
        (TIMED_OUT, arrivals(True), "misreported"),  # before its time
        (KeyError("2"), [], "misreported"),
        (asyncio.CancelledError(), [], "misreported"),
    ],
)
def test_who_was_told_a_lie_is_counted_for_it(outcome: object, journal: list[Arrival], wrong: str) -> None:
    verdict = judge([Told(CANCEL, 300, outcome, after=-0.5)], journal)
    counted = {name: getattr(verdict, name) for name in ("wrong_caller", "twice", "misreported")}
    assert counted == {name: int(name in wrong.split()) for name in counted}
    assert verdict.problems


def test_who_was_cancelled_on_purpose_was_told_nothing_and_is_still_not_carried_out_twice() -> None:
    told = Told(CANCEL, 300, asyncio.CancelledError(), was_cancelled=True)
    assert judge([told], arrivals(True)).problems == []
    assert judge([told], arrivals(True, True)).twice == 1


async def test_the_loop_has_lagged_since_a_moment_for_no_longer_than_it_was_held_up_since_then() -> None:
    loop = asyncio.get_running_loop()
    with Lag() as lag:
        await asyncio.sleep(0.02)
        before = loop.time()
        time.sleep(0.1)  # noqa: ASYNC251  (which is what holds it up)
        middle = loop.time()
        time.sleep(0.1)  # noqa: ASYNC251
        assert lag.after(middle) <= loop.time() - middle
        assert lag.after(before) > 0.19
        await asyncio.sleep(0.01)  # a tick that was due before both
        assert 0.09 < lag.after(middle) <= loop.time() - middle
        assert 0.19 < lag.after(before) <= loop.time() - before
        assert lag.worst > 0.19
        assert lag.after(loop.time()) < 0.01


@pytest.mark.parametrize("waits", [False, True])
async def test_the_first_step_of_a_call_is_measured_and_nothing_else_of_it_is_changed(waits: bool) -> None:
    async def work() -> str:
        time.sleep(0.05)  # noqa: ASYNC251  (which is what holds it up)
        if waits:
            await asyncio.sleep(0.05)
        return "done"

    call = FirstStep(work())
    assert await call == "done"
    assert 0.05 <= call.took < 0.09


async def test_whoever_is_cancelled_in_a_measured_call_is_cancelled_within() -> None:
    ended: list[BaseException] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    async def caller() -> None:
        await FirstStep(work())

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(ended) == 1
