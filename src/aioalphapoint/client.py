"""The client: one persistent session, and the exchange's functions on it."""

from __future__ import annotations

import asyncio
import dataclasses
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from ssl import SSLContext
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from ._arguments import gateway_host, instance, natural, positive, seconds
from ._auth import ApiKey, Credentials, Password, SessionToken
from ._backoff import Backoff
from ._calls import Calls
from ._envelope import Envelope
from ._events import Event, Gap, Listener
from ._functions import Functions
from ._replies import read_response
from ._session import Session
from ._settings import Settings
from ._state import SessionState
from ._telemetry import Observation, Telemetry
from ._turns import unhurried
from .errors import InvalidArguments
from .models import Identity, StandardResponse
from .stats import Stats

__all__ = ["Client"]

_Answer = TypeVar("_Answer")
_Row = TypeVar("_Row")

_DEFAULT_OMS_ID = 1  # every venue seen uses it


async def _whole(listing: Awaitable[Iterator[_Row]]) -> list[_Row]:
    return [row async for row in unhurried(await listing)]


class Client(Functions):
    """One persistent session to an AlphaPoint exchange.

    Use it by `async with`, or by `connect()` and `close()`. Making one does no I/O. All its coroutines belong to
    the event loop that it was connected on; any number of tasks may call at once. Used on another event loop, or in a
    forked process, while it is connected, each of them raises `RuntimeError` before anything is sent; `close()` does
    nothing in a fork, whose session it is not.

    Once closed, it may be connected again on any loop. So it may when its loop ended without `close()`: until then
    each call is `NotConnected`. Drop the tasks of such a loop before you connect anew: one that is collected later runs
    its `finally` blocks then, and an `async with client:` in it closes the new session. A client that is dropped
    without `close()` gives one `ResourceWarning`, and its session ends. On uvloop a fork must leave by `os._exit`, as
    those of multiprocessing do: uvloop's own clean-up takes the parent's sockets out of the epoll that they share.

    Args:
        url: The gateway's address, `wss://HOST/WSGateway/`.
        credentials: Who logs in; None for a session without a login.
        timeout: Seconds that a call may take, waiting for a session included.
        connect_timeout: Seconds for dial, handshake and login together.
        ping_interval: Seconds of silence after which the exchange is asked whether it is still there; without
            an answer within 5 s the session counts as lost. None: never.
        reconnect: The pauses before a lost session is dialled again; None: a lost session stays lost.
        max_in_flight: Calls under way at once; one more is `Overloaded`, at once.
        max_message_size: Bytes that a message from the exchange may have. A larger one ends the connection,
            because nothing of it can be trusted.
        limiter: Entered before each call is sent and left after it: any async context manager, such as
            `aiolimiter.AsyncLimiter`. Waiting for it counts against the call's timeout. Logins and pings pass
            it by.
        telemetry: Records each call and each dial, such as `aioalphapoint.otel.Telemetry`, which brings spans and
            metrics. Whatever it raises is logged, and changes nothing for the call.
        oms_id: The order management system meant by calls that name none; left out, the login's, else 1.
        ssl: The TLS context for `wss://`; left out, one that checks the server's certificate.
        proxy: The address of a proxy, or True for the environment's. The default uses none.
        allow_insecure: Lets credentials go over `ws://` to a host that is not this machine.

    Raises:
        InvalidArguments: An argument makes no sense; the message names it.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials | None = None,
        *,
        timeout: float = 10.0,
        connect_timeout: float = 10.0,
        ping_interval: float | None = 15.0,
        reconnect: Backoff | None = Backoff(),  # noqa: B008  (frozen)
        max_in_flight: int = 1000,
        max_message_size: int = 2**24,
        limiter: AbstractAsyncContextManager[object] | None = None,
        telemetry: Telemetry | None = None,
        oms_id: int | None = None,
        ssl: SSLContext | None = None,
        proxy: str | bool | None = None,
        allow_insecure: bool = False,
    ) -> None:
        instance("credentials", credentials, ApiKey, Password, SessionToken, allowed="ApiKey, Password or SessionToken")
        instance("reconnect", reconnect, Backoff, allowed="a Backoff")
        instance("ssl", ssl, SSLContext, allowed="an ssl.SSLContext")
        instance("proxy", proxy, str, bool, allowed="an address or True")
        instance("limiter", limiter, AbstractAsyncContextManager, allowed="an async context manager")
        instance("telemetry", telemetry, Telemetry, allowed="a telemetry such as aioalphapoint.otel.Telemetry()")
        if isinstance(telemetry, type):  # whose `client` would be there, and fail at each call
            raise InvalidArguments(f"telemetry must be a telemetry, not its class: {telemetry.__name__}()")
        self._host = gateway_host(
            url,
            has_credentials=credentials is not None,
            has_proxy=bool(proxy),
            allow_insecure=allow_insecure,
        )
        if ssl is not None and not self._host.startswith("wss:"):
            raise InvalidArguments("ssl must be None for an address that does not start with wss://")
        limit, most = seconds("timeout", timeout), positive("max_in_flight", max_in_flight)
        self._oms_id = natural("oms_id", oms_id)
        self._stats = Stats()
        self._observation = None if telemetry is None else Observation(telemetry, self._host, self._stats)
        self._session = Session(
            Settings(
                url=url,
                host=self._host,
                credentials=credentials,
                connect_timeout=seconds("connect_timeout", connect_timeout),
                ping_interval=None if ping_interval is None else seconds("ping_interval", ping_interval),
                reconnect=reconnect,
                max_message_size=positive("max_message_size", max_message_size),
                ssl=ssl,
                proxy=proxy or None,
                observation=self._observation,
            ),
            self._stats,
        )
        self._calls = Calls(self._session, self._stats, timeout=limit, most=most, limiter=limiter)

    def __repr__(self) -> str:
        identity = self.identity
        user = f", user {identity.user_id}" if identity is not None else ""
        return f"<Client {self._host} {self.state}{user}, {self._stats.in_flight} in flight>"

    def __del__(self) -> None:
        session: Session | None = getattr(self, "_session", None)  # none where an argument made no sense
        if session is None:
            return
        name = Client.__repr__(self)  # a subclass's own may raise
        if session.abandon():
            warnings.warn(
                f"{name} was never closed: use `async with client:`, or `await client.close()`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __reduce__(self) -> NoReturn:
        # A copy would share the session, and end it when it is dropped.
        raise TypeError("a client is one session, and is neither copied nor pickled: make another one")

    # The session.

    async def connect(self) -> None:
        """Dial, shake hands, log in. Cancelling it leaves nothing behind.

        Raises:
            ConnectFailed: The exchange could not be reached, or refused the handshake; calling again is safe.
            AuthenticationFailed: The exchange refused the login. Do not repeat it: that can lock the user.
            NotConnected: The client was closed meanwhile.
            RuntimeError: The client is connected already, here or on another event loop.
        """
        await self._session.open()

    async def close(self) -> None:
        """End the session, in 2 s or less whatever the exchange does; twice is fine, from any task.

        Calls that were sent and not answered end as `ConnectionLost`, calls that still waited for a session as
        `NotConnected`.
        """
        await self._session.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def state(self) -> SessionState:
        """Where the session stands."""
        return self._session.state

    @property
    def identity(self) -> Identity | None:
        """Who is logged in, as the exchange said at the last login; None without credentials."""
        return self._session.identity

    @property
    def oms_id(self) -> int:
        """The order management system meant by calls that name none: the client's own, else the login's, else 1."""
        return self._oms(None)

    @property
    def stats(self) -> Stats:
        """What was counted so far, as a copy."""
        return dataclasses.replace(self._stats)

    async def states(self) -> AsyncIterator[SessionState]:
        """Watch the session: `async for state in client.states()`.

        Gives the present state at once, then each change, until the session is closed or given up. A watcher
        that is slower than the changes gets the newest. Cancelling it is safe.
        """
        async for state in self._session.states():
            yield state

    async def wait_for_state(self, *states: SessionState, timeout: float | None = None) -> SessionState:
        """Wait until the session stands in one of the given states, and give it. Cancelling it is safe.

        Args:
            states: The states to wait for.
            timeout: Seconds; None waits without limit.

        Raises:
            TimeoutError: It did not come to that in time.
        """
        self._session.here()  # before `timeout`, which wants a running loop, of which a fork has none
        async with asyncio.timeout(timeout):
            return await self._session.wait_for_state(frozenset(states))

    # The calls that belong to the session itself.

    @contextmanager
    def events(self, *, size: int = 1000) -> Iterator[AsyncIterator[Event | Gap]]:
        """Listen to every event that the exchange sends: `with client.events() as events: async for event in events`.

        Which events come depends on what was subscribed to on the present connection: a reconnect ends
        subscriptions made by `call`, and gives a `Gap`. The iteration ends when the client is closed or given up.
        Cancelling it is safe.

        Args:
            size: Events kept for a listener that is slow; beyond it the oldest are dropped, which gives a `Gap`,
                and counted in `stats.dropped_events`.
        """
        with self._listen(size) as events:
            yield events

    async def ping(self, *, timeout: float | None = None) -> float:
        """Ask the exchange whether it is there (`Ping`).

        Args:
            timeout: Seconds this call may take; left out, the client's `timeout`.

        Returns:
            The seconds that the answer took.

        Raises:
            CallNotSent: Nothing was sent; calling again is safe.
            OutcomeUnknown: It was sent, and no answer came.
        """
        loop = self._session.here()
        started = loop.time()
        await self.call("Ping", timeout=timeout)
        return loop.time() - started

    async def log_out(self, *, timeout: float | None = None) -> StandardResponse:
        """End the login (`LogOut`), and close the client whatever came of it: it is of no use without.

        Args:
            timeout: Seconds the call may take; left out, the client's `timeout`.

        Returns:
            The exchange's response, which accepts the request.

        Raises:
            CallNotSent: Nothing was sent.
            OutcomeUnknown: It was sent, and no usable answer came. The login may have ended.
            CallRejected: The exchange refused.
        """
        limit = self._calls.limit(timeout)
        try:
            return await self._observed("LogOut", self._log_out(limit))
        finally:
            await self.close()

    async def _log_out(self, limit: float) -> StandardResponse:
        deadline = self._session.here().time() + limit
        return read_response("LogOut", await self._session.log_out(deadline=deadline, timeout=limit))

    # What the functions stand on.

    @contextmanager
    def _listen(self, size: int) -> Iterator[Listener]:
        with self._session.listeners.listen(positive("size", size), self._session.here) as listener:
            if self.state in (SessionState.CLOSED, SessionState.FAILED):
                listener.end()
            yield listener

    def _call(
        self,
        function: str,
        payload: Callable[[], str],
        read: Callable[[str, Envelope], _Answer],
        timeout: float | None,
        *,
        asks_login: bool = False,
    ) -> Awaitable[_Answer]:
        return self._observed(function, self._calls.carry_out(function, payload, read, timeout, asks_login=asks_login))

    def _call_for_rows(
        self,
        function: str,
        payload: Callable[[], str],
        read: Callable[[str, Envelope], Iterator[_Row]],
        timeout: float | None,
        *,
        asks_login: bool = False,
    ) -> Awaitable[list[_Row]]:
        reply = self._calls.carry_out(function, payload, read, timeout, asks_login=asks_login)
        return self._observed(function, _whole(reply))

    def _observed(self, function: str, work: Awaitable[_Answer]) -> Awaitable[_Answer]:
        return work if self._observation is None else self._observation.call(function, work)

    def _oms(self, oms_id: int | None) -> int:
        if oms_id is not None:
            return oms_id
        if self._oms_id is not None:
            return self._oms_id
        identity = self.identity
        return _DEFAULT_OMS_ID if identity is None or identity.oms_id is None else identity.oms_id

    def _user(self, user_id: int | None) -> int:
        if user_id is not None:
            return user_id
        identity = self.identity
        if identity is None or identity.user_id is None:
            raise InvalidArguments("user_id must be given where the login does not tell it", function="CancelWithdraw")
        return identity.user_id
