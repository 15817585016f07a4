"""Logging in: what is sent, and how the answer reads. Pure: no socket, no clock.

A refused login is final. Repeating it locks the user (protocol captures: `locked` turns true), so nothing in
this library ever tries one twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ValidationError

from ._envelope import Json
from .errors import AuthenticationFailed, InvalidArguments, quote
from .models import Identity

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


def read_login(function: str, sequence: int, answer: Json) -> Identity:
    """Read the exchange's answer to a login.

    Raises:
        AuthenticationFailed: It is not a clear yes. `Authenticated: true` beside `Requires2FA: true` is none.
    """
    folded = {key.lower(): value for key, value in answer.items()} if isinstance(answer, dict) else {}
    two_factor = folded.get("requires2fa") is True
    if folded.get("authenticated") is not True or two_factor:
        words = folded.get("errormsg")
        reason = "a second factor is required" if two_factor else words if isinstance(words, str) else None
        raise AuthenticationFailed(
            f"the exchange refused the login: {quote(reason) if reason else 'no reason given'}",
            locked=folded.get("locked") is True,
            requires_two_factor=two_factor,
            function=function,
            sequence=sequence,
        )
    user = folded.get("user")
    try:
        return Identity.model_validate(user if isinstance(user, dict) else folded)
    except ValidationError:  # logged in, as somebody whose numbers cannot be read: calls must name them
        return Identity()
