"""Logging in: what is sent, and how the answer reads. Pure: no socket, no clock.

A refused login is final. Repeating it locks the user (protocol captures: `locked` turns true), so nothing in
this library ever tries one twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, ValidationError

from ._envelope import Json
from .errors import AuthenticationFailed, InvalidArguments, quote
from .models import FromExchange, Identity, Note, WholeNumber

__all__ = ["Password", "read_login"]


@dataclass(frozen=True, slots=True)
class Password:
    """Log in with a user name and a password (`AuthenticateUser`).

    Attributes:
        user_name: The user's name on the exchange.
        password: The password; kept out of the repr.
    """

    user_name: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        named: tuple[tuple[str, object], ...] = (("user_name", self.user_name), ("password", self.password))
        for name, value in named:
            if not isinstance(value, str) or not value:
                raise InvalidArguments(f"{name} must be a string that is not empty")

    @property
    def login(self) -> tuple[str, dict[str, str]]:
        """The function to call, and its payload."""
        return "AuthenticateUser", {"UserName": self.user_name, "Password": self.password}


class _LoginAnswer(FromExchange):
    """What the answer says, flat or with a `User` inside; strict where it decides."""

    must_agree = frozenset({"authenticated", "requires2fa"})

    authenticated: Annotated[bool, Field(strict=True)] = False
    requires_2fa: Annotated[bool, Field(strict=True)] | None = None
    locked: Annotated[bool, Field(strict=True)] | None = None
    errormsg: Note = None
    user: Identity | None = None
    user_id: WholeNumber | None = None


def read_login(function: str, sequence: int, answer: Json) -> Identity:
    """Read the exchange's answer to a login.

    Raises:
        AuthenticationFailed: It is not a clear yes. `Authenticated: true` beside `Requires2FA: true` is none,
            and neither is an answer that cannot be read. Only its `errormsg` is quoted: the rest holds the
            session token.
    """
    try:
        login = _LoginAnswer.model_validate(answer)
    except ValidationError:
        login = _LoginAnswer(errormsg="the answer has a shape that nobody knows")
    if not login.authenticated or login.requires_2fa:
        reason = "a second factor is required" if login.requires_2fa else login.errormsg or "no reason given"
        raise AuthenticationFailed(
            f"the exchange refused the login: {quote(reason)}",
            locked=bool(login.locked),
            requires_two_factor=bool(login.requires_2fa),
            function=function,
            sequence=sequence,
        )
    identity = login.user or Identity()
    return identity if identity.user_id is not None else identity.model_copy(update={"user_id": login.user_id})
