"""Credentials: what a login sends, and how its answer reads. Pure: no socket, no clock.

Facts from the exchange's documents and from captures: all fields of a login are strings; the signature is the
lower-case hex HMAC-SHA256, keyed with the secret, of nonce + user id + API key; `Authenticated: true` beside
`Requires2FA: true` is no login; repeating a refused login locks the user, so nothing in this library ever
repeats one.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, NamedTuple, NoReturn, Self, TypeAlias

from pydantic import Field, ValidationError

from ._arguments import seconds, shown
from ._envelope import Json
from ._secrets import secret_values, without_secrets
from .errors import AuthenticationFailed, InvalidArguments, quote
from .models import FromExchange, Identity, Note, WholeNumber

__all__ = [
    "ApiKey",
    "Credentials",
    "LoginAnswer",
    "LoginCall",
    "Nonces",
    "Password",
    "SessionToken",
    "login_call",
    "read_login",
    "secrets_of",
    "signature",
]


class _Secret:
    """Keeps secrets out of pickles: what is pickled ends up in files and on other machines."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and is not pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class ApiKey(_Secret):
    """Log in with an API key: the secret signs a number used once, and does not leave this machine.

    Attributes:
        api_key: The key.
        secret: The key's secret; kept out of the repr, and never pickled.
        user_id: The number of the user whose key it is; its text is signed as it stands.
    """

    api_key: str
    secret: str = field(repr=False)
    user_id: str | int

    def __post_init__(self) -> None:
        _check_text("api_key", self.api_key)
        _check_text("secret", self.secret)
        user_id: object = self.user_id
        digits = str(user_id) if type(user_id) is int else user_id
        if not isinstance(digits, str) or not (digits.isascii() and digits.isdigit()):
            raise InvalidArguments(f"user_id must be a number from 0, or its digits, not {shown(user_id)}")


@dataclass(frozen=True, slots=True)
class Password(_Secret):
    """Log in with a user name and a password.

    Attributes:
        user_name: The user's name on the exchange.
        password: The password; kept out of the repr, and never pickled.
        two_factor: Gives the code when the exchange asks for a second factor: a function, or a coroutine
            function, without arguments, that returns the code as text. It runs on the event loop; a plain function
            must not block. It is asked again at a reconnect only when the session token of the last login has died.
        two_factor_timeout: Seconds that giving the code may take, beside `connect_timeout`: a person has to find it
            and type it. None: it is a part of `connect_timeout`.
    """

    user_name: str
    password: str = field(repr=False)
    two_factor: Callable[[], str | Awaitable[str]] | None = field(default=None, repr=False)
    two_factor_timeout: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_text("user_name", self.user_name)
        _check_text("password", self.password)
        if self.two_factor is not None and not callable(self.two_factor):
            raise InvalidArguments("two_factor must be a function that returns the code")
        if self.two_factor_timeout is not None:
            seconds("two_factor_timeout", self.two_factor_timeout)


@dataclass(frozen=True, slots=True)
class SessionToken(_Secret):
    """Log in with the session token of a login made elsewhere.

    The exchange keeps a token for about an hour after its last use, and for the same IP address.

    Attributes:
        token: The token; kept out of the repr, and never pickled.
    """

    token: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_text("token", self.token)


Credentials: TypeAlias = ApiKey | Password | SessionToken


def secrets_of(credentials: Credentials | None) -> set[str]:
    """Give what may stand in no log."""
    match credentials:
        case ApiKey():
            return {credentials.api_key, credentials.secret}
        case Password():
            return {credentials.password}
        case SessionToken():
            return {credentials.token}
        case None:
            return set()


def _check_text(name: str, value: object) -> None:
    # Without showing what it is: it is a secret. Lone surrogates cannot be signed or sent.
    if not isinstance(value, str) or not value:
        raise InvalidArguments(f"{name} must be a string that is not empty")
    if value != value.encode("utf-8", "replace").decode():
        raise InvalidArguments(f"{name} must be text that UTF-8 can hold")


class Nonces:
    """Numbers used once: strictly increasing, even when the clock steps back. One instance serves a process."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()  # clients may live on loops of several threads

    def next(self, milliseconds: int) -> str:
        """Give the next number, near the given time in milliseconds since 1970."""
        with self._lock:
            self._last = max(self._last + 1, milliseconds)
            return str(self._last)


def signature(credentials: ApiKey, nonce: str) -> str:
    """Sign a nonce."""
    message = f"{nonce}{credentials.user_id}{credentials.api_key}"
    return hmac.new(credentials.secret.encode(), message.encode(), hashlib.sha256).hexdigest()


class LoginCall(NamedTuple):
    """A function to call, and its payload."""

    function: str
    payload: dict[str, str]

    def __repr__(self) -> str:
        return f"LoginCall({self.function!r})"

    def out_of(self, text: str) -> str:
        """Take out of the exchange's words what it may have echoed of this login."""
        return without_secrets(text, secret_values(self.payload))


def login_call(credentials: Credentials, nonce: str) -> LoginCall:
    """Write a login. Only an API key's needs the nonce."""
    match credentials:
        case ApiKey():
            payload = {
                "APIKey": credentials.api_key,
                "Signature": signature(credentials, nonce),
                "UserId": str(credentials.user_id),
                "Nonce": nonce,
            }
            return LoginCall("AuthenticateUser", payload)
        case Password():
            return LoginCall("AuthenticateUser", {"UserName": credentials.user_name, "Password": credentials.password})
        case SessionToken():
            return LoginCall("WebAuthenticateUser", {"SessionToken": credentials.token})


class LoginAnswer(FromExchange, frozen=True):
    """What the exchange answers to a login, flat or with a `User` inside; strict where it decides."""

    must_agree: ClassVar[frozenset[str]] = frozenset({"authenticated", "requires2fa"})

    authenticated: Annotated[bool, Field(strict=True)] = False
    requires_2fa: Annotated[bool, Field(strict=True)] | None = None
    locked: Annotated[bool, Field(strict=True)] | None = None
    errormsg: Note = None
    session_token: Note = Field(default=None, repr=False)
    user: Identity | None = None
    user_id: WholeNumber | None = None

    @property
    def identity(self) -> Identity:
        """Who is logged in, wherever in the answer it stands."""
        Identity.model_rebuild()  # read as a part of this answer, it is not built yet
        identity = self.user or Identity()
        return identity if identity.user_id is not None else identity.model_copy(update={"user_id": self.user_id})


def read_login(call: LoginCall, sequence: int, answer: Json, out_of: Callable[[str], str] | None = None) -> LoginAnswer:
    """Read the exchange's answer to a login.

    Args:
        call: The login.
        sequence: The number of its frame.
        answer: What the exchange said.
        out_of: Takes out of the exchange's words what is secret; left out, what this login holds.

    Returns:
        A clear yes, or the demand for a second factor (`requires_2fa`), which is none yet.

    Raises:
        AuthenticationFailed: It is neither; also where it cannot be read. Of the answer only `errormsg` is
            quoted: the rest holds the session token.
    """
    try:
        login = LoginAnswer.model_validate(answer)
    except ValidationError:
        login = LoginAnswer(errormsg="the answer has a shape that nobody knows")
    if login.authenticated:
        return login
    raise AuthenticationFailed(
        f"the exchange refused the login: {quote((out_of or call.out_of)(login.errormsg or 'no reason given'))}",
        locked=bool(login.locked),
        requires_two_factor=call.function == "Authenticate2FA",
        function=call.function,
        sequence=sequence,
    )
