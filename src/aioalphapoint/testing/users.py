"""Who may log in to the simulated exchange, and what it knows of each connection. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["Permission", "User", "Visitor"]

Permission: TypeAlias = Literal["Trading", "Withdraw", "Operator"]
"""A permission by the exchange's name of it: `Withdraw`, `Trading`, `Operator`."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in. Secrets stay out of the repr.

    Attributes:
        user_id: The user's number.
        user_name: The name to log in with.
        password: The password.
        account_ids: The accounts that the user owns.
        permissions: What the user may do.
        api_key: The name of the user's API key; None where there is none.
        api_secret: What signs a login with that key.
        totp_secret: What the codes of the second factor come from, in base32; None where no code is asked for.
    """

    user_id: int
    user_name: str
    password: str = field(repr=False)
    account_ids: frozenset[int]
    permissions: frozenset[Permission]
    api_key: str | None = field(default=None, repr=False)
    api_secret: str | None = field(default=None, repr=False)
    totp_secret: str | None = field(default=None, repr=False)

    @property
    def is_operator(self) -> bool:
        """Whether the user may act for every account."""
        return "Operator" in self.permissions


@dataclass(slots=True)
class Visitor:
    """What the exchange knows of one connection.

    Attributes:
        user: Who is logged in.
        token: The session token of that login; a login by API key has none.
        awaits_code_of: Whose second factor is still to come.
        subscribed_accounts: The accounts whose events go to this connection.
        subscribed_to_all: Whether the events of every account do.
    """

    user: User | None = None
    token: str | None = field(default=None, repr=False)
    awaits_code_of: User | None = None
    subscribed_accounts: set[int] = field(default_factory=set)
    subscribed_to_all: bool = False

    def log_in(self, user: User, token: str | None = None) -> None:
        """Change who is logged in. Subscriptions belong to the login before."""
        self.log_out()
        self.user, self.token = user, token

    def log_out(self) -> None:
        """Forget the login, and what came with it."""
        self.user = self.token = self.awaits_code_of = None
        self.subscribed_accounts.clear()
        self.subscribed_to_all = False

    def hears_of(self, account_id: int) -> bool:
        """Whether events of this account go to this connection."""
        return self.subscribed_to_all or account_id in self.subscribed_accounts
