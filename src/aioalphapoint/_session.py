"""The persistent session: dial, log in, serve calls, and dial again when the connection is lost.

Invariants:

* There is one keeper task, and it alone opens and closes connections: one dial at a time, one socket at a time.
* `_connection` is set only while somebody is logged in on it. A call that finds none waits inside its own
  timeout; nothing is queued for it, and nothing is ever sent twice.
* The session ends once: closed by its owner, or given up (a refused login, a refused handshake, a loss without
  `reconnect`). From then on each call fails at once, and says why.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import anyio

from ._backoff import Backoff
from ._connection import Connection, ConnectionEnded
from ._envelope import Envelope
from ._events import Listeners
from ._home import Home
from ._logging import HarmlessLog
from ._login import Login
from ._news import News
from ._settings import Settings
from ._state import SessionState
from .errors import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallTimeout,
    ConnectFailed,
    ConnectionLost,
    NotConnected,
)
from .models import Identity
from .stats import Stats

__all__ = ["Session"]

_log = HarmlessLog(logging.getLogger("aioalphapoint"), {})

# HTTP statuses that refuse a handshake for good: redirects, and faults of the request. Three of the latter ask to
# come again later: Request Timeout, Too Early, Too Many Requests (RFC 9110, 8470, 6585).
_REFUSED = range(300, 500)
_COME_AGAIN = frozenset({408, 425, 429})

# Seconds that an answer to a ping may take before the session counts as lost: what working clients use.
_PONG_TIMEOUT = 5.0


# Its result is why it gave the session up; `_final` may by then be that of another one, begun in the same moment.
_Keeper = asyncio.Task[AlphaPointError | None]


class Session:
    """One logical session over as many connections, one after another, as it takes."""

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self._settings = settings
        self._stats = stats
        self._state = SessionState.IDLE
        self._connection: Connection | None = None
        self.login = Login(settings.credentials)
        self.listeners = Listeners(stats)
        self._keeper: _Keeper | None = None
        self.home = Home()
        self._closing = False  # while the keeper says goodbye
        self._closes = 0  # how often `close` was called
        self._left: Connection | None = None  # the one on which we log out ourselves
        self._thrown_out = False  # whether the exchange has ended the present session's login
        self._failures = 0  # dials and sessions in a row that served nobody
        self._changed = News()
        self._final: AlphaPointError | None = None  # why the session was given up
        self._trouble = ""  # why the last dial failed, for the sentence of a call that waited in vain

    @property
    def state(self) -> SessionState:
        self.home.look()
        return self._state

    @property
    def identity(self) -> Identity | None:
        return self.login.identity

    @property
    def awaits_identity(self) -> bool:
        """Whether there are credentials, and no login has told yet whose they are."""
        return self._settings.credentials is not None and self.login.identity is None

    @property
    def current(self) -> Connection | None:
        """The connection that somebody is logged in on, unless it is just being lost; `connection` waits for one."""
        return self._connection

    async def open(self) -> None:
        """Connect for the first time. However it fails, nothing is left behind.

        Raises:
            ConnectFailed: The server could not be reached, or refused the handshake.
            AuthenticationFailed: The exchange refused the login.
            NotConnected: `close` was called meanwhile.
            RuntimeError: It is open already, here or elsewhere.
        """
        self.here()
        closes = self._closes
        if self._closing and self._keeper is not None:
            await asyncio.wait({self._keeper})  # an earlier `close` is still at it
        if self._closes != closes:
            raise NotConnected("the client was closed before it connected")
        if self._keeper is not None and not self._keeper.done():
            raise RuntimeError("this client is connected already: close() it before connecting again")
        self._start_anew()
        keeper = self._keeper = asyncio.create_task(self._keep(), name="aioalphapoint session")
        self.home = Home(keeper)
        try:
            while self._state is SessionState.CONNECTING and not keeper.done():
                news: set[asyncio.Future[Any]] = {keeper, self._next_state()}
                await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if self._keeper is keeper and not self._closing:
                await self.close()
            else:  # a `close` is at it already, and somebody may be waiting to connect anew
                await _end_of(keeper)
            raise
        if self._state not in (SessionState.READY, SessionState.RECONNECTING):
            reason = None if not keeper.done() or keeper.cancelled() else keeper.result()
            raise reason or NotConnected("the client was closed while it connected")

    async def close(self) -> None:
        """End the session in less than 2 s. From any task of its loop, in any state, as often as one likes."""
        if self.home.is_forked:
            return  # there is nothing to close here: task and socket are the other process's
        self.here()
        self._closes += 1
        self._move(SessionState.CLOSED)
        self._connection = None  # from here on no call is written
        keeper = self._keeper
        if keeper is None or keeper.done():
            return
        if not self._closing:
            self._closing = True  # a second cancel would break into the first one's goodbye
            keeper.cancel()
            _log.info("%s: session closed", self._settings.host)
        await _end_of(keeper)
        self._closing = False

    def here(self) -> asyncio.AbstractEventLoop:
        """Give the running loop; a session whose present home is elsewhere raises RuntimeError."""
        return self.home.here()

    def abandon(self) -> bool:
        """End a session that nobody can reach any more, and tell whether it should have been closed."""
        return self._state is not SessionState.CLOSED and self.home.leave()

    async def log_out(self, *, deadline: float, timeout: float) -> Envelope:
        """Call `LogOut` on the present connection, without taking the exchange's LogoutEvent for a loss."""
        self.login.forget()
        while True:
            connection = self._left = await self.connection("LogOut", deadline=deadline, timeout=timeout)
            try:
                return await connection.call("LogOut", "{}", deadline=deadline, timeout=timeout)
            except ConnectionEnded:
                continue  # not a byte was written

    async def states(self) -> AsyncIterator[SessionState]:
        """Give the present state, then each one that differs from the last given, until CLOSED or FAILED."""
        self.here()
        seen: SessionState | None = None
        while seen not in (SessionState.CLOSED, SessionState.FAILED):
            if self._state is not seen:
                seen = self._state
                yield seen
            else:
                await asyncio.wait({self._next_state()})

    async def wait_for_state(self, states: frozenset[SessionState]) -> SessionState:
        """Wait until the session stands in one of these."""
        while self._state not in states:
            await asyncio.wait({self._next_state()})
        return self._state

    async def connection(self, function: str, *, deadline: float, timeout: float) -> Connection:
        """Wait for somebody to be logged in.

        Args:
            function: What is to be called, for the error's sentence.
            deadline: The loop's time, in seconds, until which is waited.
            timeout: The seconds that the caller was promised, likewise for the sentence.

        Raises:
            NotConnected: There was no session in time, or there will be none.
            AuthenticationFailed: The session was given up because its login was refused.
        """
        loop = asyncio.get_running_loop()
        while True:
            if self._connection is not None and self._connection.is_open:
                return self._connection
            if self._state in (SessionState.IDLE, SessionState.CLOSED, SessionState.FAILED):
                raise self._unavailable(function)
            if (remaining := deadline - loop.time()) <= 0:
                trouble = f" ({self._trouble})" if self._trouble else ""
                raise NotConnected(
                    f"{function} was not sent: there was no session within {timeout:g} s{trouble}",
                    function=function,
                )
            await asyncio.wait({self._next_state()}, timeout=remaining)

    def _unavailable(self, function: str) -> AlphaPointError:
        match self._state, self._final:
            case SessionState.FAILED, AuthenticationFailed() as refusal:
                return AuthenticationFailed(
                    f"{function} was not sent: {refusal}",
                    locked=refusal.locked,
                    requires_two_factor=refusal.requires_two_factor,
                    function=function,
                )
            case SessionState.FAILED, reason:
                words = f"the session was given up: {reason or 'its task was cancelled'}"
            case SessionState.CLOSED, _:
                words = "the client is closed"
            case _:
                words = "the client is not connected; use `async with client:` or `await client.connect()`"
        return NotConnected(f"{function} was not sent: {words}", function=function)

    async def _keep(self) -> AlphaPointError | None:
        loop = asyncio.get_running_loop()
        try:
            began = loop.time()
            await self._serve(await self._dial(), began)
        except AlphaPointError as error:
            self._final = error
            if self._state is not SessionState.CONNECTING:  # else `open` raises it
                _log.error("%s: session given up: %s", self._settings.host, error)
        except Exception as error:  # noqa: BLE001  (a mistake in this library: no caller may wait for ever)
            if not loop.is_closed():
                self._final = NotConnected(f"internal error: {type(error).__name__}")
                _log.exception("%s: session given up", self._settings.host)
        finally:
            self._connection = None
            if loop.is_closed():  # by GeneratorExit, or by the RuntimeError that cleaning up a dial makes of it
                self._final, self._keeper = NotConnected("the event loop that it was connected on was closed"), None
            if self._state is not SessionState.CLOSED:
                self._move(SessionState.FAILED)
        return self._final

    async def _serve(self, connection: Connection, began: float) -> None:
        host, loop = self._settings.host, asyncio.get_running_loop()
        level, news = logging.INFO, f"connected in {loop.time() - began:.3f} s"
        while True:
            ready, self._thrown_out = loop.time(), False
            try:
                self._connection = connection
                self._move(SessionState.READY)
                _log.log(level, "%s: %s, %s", host, news, self.login.whom)
                self._trouble = await self._hold(connection)
            finally:
                self._connection = None
                if self._state is SessionState.READY:
                    self._move(SessionState.RECONNECTING)
                await connection.close()
            if self._settings.reconnect is None:
                raise NotConnected(f"the connection was lost ({self._trouble}) and reconnect is None")
            lost = loop.time()
            self.listeners.lose()
            # A server that takes a login and then drops the session, or a second client of the same user that
            # throws this one out, must not be met with logins at full pace: only a session that served a call,
            # or lasted, starts the pauses anew.
            lasted = lost - ready >= self._settings.reconnect.cap
            served = connection.has_served and not self._thrown_out
            self._failures = 0 if served or lasted else self._failures + 1
            connection = await self._redial(self._settings.reconnect, f"connection lost after {lost - ready:.1f} s")
            self._stats.reconnects += 1
            # A warning too: whoever reads nothing below was told of the loss, and waits for this.
            level, news = logging.WARNING, f"reconnected after {loop.time() - lost:.3f} s"

    async def _hold(self, connection: Connection) -> str:
        """Keep a connection until it ends, and find out when it is dead and does not say so."""
        interval, loop = self._settings.ping_interval, asyncio.get_running_loop()
        while interval is not None and connection.is_open:
            quiet = loop.time() - connection.last_heard
            if quiet < interval:
                await connection.wait_ended(timeout=interval - quiet)
                continue
            asked = loop.time()
            try:
                # A call, not a WebSocket ping: gateways answer those even where they answer no call any more.
                await connection.call("Ping", "{}", deadline=asked + _PONG_TIMEOUT, timeout=_PONG_TIMEOUT)
            except (CallTimeout, CallNotSent) as error:
                # Whoever still speaks may be busy with an earlier call; and a ping that was not sent because this loop
                # was held up says nothing of the exchange.
                is_unsent = isinstance(error, CallNotSent)
                if connection.last_heard < asked and (not is_unsent or connection.is_paused):
                    silence = "takes no bytes for" if is_unsent else "gave no answer to a ping in"
                    connection.cut(f"the exchange {silence} {_PONG_TIMEOUT:g} s")
            except (ConnectionLost, ConnectionEnded):
                pass  # it ended meanwhile, and says why below
        return await connection.wait_ended()

    async def _redial(self, backoff: Backoff, event: str) -> Connection:
        while True:
            pause = backoff.pause(self._failures, random.random())  # noqa: S311  (jitter, no secret)
            _log.warning("%s: %s (%s), dialling again in %.1f s", self._settings.host, event, self._trouble, pause)
            await asyncio.sleep(pause)
            if self.home.is_forked:  # a second login would end the one of the parent process at some venues
                raise NotConnected("it is the session of the process from which this one was forked")
            try:
                return await self._dial()
            except ConnectFailed as error:
                if error.status in _REFUSED and error.status not in _COME_AGAIN:
                    raise
                self._trouble = self.login.secrets.out_of(str(error))
                self._failures += 1
                event = "dial failed"

    def _dial(self) -> Awaitable[Connection]:
        watch = self._settings.observation
        return self._dial_and_log_in() if watch is None else watch.connect(self._dial_and_log_in())

    async def _dial_and_log_in(self) -> Connection:
        settings = self._settings
        try:
            async with asyncio.timeout(settings.connect_timeout) as limit:
                connection = await Connection.open(
                    settings.url,
                    host=settings.host,
                    stats=self._stats,
                    on_event=self._hear,
                    secrets=self.login.secrets,
                    max_message_size=settings.max_message_size,
                    ssl=settings.ssl,
                    proxy=settings.proxy,
                )
                try:
                    await self.login.log_in(connection, limit=limit, timeout=settings.connect_timeout)
                except BaseException:
                    await connection.close(politely=False)
                    raise
                connection.wire.open()
        except TimeoutError:
            raise ConnectFailed(f"there was no session within {settings.connect_timeout:g} s") from None
        return connection

    def _hear(self, connection: Connection, event: Envelope) -> None:
        self.listeners.tell(event)
        # The socket may stay open, but calls on it get the gateway's "Endpoint Not Found" from here on.
        if event.function.lower() == "logoutevent" and connection is not self._left:
            self._thrown_out = True
            connection.cut("the exchange logged us out")

    def _start_anew(self) -> None:
        self._final, self._trouble, self._failures, self._closing = None, "", 0, False
        self._move(SessionState.CONNECTING)

    def _move(self, state: SessionState) -> None:
        self._state = state
        if state in (SessionState.CLOSED, SessionState.FAILED):
            self.listeners.end()
        self._changed.tell()

    def _next_state(self) -> asyncio.Future[None]:
        """Give a future that the next state change completes; RuntimeError once another loop has connected."""
        changed = self._changed.next()
        self.here()
        return changed


async def _end_of(keeper: _Keeper) -> None:
    # Shielded, because a cancelled scope of anyio cancels every further wait too; the keeper's end is bounded.
    with anyio.CancelScope(shield=True):
        await asyncio.wait({keeper})
