"""Logging in on a connection: the calls, one after another, and what is remembered for the next connection.

Invariants:

* A login that was refused is not tried again. The one exception is no repetition: where the token of an earlier
  two-factor login has died, the user name, the password and a new code are sent in its place.
* Each client has its own `Login`; nothing of it is shared but the count of nonces.
* Nothing of what is sent, and nothing of an answer but its `errormsg`, gets into an error.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from ._auth import (
    ApiKey,
    Credentials,
    LoginAnswer,
    LoginCall,
    Nonces,
    Password,
    SessionToken,
    login_call,
    read_login,
    secrets_of,
)
from ._connection import Connection, ConnectionEnded
from ._envelope import write_json
from ._replies import read_value
from ._secrets import Secrets
from .errors import (
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    ConnectFailed,
    ConnectionLost,
    InvalidArguments,
    OutcomeUnknown,
    UnexpectedReply,
    quote,
)
from .models import Identity

__all__ = ["Login"]

_nonces = Nonces()


class Login:
    """The login of one client."""

    def __init__(self, credentials: Credentials | None) -> None:
        self._credentials = credentials
        self._token: SessionToken | None = None  # of the last login that took a second factor
        self.secrets = Secrets(secrets_of(credentials))
        """What may stand in no log; each login on a connection adds to it."""
        self.identity: Identity | None = None
        """Who is logged in, as the exchange said at the last login."""

    @property
    def whom(self) -> str:
        """Who is logged in, in words for the log."""
        if self.identity is None:
            return "without a login"
        return "logged in" if self.identity.user_id is None else f"logged in as user {self.identity.user_id}"

    def forget(self) -> None:
        """Drop the session token: the exchange has ended that session at the user's wish."""
        self._token = None

    async def log_in(self, connection: Connection, *, limit: asyncio.Timeout, timeout: float) -> None:
        """Log in on a new connection; without credentials there is nothing to do.

        Args:
            connection: The connection.
            limit: Ends the dial and the login. It is put off while somebody looks for the code of a second factor.
            timeout: The seconds of that limit, for an error's sentence.

        Raises:
            AuthenticationFailed: The exchange refused, or asks for a second factor that nobody gives.
            ConnectFailed: There was no answer.
        """
        if self._credentials is None:
            return
        step = _Step(connection, limit, timeout)
        if self._token is not None and await self._log_in_by_token(step, self._token):
            return
        answer = await step.take(login_call(self._credentials, _nonces.next(time.time_ns() // 1_000_000)))
        if answer.requires_2fa:
            with self._put_off(limit):
                code = await self._second_factor()
            second = await step.take(LoginCall("Authenticate2FA", {"Code": code}))
            if second.requires_2fa:
                raise AuthenticationFailed("the exchange asks for a further second factor", requires_two_factor=True)
            self._token = _sendable(second.session_token)
            self._remember(answer.identity)
            answer = second
        self._remember(answer.identity)

    @contextmanager
    def _put_off(self, limit: asyncio.Timeout) -> Iterator[None]:
        patience = self._credentials.two_factor_timeout if isinstance(self._credentials, Password) else None
        if patience is None:
            yield
            return
        now = asyncio.get_running_loop().time
        remaining = (limit.when() or now()) - now()
        limit.reschedule(now() + patience)
        yield
        limit.reschedule(now() + remaining)

    async def _log_in_by_token(self, step: _Step, token: SessionToken) -> bool:
        try:
            answer = await step.take(login_call(token, ""))
        except AuthenticationFailed as refusal:
            self._token = None
            if refusal.locked:
                raise
            return False
        if answer.requires_2fa:
            self._token = None
            return False
        self._token = _sendable(answer.session_token) or token
        self._remember(answer.identity)
        return True

    async def _second_factor(self) -> str:
        ask = self._credentials.two_factor if isinstance(self._credentials, Password) else None
        if ask is None:
            raise AuthenticationFailed(
                "the exchange refused the login: a second factor is required", requires_two_factor=True
            )
        try:
            code: object = ask()
            if inspect.isawaitable(code):
                code = await _outcome(code)
        except Exception as error:
            raise AuthenticationFailed(f"two_factor raised {type(error).__name__}", requires_two_factor=True) from error
        if not isinstance(code, str) or not code:
            raise AuthenticationFailed("two_factor must return the code as text", requires_two_factor=True)
        return code

    def _remember(self, identity: Identity) -> None:
        """Keep what an earlier answer told of the same user and this one leaves out, as flat answers do."""
        if identity.user_id is None and isinstance(self._credentials, ApiKey):
            identity = identity.model_copy(update={"user_id": int(self._credentials.user_id)})
        known = self.identity
        if known is not None and identity.user_id in (None, known.user_id):
            identity = known.model_copy(update=identity.model_dump(exclude_none=True))
        self.identity = identity


def _sendable(token: str | None) -> SessionToken | None:
    """Take a token from an answer; None where there is none, or one that no login could send."""
    try:
        return SessionToken(token or "")
    except InvalidArguments:
        return None


async def _outcome(awaitable: Awaitable[object]) -> object:
    """Wait for a foreign awaitable that may do anything with cancellation, and still end when we are cancelled."""
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, for asyncio's peace
        task.cancel()
        raise
    if task.cancelled():
        raise RuntimeError("cancelled by itself")
    return task.result()


class _Step:
    """One call of a login on a connection."""

    def __init__(self, connection: Connection, limit: asyncio.Timeout, timeout: float) -> None:
        self._connection = connection
        self._limit = limit
        self._timeout = timeout

    async def take(self, call: LoginCall) -> LoginAnswer:
        deadline = self._limit.when() or asyncio.get_running_loop().time() + self._timeout
        try:
            reply = await self._connection.call(
                call.function, write_json(call.payload), deadline=deadline, timeout=self._timeout
            )
            value = read_value(call.function, reply)
        except CallRejected as refusal:
            words = quote(self._connection.out_of(refusal.message or "no reason given"))
            raise AuthenticationFailed(
                f"the exchange refused the login: {words}",
                function=call.function,
                sequence=refusal.sequence,
            ) from None
        except UnexpectedReply as error:  # it may hold the session token: not a word of it
            raise AuthenticationFailed(
                "the login was answered in a shape that nobody knows",
                function=call.function,
                sequence=error.sequence,
            ) from None
        except ConnectionLost as error:  # without the server's close reason: it may echo the login
            raise ConnectFailed(f"the login was not answered: close code {error.close_code}") from None
        except (CallNotSent, OutcomeUnknown, ConnectionEnded):
            raise ConnectFailed("the login was not answered") from None
        return read_login(call, reply.sequence, value, self._connection.out_of)
