"""The deadlines of many calls on one timer."""

import asyncio
import random
from collections.abc import Coroutine

import pytest

from aioalphapoint._deadlines import Deadlines
from chaos.clock import ClockedLoop
from loops import LOOPS, Factory
from test_faults import timers


def run(coroutine: Coroutine[None, None, None]) -> None:
    loop = ClockedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(coroutine)
    assert loop.complaints == []


@pytest.mark.parametrize("seed", range(20))
def test_each_number_expires_at_its_own_deadline_and_not_before_whatever_the_order(seed: int) -> None:
    async def check() -> None:
        loop, chance = asyncio.get_running_loop(), random.Random(seed)
        live: dict[int, float] = {}
        expired: list[int] = []

        def expire(number: int) -> None:
            deadline = live.pop(number)
            assert deadline <= loop.time() < deadline + 1e-3
            expired.append(number)

        deadlines = Deadlines(live.keys(), expire)
        for number in range(300):
            live[number] = loop.time() + chance.choice([0.0, 1.0, 1.0, chance.uniform(0, 100)])
            deadlines.add(live[number], number)
            if chance.random() < 0.3:
                await asyncio.sleep(chance.uniform(0, 5))
            if chance.random() < 0.3 and live:
                live.pop(chance.choice(list(live)))  # it was answered
        due = sorted(live, key=lambda number: (live[number], number))
        before = len(expired)
        await asyncio.sleep(200)
        assert expired[before:] == due
        assert not live
        assert len(deadlines) == 0
        assert not [timer for timer in timers(loop) if not timer.cancelled()]

    run(check())


async def test_a_thousand_deadlines_take_one_timer_and_none_when_they_are_ended() -> None:
    loop = asyncio.get_running_loop()
    before = len(timers(loop))
    deadlines = Deadlines(range(1000), lambda _: None)
    for number in range(1000):
        deadlines.add(loop.time() + 60 + number, number)
    assert len(timers(loop)) == before + 1
    deadlines.end()
    assert len(deadlines) == 0
    assert not [timer for timer in timers(loop) if timer.when() > loop.time() + 50 and not timer.cancelled()]


async def test_deadlines_of_what_was_answered_long_before_take_up_no_memory() -> None:
    loop = asyncio.get_running_loop()
    live: set[int] = set()
    deadlines = Deadlines(live, lambda _: None)
    for number in range(20_000):
        live.add(number)
        deadlines.add(loop.time() + 60, number)
        live.discard(number - 10)
        assert len(deadlines) < 100
    assert live
    deadlines.end()


def test_a_deadline_is_kept_however_many_others_are_passed_over_meanwhile() -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        live, expired = {-1, -2, -3}, list[int]()
        deadlines = Deadlines(live, expired.append)
        for number in (-1, -2, -3):
            deadlines.add(loop.time() + 10 - number, number)
        for number in range(1000):
            live.add(number)
            deadlines.add(loop.time() + 5 + number, number)
            live.remove(number)
        await asyncio.sleep(20)
        assert expired == [-1, -2, -3]

    run(check())


async def test_a_number_that_expires_while_others_are_looked_at_may_add_another_one() -> None:
    loop = asyncio.get_running_loop()
    live, expired, done = {1, 2}, list[int](), loop.create_future()

    def expire(number: int) -> None:
        live.discard(number)
        expired.append(number)
        if number == 1:
            live.add(3)
            deadlines.add(loop.time() - 1, 3)
        if number == 2:
            done.set_result(None)

    deadlines = Deadlines(live, expire)
    deadlines.add(loop.time() - 3, 1)
    deadlines.add(loop.time() + 0.001, 2)
    await done
    assert expired == [1, 3, 2]
    assert not live


@LOOPS
def test_deadlines_of_a_fraction_of_a_millisecond_are_kept_on_every_loop(factory: Factory) -> None:
    """uvloop counts in milliseconds, and its handles tell no time."""

    async def check() -> None:
        loop = asyncio.get_running_loop()
        live: set[int] = set()
        deadlines = Deadlines(live, live.discard)
        for number in range(200):
            live.add(number)
            deadlines.add(loop.time() + 0.0004 + number % 7 * 0.0003, number)
            await asyncio.sleep(0)
        while live:
            await asyncio.sleep(0.001)
        assert len(deadlines) == 0

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(check(), 5))


def test_whatever_is_raised_at_one_deadline_the_others_are_kept() -> None:
    live, expired = {1, 2, 3}, list[int]()

    def expire(number: int) -> None:
        live.discard(number)
        expired.append(number)
        if number == 1:
            raise KeyboardInterrupt  # as when somebody stops the loop of a notebook, and starts it again

    async def add() -> Deadlines:
        deadlines = Deadlines(live, expire)
        for number in live:
            deadlines.add(asyncio.get_running_loop().time() + 0.001 * number, number)
        return deadlines

    loop = asyncio.new_event_loop()
    deadlines = loop.run_until_complete(add())
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_until_complete(asyncio.sleep(0.01))
    assert expired == [1, 2, 3]
    assert len(deadlines) == 0
    loop.close()
