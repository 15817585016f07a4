"""A state machine that does anything to one client and one exchange, in any order, and compares with a small model.

Nothing here depends on the time of day: the loop's clock stands still until nothing can run or arrive any more, and
then jumps. A step ends there, or a few turns of the loop after its deed, so that the next deed falls into the middle.

The suite runs few examples, always the same ones: a failure is one of the change that is tested, and not of the day.
`ALPHAPOINT_CHAOS_EXAMPLES` runs as many as it says, other ones in each run; what fails is kept and tried again first.
"""

import asyncio
import os
import random
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from http import HTTPStatus

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aioalphapoint import Backoff, Client, SessionState
from aioalphapoint.testing import SimulatedExchange
from chaos.clock import ClockedLoop
from chaos.model import CLOSING, CONNECT_TIMEOUT, LONGEST_PAUSE, MOST, RECOVERY, Model
from conftest import OPERATOR

EXAMPLES = os.environ.get("ALPHAPOINT_CHAOS_EXAMPLES")

CALLS = (
    "CancelWithdraw",
    "CancelFailedWithdrawTicket",
    "GetWithdrawTicket",
    "GetWithdrawTickets",
    "Ping",
    "NoSuchFunction",
)
LONGEST_CALL = 30.0  # seconds
FUNCTIONS = st.lists(st.sampled_from(CALLS), min_size=1, max_size=MOST + 2)
TIMEOUT = st.sampled_from([0.05, 0.5, 4.0, LONGEST_CALL])
SPOILT = ("mute", "delay", "garble", "duplicate", "reorder", "reject", "cut before", "cut after")
OFTEN_SPOILT = (*SPOILT, "mute", "mute", "mute", "delay", "delay", "cut before", "cut after")
CONCERNED = (*CALLS, *CALLS, "AuthenticateUser", "LogOut", None)
NUMBER = st.integers(0, 3)
SECONDS = st.sampled_from([0.01, 0.3, 1.5, 6.0, 20.0])
LOGOUT_EVENT = 0  # no close code: the exchange ends the logins in place of the connections
CODE = st.sampled_from([None, 1000, 1001, 1011, LOGOUT_EVENT])
# How many turns of the loop a step takes; None: until it is settled.
TURNS = st.one_of(st.none(), st.integers(0, 12))
WHICH = st.integers(0, 9)
OVER = (SessionState.IDLE, SessionState.CLOSED, SessionState.FAILED)

Fault = AbstractContextManager[None]


class Machine(RuleBasedStateMachine):
    """One client and one exchange, and all that may be done to them."""

    model: Model
    client: Client

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=ClockedLoop)
        loop = self.runner.get_loop()
        assert isinstance(loop, ClockedLoop)
        self.loop = loop
        self.exchange = SimulatedExchange()
        self.exchange.add_user(OPERATOR.user_name, OPERATOR.password, permissions=["Operator"])
        self.runner.run(self.exchange.__aenter__())
        self.is_down = False
        self.chores: set[asyncio.Task[None]] = set()  # what the exchange is at
        self.faults: dict[str, Fault] = {}
        self.disturbing: set[str] = set()  # those of them that may fail a login or end a connection

    @initialize(
        reconnects=st.sampled_from([True] * 2 + [False]),
        ping_interval=st.sampled_from([None, 3.0]),
        is_connected=st.sampled_from([True] * 5 + [False]),
    )
    def begin(self, reconnects: bool, ping_interval: float | None, is_connected: bool) -> None:
        self.client = Client(
            self.exchange.url,
            OPERATOR,
            reconnect=Backoff(first=0.5, cap=LONGEST_PAUSE) if reconnects else None,
            ping_interval=ping_interval,
            connect_timeout=CONNECT_TIMEOUT,
            max_in_flight=MOST,
        )
        self.model = Model(self.loop, self.exchange, self.client, reconnects=reconnects, ping_interval=ping_interval)
        if is_connected:
            self.connect(None)

    def step(
        self,
        turns: int | None,
        deed: Callable[[], Coroutine[None, None, object] | None],
        *,
        is_trouble: bool = False,
    ) -> None:
        async def go() -> None:
            work = deed()
            if work is not None:
                await work
            if turns is None:
                await self.loop.settled()
            for _ in range(turns or 0):
                await asyncio.sleep(0)

        if is_trouble:
            self.model.trouble()
            self.model.cuts += 1
        self.runner.run(go())
        if is_trouble or self.is_down or self.disturbing:
            self.model.trouble()
        is_refusing = not self.is_down and self.disturbing in ({"refuse dials for good"}, {"refuse logins"})
        if is_trouble or not is_refusing:
            self.model.refused_since = self.loop.time()
        self.model.check(is_settled=turns is None)
        assert self.loop.complaints == []

    def chore(self, work: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(work)
        self.chores.add(task)
        task.add_done_callback(self.chores.discard)

    # The callers' deeds, and the owner's. Those that end a session are few among the rules, or little would happen.

    @rule(functions=FUNCTIONS, timeout=TIMEOUT, turns=TURNS)
    def call(self, functions: list[str], timeout: float, turns: int | None) -> None:
        def call() -> None:
            for function in functions:
                self.model.call(function, timeout)

        self.step(turns, call)

    @precondition(lambda self: self.model.pending())
    @rule(which=WHICH, turns=TURNS)
    def give_up_a_call(self, which: int, turns: int | None) -> None:
        pending = self.model.pending()
        call = pending[which % len(pending)]
        self.step(turns, call.give_up)

    @rule(turns=TURNS)
    def connect(self, turns: int | None) -> None:
        limit = CONNECT_TIMEOUT + CLOSING
        self.step(turns, lambda: self.model.act("connect", self.client.connect(), limit))

    @rule(is_log_out=st.booleans(), is_for_good=st.sampled_from([True, False, False]), turns=TURNS)
    def end_the_session(self, is_log_out: bool, is_for_good: bool, turns: int | None) -> None:
        if not is_log_out:
            self.step(turns, lambda: self.model.act("close", self.client.close(), CLOSING))
        elif all(act.kind != "log out" for act in self.model.acts):  # LogOut names no caller: one at a time
            self.step(turns, lambda: self.model.act("log out", self.client.log_out(timeout=4.0), 4.0 + CLOSING))
        if not is_for_good:
            self.connect(None)

    @precondition(lambda self: self.model.acts)
    @rule(which=WHICH, turns=TURNS)
    def give_up_a_deed(self, which: int, turns: int | None) -> None:
        act = self.model.acts[which % len(self.model.acts)]
        self.step(turns, lambda: self.model.give_up(act))

    # What the exchange and the network do.

    @rule(seconds=SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        self.step(None, self.loop.settled)
        self.step(None, lambda: asyncio.sleep(seconds))

    @rule(code=CODE, turns=TURNS)
    def lose(self, code: int | None, turns: int | None) -> None:
        if code == LOGOUT_EVENT:
            self.step(turns, self.exchange.log_out_everybody, is_trouble=True)
        else:
            self.step(turns, lambda: self.chore(self.exchange.cut_now(code)), is_trouble=True)

    def stop_or_start_the_server(self, turns: int | None) -> None:
        if self.is_down:
            self.step(turns, self.start_the_server, is_trouble=True)
        else:
            self.is_down = True
            self.step(turns, lambda: self.chore(self.exchange.__aexit__(None, None, None)), is_trouble=True)

    async def start_the_server(self) -> None:
        if self.chores:
            await asyncio.wait(self.chores)
        await self.exchange.__aenter__()
        self.is_down = False

    @rule(kind=st.sampled_from(SPOILT), function=st.sampled_from(CONCERNED), number=NUMBER, turns=TURNS)
    def spoil_replies(self, kind: str, function: str | None, number: int, turns: int | None) -> None:
        concerns_login = function in (None, "AuthenticateUser", "Ping") and kind != "duplicate"
        is_disturbing = concerns_login or kind.startswith("cut")
        self.switch_on(kind, self.spoilt(kind, function, number), turns, is_disturbing=is_disturbing)

    @rule(kind=st.sampled_from(OFTEN_SPOILT), number=NUMBER, functions=FUNCTIONS, timeout=TIMEOUT, turns=TURNS)
    def call_and_spoil_the_reply(
        self, kind: str, number: int, functions: list[str], timeout: float, turns: int | None
    ) -> None:
        """The fault is over after the step; what it keeps from the client then comes late, or never."""
        if kind not in self.faults:
            self.spoil_replies(kind, None, number, 0)
            self.call(functions, timeout, turns)
            self.end(kind, 0)

    def spoilt(self, kind: str, function: str | None, number: int) -> Fault:
        faults = self.exchange.faults
        if kind.startswith("cut"):
            return faults.cut((None, 1000, 1001, 1011)[number], before=kind == "cut before", function=function)
        made: dict[str, Callable[[], Fault]] = {
            "mute": lambda: faults.mute(function),
            "delay": lambda: faults.delay((0.0, 0.1, 1.0, 7.0)[number], function),
            "garble": lambda: faults.garble(function),
            "duplicate": lambda: faults.duplicate(function),
            "reorder": lambda: faults.reorder(number + 1, random.Random(number), function),
            "reject": lambda: faults.reject((20, 100, 101, 104)[number], function=function),
        }
        return made[kind]()

    @precondition(lambda self: self.client.state is SessionState.READY)
    @rule(
        kind=st.sampled_from(["freeze", "stop", "refuse dials", "refuse dials for good", "refuse logins"]),
        code=CODE,
        seconds=st.sampled_from([0.3, 20.0]),
    )
    def bar_the_way_back(self, kind: str, code: int | None, seconds: float) -> None:
        """And then the connection is lost. A freeze has to be noticed."""
        faults = self.exchange.faults
        match kind:
            case "stop":
                self.stop_or_start_the_server(None)
            case "freeze":
                self.switch_on(kind, faults.freeze(), None)
            case "refuse dials":
                self.switch_on(kind, faults.refuse_dial(HTTPStatus.TOO_MANY_REQUESTS), 0)
            case "refuse dials for good":
                self.model.is_refused_for_good = True
                self.switch_on(kind, faults.refuse_dial(HTTPStatus.FORBIDDEN), 0)
            case _:
                self.switch_on(kind, faults.refuse_login(), 0)
        if kind.startswith("refuse"):
            self.lose(code, None)
        self.let_time_pass(seconds)

    def switch_on(self, kind: str, fault: Fault, turns: int | None, *, is_disturbing: bool = True) -> None:
        if kind in self.faults:
            return
        self.faults[kind] = fault
        if is_disturbing:
            self.disturbing.add(kind)
        self.step(turns, fault.__enter__, is_trouble=is_disturbing)

    @precondition(lambda self: self.faults)
    @rule(which=WHICH, turns=TURNS)
    def switch_off(self, which: int, turns: int | None) -> None:
        self.end(list(self.faults)[which % len(self.faults)], turns)

    @precondition(lambda self: self.faults or self.is_down)
    @rule(connects=st.booleans())
    def make_all_well(self, connects: bool) -> None:
        for kind in list(self.faults):
            self.end(kind, 0)
        if self.is_down:
            self.stop_or_start_the_server(None)
        if connects and self.client.state in OVER:
            self.connect(None)

    def end(self, kind: str, turns: int | None) -> None:
        fault = self.faults.pop(kind)
        is_disturbing = kind in self.disturbing
        self.disturbing.discard(kind)

        def end() -> None:
            fault.__exit__(None, None, None)

        self.step(turns, end, is_trouble=is_disturbing)

    # The end: everything is well again, and the client is closed.

    def teardown(self) -> None:
        has_failed = sys.exc_info()[0] is not None
        with self.runner:
            try:
                if not has_failed:
                    self.recover()
            finally:
                self.runner.run(self.leave())
        if not has_failed:
            self.model.check(is_settled=True)

    def recover(self) -> None:
        self.make_all_well(connects=False)
        self.let_time_pass(RECOVERY)
        self.let_time_pass(LONGEST_CALL)
        assert not self.model.pending()
        assert not self.model.acts
        if self.client.state is SessionState.READY:
            self.call(["CancelWithdraw", "GetWithdrawTicket"], 1.0, None)
            self.model.check_table()
        self.end_the_session(is_log_out=False, is_for_good=True, turns=None)
        self.let_time_pass(CLOSING)

    async def leave(self) -> None:
        await self.client.close()
        await self.exchange.__aexit__(None, None, None)
        await self.loop.settled()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=int(EXAMPLES or 100),
    stateful_step_count=30,
    derandomize=EXAMPLES is None,
    deadline=None,  # of wall time
    # Making a failure short can take minutes: that is for the long run.
    phases=[Phase.generate] if EXAMPLES is None else [Phase.reuse, Phase.generate, Phase.shrink],
)
