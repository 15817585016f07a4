"""The small model of a session: what was done to one client and one exchange, and where both must stand after it.

* The model of a call is in `chaos.told`; here its frames are found in the exchange's journal.
* A loss, a failed dial and a late answer are allowed only where there was a trouble: a step that may bring them.
* Most is known when a step has *settled*: when nothing can run or arrive any more until the clock goes on.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine
from itertools import islice

from aioalphapoint import (
    AuthenticationFailed,
    CallNotSent,
    Client,
    ConnectFailed,
    NotConnected,
    OutcomeUnknown,
    Overloaded,
)
from aioalphapoint import SessionState as State
from aioalphapoint.testing import Arrival, SimulatedExchange

from .told import Call, Told, key_of

__all__ = ["Act", "Model"]

CONNECT_TIMEOUT = 5.0  # seconds, like those below
LONGEST_PAUSE = 4.0
PONG = 5.0 + 0.1  # the library's patience with a ping
CLOSING = 2.0  # what `close` may take, as promised
# A login that gets no answer, or a ping, then the longest pause, and sockets that are closed on the way.
RECOVERY = CONNECT_TIMEOUT + LONGEST_PAUSE + CLOSING + 1.0
MOST = 4  # calls in flight
ROUNDING = 1e-6

_OVER = (State.IDLE, State.CLOSED, State.FAILED)
_UP = (State.READY, State.RECONNECTING)


class Act:
    """Something that the client's owner does: "connect", "close", or "log out"."""

    def __init__(self, kind: str, task: asyncio.Task[object], limit: float, model: Model) -> None:
        self.kind = kind
        self.task = task
        self.limit = model.loop.time() + limit
        self.found = model.client.state
        self.troubles = model.troubles
        self.beside = {act.kind for act in model.acts}  # what was under way when it began, or began meanwhile
        self.is_first = model.is_settled()  # whether nothing else happened between our look and its beginning
        self.is_given_up = False
        self.ended = 0.0


class Model:
    """One client, one exchange, and what is known of both."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        exchange: SimulatedExchange,
        client: Client,
        *,
        reconnects: bool,
        ping_interval: float | None,
    ) -> None:
        self.loop = loop
        self.exchange = exchange
        self.client = client
        self.calls: dict[tuple[str, int], Call] = {}
        self.acts: list[Act] = []  # under way
        self.troubles = 0
        self.healthy = 0.0  # when the last of them was over
        self.refused_since = 0.0  # since when each dial or login would be refused for good, or now
        self.cuts = 0  # deeds that may keep an answer from the client
        self.is_refused_for_good = False  # whether a handshake may have been, in this session
        self._reconnects = reconnects
        self._ping_interval = ping_interval
        self._acts_begun = 0
        self._acts_done: list[Act] = []  # in the order of their ends, and not looked at yet
        self._stands = State.IDLE  # READY where it is to be up
        self._quiet = 0.0  # from when on nothing of an ended session may be left
        self._seen = 0  # of the journal
        self._frames: Counter[int] = Counter()  # by connection
        self._login: Arrival | None = None  # on the newest connection
        self._logins: list[Arrival] = []
        self._pings: list[Arrival] = []  # those that the client sends by itself
        # When it was settled last:
        self._alive: set[int] = set()  # connections with a login
        self._accepted = 0  # connections so far
        self._ended = 0  # connections so far
        self._is_settled = True
        self._silent_since: float | None = None
        self._then: tuple[int, int] | None = (0, 0)  # troubles and acts so far; None where an act was under way
        self._cuts_then = 0
        self._login_then: Arrival | None = None

    # What was done.

    def call(self, function: str, timeout: float) -> None:
        """Begin a call of this function."""
        account_id = 1000 + len(self.calls)
        status = "Failed" if function == "CancelFailedWithdrawTicket" else "Pending"
        ticket = self.exchange.add_withdraw(account_id=account_id, amount="1.10", status=status)
        number = ticket.ticket_number
        client = self.client
        fields: dict[str, object] = {"OMSId": 1, "AccountId": account_id}
        work: Coroutine[None, None, object]
        match function:
            case "CancelWithdraw":
                work = client.cancel_withdraw(account_id=account_id, request_code=ticket.request_code, timeout=timeout)
            case "CancelFailedWithdrawTicket":
                work = client.cancel_failed_withdraw_ticket(ticket_id=number, timeout=timeout)
            case "GetWithdrawTicket":  # by its bare form: the method itself would notice another call's ticket
                fields["RequestCode"] = ticket.request_code
                work = client.call(function, fields, timeout=timeout)
            case "GetWithdrawTickets":
                work = client.get_withdraw_tickets(account_id=account_id, timeout=timeout)
            case _:
                work = client.call(function, fields, timeout=timeout)
        call = Call(function, account_id, number, timeout, self.loop.create_task(work))
        call.ahead = len(self.pending())
        call.is_found_over = self.client.state in _OVER or bool(self.acts)
        call.acts, call.ends = self._acts_begun, self._ended
        self.calls[function, number if function == "CancelFailedWithdrawTicket" else account_id] = call

    def act(self, kind: str, work: Coroutine[None, None, object], limit: float) -> None:
        """Begin a deed of the owner's, which has to end within `limit` seconds."""
        act = Act(kind, self.loop.create_task(work), limit, self)
        for other in self.acts:
            other.beside.add(kind)
        self.acts.append(act)
        self._acts_begun += 1

        def end(_task: object) -> None:
            act.ended = self.loop.time()
            self.acts.remove(act)
            self._acts_done.append(act)

        act.task.add_done_callback(end)

    def give_up(self, act: Act) -> None:
        """Cancel a deed of the owner's."""
        act.is_given_up = True
        for other in self.acts:
            other.beside.add("given up")
        act.task.cancel()

    def trouble(self) -> None:
        """Take note that connections may be lost from here on, and logins may fail."""
        self.troubles += 1
        self.healthy = self.loop.time()

    def is_settled(self) -> bool:
        """Say whether the last step has settled."""
        return self._is_settled

    def pending(self) -> list[Call]:
        """Give the calls whose callers still wait."""
        return [call for call in self.calls.values() if call.ended is None]

    # What must hold.

    def check(self, *, is_settled: bool) -> None:
        """Compare, after a step."""
        self._is_settled = is_settled
        self._read_journal()
        for call in self.calls.values():
            call.check(self.loop.time())
        for act in self.acts:
            assert self.loop.time() <= act.limit + ROUNDING, f"{act.kind} did not end in time"
        if is_settled:
            while self._acts_done:
                self._check_act(self._acts_done.pop(0))
            self._check_sockets()
            self._check_state()
            for call in self.calls.values():
                self._check_end(call) if call.ended is not None else self._check_wait(call)
            assert self.client.stats.in_flight == len(self.pending())
            self._alive, self._accepted = self._logged_in(), self.exchange._connections
            self._ended = self._accepted - len(self.exchange._guests)
            self._then = None if self.acts else (self.troubles, self._acts_begun)
            self._cuts_then, self._login_then = self.cuts, self._login

    def check_table(self) -> None:
        """Check that nothing is left of calls that have ended, while the session is up."""
        connection = self.client._session._connection
        assert connection is not None
        assert len(connection._pending) == 0, "a call has ended, and its place in the table is left"

    def _read_journal(self) -> None:
        for arrival in islice(self.exchange.journal, self._seen, None):
            self._frames[arrival.connection] += 1
            assert arrival.sequence == 2 * self._frames[arrival.connection], "numbers are even, from 2, step 2"
            is_login = arrival.function == "AuthenticateUser"
            assert is_login is (arrival.sequence == 2), "a connection begins with its only login"
            if is_login:
                self._logins.append(arrival)
            if is_login and (self._login is None or self._login.connection < arrival.connection):
                self._login = arrival  # after a freeze, earlier connections may be heard later
            key = key_of(arrival)
            if key is None and arrival.function == "Ping":
                self._pings.append(arrival)
            if key is not None:
                self.calls[key].arrivals.append(arrival)
        self._seen = len(self.exchange.journal)

    def _is_login_answered(self) -> bool:
        return self._login is not None and self._login.answer is not None

    def _is_login_refused(self) -> bool:
        """Whether the newest connection's login was answered, and by anything but a good answer."""
        return self._login is not None and _is_refused(self._login)

    def _was_a_login_refused(self) -> bool:
        return any(map(_is_refused, self._logins))

    def _logged_in(self) -> set[int]:
        """Give the connections on which somebody is logged in, and was told so."""
        if not self._is_login_answered() or self._is_login_refused():
            return set()
        guests = self.exchange._guests
        return {n for n, guest in guests.items() if not guest.is_silent and guest.visitor.user is not None}

    def _is_silent(self) -> bool:
        return any(guest.is_silent for guest in self.exchange._guests.values())

    def _check_act(self, act: Act) -> None:
        if act.task.cancelled():
            assert act.is_given_up, f"a cancellation reached {act.kind}"
        error = None if act.task.cancelled() else act.task.exception()
        is_closed = bool(act.beside & {"close", "log out", "given up"}) and self.client.state is State.CLOSED
        if act.kind != "connect":
            assert act.kind == "log out" or error is None, "closing raises nothing"
            self._stands = State.CLOSED
        elif act.task.cancelled():
            self._stands = State.CLOSED
        elif error is None:
            assert self._is_login_answered(), "connected without a login"
            assert not self._is_login_refused(), "connected though the login was refused"
            assert not act.is_first or act.found in _OVER, "it was connected already"
            self._stands = State.READY
        elif isinstance(error, AuthenticationFailed):
            assert self._was_a_login_refused(), "nobody refused a login"
            self._stands = State.CLOSED if is_closed else State.FAILED
        elif isinstance(error, ConnectFailed):
            assert self.troubles > act.troubles, "connecting failed for nothing"
            self._stands = State.CLOSED if is_closed else State.FAILED
        elif isinstance(error, NotConnected):
            assert act.beside & {"close", "log out", "given up"}, "nobody closed the client meanwhile"
            self._stands = State.CLOSED
        else:
            assert isinstance(error, RuntimeError), repr(error)
            assert act.found in (*_UP, State.CONNECTING) or "connect" in act.beside, "it was not connected"
        self._quiet = max(self._quiet, act.ended + (CLOSING if act.is_given_up else 0.0))

    def _check_sockets(self) -> None:
        exchange = self.exchange
        loud = {number for number, guest in exchange._guests.items() if not guest.is_silent}
        assert len(loud) <= 1, "more than one socket"
        was_calm = self._then == (self.troubles, self._acts_begun)
        if was_calm:
            unanswered = {ping.connection for ping in self._pings if ping.answer is None}
            assert self._alive <= loud | unanswered, "a connection was dropped for nothing"
        is_over = self._stands in _OVER and not self.acts and self.loop.time() >= self._quiet
        if is_over:
            assert not loud, "a socket is left"
            names = [task.get_name() for task in asyncio.all_tasks(self.loop)]
            assert not [name for name in names if name.startswith("aioalphapoint")], "a task is left"
            if was_calm:
                assert exchange._connections == self._accepted, "somebody dials, and is not to"

    def _check_state(self) -> None:
        state, kinds = self.client.state, {act.kind for act in self.acts}
        if "close" in kinds:
            assert state is State.CLOSED
            return
        if kinds == {"connect"}:
            # It waits for the end of an earlier session, whose `close` was given up.
            is_waiting = state is State.CLOSED and self.loop.time() < self._quiet
            assert is_waiting or state is State.CONNECTING
            return
        if self._stands is State.READY and state is State.FAILED:
            is_lost = not self._reconnects and self.troubles > 0
            assert is_lost or self._is_login_refused() or self.is_refused_for_good, "given up for nothing"
            self._stands = State.FAILED
        assert self._reconnects or self.client.stats.reconnects == 0, "it reconnects, and is not to"
        if self.acts:
            return  # a log-out, with or without anything beside it
        assert state in (_UP if self._stands is State.READY else (self._stands,))
        if self._is_login_refused() and self._login is not self._login_then and self.cuts == self._cuts_then:
            assert state in _OVER, "a refused login is final"
        if not self._is_silent() or self._stands is not State.READY:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = self.loop.time()
        elif self._ping_interval is not None and self.loop.time() > self._silent_since + self._ping_interval + PONG:
            assert state is not State.READY, "it does not notice that nobody is there"
        if self._stands is State.READY and not self._is_silent():
            assert (state is State.READY) is bool(self._logged_in()), "ready means logged in"
            calm = self.loop.time() - self.healthy
            assert state is State.READY or calm < RECOVERY, "nothing is wrong, and it does not come back"
            refused = self.loop.time() - self.refused_since
            assert state is State.READY or refused < RECOVERY, "a refusal is final, and it dials again"

    def _check_wait(self, call: Call) -> None:
        """Check that somebody who waits has something to wait for."""
        state, arrival = self.client.state, call.arrival
        assert state not in _OVER, "it waits for a session that will not come"
        if arrival is None:
            assert state is not State.READY or self._is_silent(), "it waits though it could be sent"
            return
        assert state is State.READY, "its connection has ended, and it waits"
        assert arrival.connection == self.exchange._connections, "it waits on an earlier connection"
        assert arrival.answer is None or self._is_silent(), "it was answered, and it waits"

    def _check_end(self, call: Call) -> None:
        """Check that there was a reason for what its caller was told, once."""
        if call.is_checked:
            return
        call.is_checked = True
        if call.told in (Told.LOST, Told.LATE):
            error = call.task.exception()
            assert isinstance(error, OutcomeUnknown)
            assert error.sequence is not None, "it never had a number"
        if call.told is Told.LOST:
            gone = call.arrival is None or call.arrival.connection not in self.exchange._guests
            ended = self.exchange._connections - len(self.exchange._guests)
            assert (gone and ended > call.ends) or self._is_silent(), "nothing was lost"
        if call.told is not Told.NOT_SENT:
            return
        error = call.task.exception()
        if isinstance(error, Overloaded):
            assert call.ahead >= MOST, "there was room"
        elif isinstance(error, AuthenticationFailed):
            assert self._was_a_login_refused(), "nobody refused a login"
        else:
            assert isinstance(error, CallNotSent)
            is_over = call.is_found_over or self._acts_begun > call.acts or self.client.state in _OVER
            assert is_over or call.is_due, "it was given up before its time"


def _is_refused(login: Arrival) -> bool:
    if login.answer is None:
        return False
    try:
        return json.loads(json.loads(login.answer)["o"]).get("Authenticated") is not True
    except ValueError:  # an answer that nobody can read is taken for a refusal
        return True
