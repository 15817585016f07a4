"""Who gets in: passwords, signatures, session tokens, codes, and how users are locked out. Pure.

Moments are arguments, and new tokens come from a function that is handed in. Assumptions, where neither the
documents nor captures say anything:

* Every refused login has the one text that was seen, `Invalid username or password`, whatever was wrong with
  it; that of a locked user says `User is locked`. The answer to the failure that locks is still the first.
* Five failed logins in a row lock a user, until somebody unlocks it: wrong passwords, signatures and nonces,
  and wrong codes, counted together. Only a whole login ends the row: a good password alone does not, when a code
  is still to come. A locked user gets in by no way, and stays where it is logged in already.
* A nonce is a whole number in decimal digits, above the last accepted one of its key.
* A login by API key needs the second factor too; a login by session token does not. A code is good for its 30 s
  and for 30 s before and after, any number of times.
* A session token lives for one hour after the last call on a connection that logged in with it. It is worthless
  after LogOut on one of them; the other connections stay logged in, as they do when it runs out. A login by token
  gives the same token back.
* On a connection that is logged in, a refused login changes nothing, and one that waits for a code logs out.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aioalphapoint._envelope import Json, write_json

from .answers import Answer
from .users import User, Visitor

if TYPE_CHECKING:
    from pyotp import TOTP

__all__ = ["LOGIN_FUNCTIONS", "Logins", "refused_login"]

LOGIN_FUNCTIONS = frozenset({"AuthenticateUser", "WebAuthenticateUser", "Authenticate2FA"})
"""The functions that log in, or finish it."""

_MOST_FAILURES = 5  # in a row, before the user is locked
_TOKEN_LIFE = timedelta(hours=1)
_INVALID = "Invalid username or password"
_LOCKED = "User is locked"
_NO_CODE = Answer('{"Authenticated":false}', executed=False)


def refused_login(function: str = "AuthenticateUser", *, locked: bool = False) -> Answer:
    """Write the refusal of a login: an ordinary reply."""
    if locked:
        return _refusal(_LOCKED, locked=True)
    return _NO_CODE if function == "Authenticate2FA" else _refusal(_INVALID, locked=False)


class Logins:
    """The users, and what became of their logins.

    Args:
        oms_id: The order management system that a good login names.
        new_token: Gives a text that nobody can guess, another one each time.
    """

    def __init__(self, *, oms_id: int, new_token: Callable[[], str]) -> None:
        self.users: dict[str, User] = {}
        """Users by name."""
        self._oms_id = oms_id
        self._new_token = new_token
        self._failures: Counter[str] = Counter()  # by user name, since the last good login
        self._codes: dict[str, TOTP] = {}  # by user name
        self._nonces: dict[str, int] = {}  # by API key, the last accepted one
        self._tokens: dict[str, tuple[User, datetime]] = {}  # and the last activity, the oldest first

    def add(self, user: User) -> None:
        """Let somebody log in.

        Raises:
            ValueError: The name, the number or the API key is taken, only one of key and secret is there, or the
                secret of the second factor cannot be used.
            ModuleNotFoundError: A second factor needs the package pyotp.
        """
        if user.user_name in self.users or user.user_id in {other.user_id for other in self.users.values()}:
            raise ValueError(f"there is a user {user.user_name!r} or a user number {user.user_id} already")
        if (user.api_key is None) != (user.api_secret is None):
            raise ValueError("api_key and api_secret belong together: give both or neither")
        if user.api_key is not None and self._owner(user.api_key) is not None:
            raise ValueError("there is a user with this api_key already")
        if user.totp_secret is not None:
            self._codes[user.user_name] = _totp(user.totp_secret)
        self.users[user.user_name] = user

    def unlock(self, user_name: str) -> None:
        """Forget the failed logins of a user. An unknown name is a KeyError."""
        del self._failures[self.users[user_name].user_name]

    def answer(self, visitor: Visitor, function: str, fields: Mapping[str, Json], now: datetime) -> Answer:
        """Answer one of `LOGIN_FUNCTIONS`."""
        if function == "Authenticate2FA":
            return self._second_factor(visitor, fields, now)
        visitor.awaits_code_of = None  # one login at a time
        if function == "WebAuthenticateUser" and "SessionToken" in fields:
            return self._by_token(visitor, fields, now)
        if function == "AuthenticateUser" and "APIKey" in fields:
            return self._by_signature(visitor, fields, now)
        return self._by_password(visitor, fields, now)

    def touch(self, visitor: Visitor, now: datetime) -> None:
        """Note that a logged-in connection is active: its session token lives on from here."""
        if visitor.token is not None and self._alive(visitor.token, now) is not None:
            self._keep(visitor.token, now)

    def log_out(self, visitor: Visitor) -> None:
        """End a login and its session token."""
        if visitor.token is not None:
            self._tokens.pop(visitor.token, None)
        visitor.log_out()

    def expire_tokens(self) -> None:
        """Make every session token given out so far worthless. Who is logged in stays so."""
        self._tokens.clear()

    # The ways in.

    def _by_password(self, visitor: Visitor, fields: Mapping[str, Json], now: datetime) -> Answer:
        user_name = fields.get("UserName")
        user = self.users.get(user_name) if isinstance(user_name, str) else None
        if user is None:
            return refused_login()
        is_good = user.password == fields.get("Password")
        return self._refusal_of(user, is_good=is_good) or self._let_in(visitor, user, self._new_token(), now)

    def _by_signature(self, visitor: Visitor, fields: Mapping[str, Json], now: datetime) -> Answer:
        match [fields.get(key) for key in ("APIKey", "Signature", "UserId", "Nonce")]:
            case [str(key), str(signature), str(user_id), str(nonce)]:
                user = self._owner(key)
            case _:  # a number for UserId or Nonce is a common mistake, and is not forgiven
                return refused_login()
        if user is None or user.api_secret is None:
            return refused_login()
        count = _whole(nonce)
        is_good = (
            count is not None
            and count > self._nonces.get(key, -1)
            and _whole(user_id) == user.user_id
            and signature == _sign(user.api_secret, f"{nonce}{user_id}{key}")
        )
        refusal = self._refusal_of(user, is_good=is_good)
        if refusal is not None or count is None:
            return refusal or refused_login()
        self._nonces[key] = count
        return self._let_in(visitor, user, None, now)

    def _by_token(self, visitor: Visitor, fields: Mapping[str, Json], now: datetime) -> Answer:
        token = fields.get("SessionToken")
        user = self._alive(token, now) if isinstance(token, str) else None
        if user is None or not isinstance(token, str):
            return refused_login()
        return self._refusal_of(user, is_good=True) or self._finish(visitor, user, token, now)

    def _second_factor(self, visitor: Visitor, fields: Mapping[str, Json], now: datetime) -> Answer:
        user, code = visitor.awaits_code_of, fields.get("Code")
        if user is None:
            return _NO_CODE
        # ASCII digits alone: pyotp would read others as well
        is_good = isinstance(code, str) and _whole(code) is not None
        is_good = is_good and self._codes[user.user_name].verify(str(code), for_time=now, valid_window=1)
        refusal = self._refusal_of(user, is_good=is_good, function="Authenticate2FA")
        return refusal or self._finish(visitor, user, self._new_token(), now)

    # What they share.

    def _refusal_of(self, user: User, *, is_good: bool, function: str = "AuthenticateUser") -> Answer | None:
        if self._failures[user.user_name] >= _MOST_FAILURES:
            return refused_login(function, locked=True)
        if is_good:
            return None
        self._failures[user.user_name] += 1
        return refused_login(function)

    def _let_in(self, visitor: Visitor, user: User, token: str | None, now: datetime) -> Answer:
        """Log in or, where a code is asked for, make the connection wait for it."""
        asks_for_code = user.user_name in self._codes
        if asks_for_code:
            visitor.log_out()
            visitor.awaits_code_of = user
        else:
            self._finish(visitor, user, token, now)
        answer: dict[str, object] = {
            "Authenticated": True,
            "SessionToken": None if asks_for_code else token,
            "User": {
                "UserId": user.user_id,
                "UserName": user.user_name,
                "Email": f"{user.user_name}@example.com",
                "EmailVerified": True,
                "AccountId": min(user.account_ids, default=0),
                "OMSId": self._oms_id,
                "Use2FA": asks_for_code,
            },
            "Locked": False,
            "Requires2FA": asks_for_code,
            "EnforceEnable2FA": False,
            "TwoFAType": "Google" if asks_for_code else None,
            "TwoFAToken": self._new_token() if asks_for_code else None,
            "errormsg": None,
        }
        if token is None:  # as seen of a login by API key
            del answer["SessionToken"]
        return Answer(write_json(answer))

    def _finish(self, visitor: Visitor, user: User, token: str | None, now: datetime) -> Answer:
        del self._failures[user.user_name]
        visitor.log_in(user, token)
        if token is not None:
            self._tokens[token] = (user, now)
            self._keep(token, now)
        return Answer(write_json({"Authenticated": True, "SessionToken": token, "UserId": user.user_id}))

    def _owner(self, api_key: str) -> User | None:
        for user in self.users.values():
            if user.api_key == api_key:
                return user
        return None

    def _alive(self, token: str, now: datetime) -> User | None:
        user, last_activity = self._tokens.get(token, (None, now))
        return user if now - last_activity <= _TOKEN_LIFE else None

    def _keep(self, token: str, now: datetime) -> None:
        user, _ = self._tokens.pop(token)
        self._tokens[token] = (user, now)  # the last place: the oldest stand first
        while self._alive(oldest := next(iter(self._tokens)), now) is None:
            del self._tokens[oldest]


def _refusal(reason: str, *, locked: bool) -> Answer:
    refusal = {"authenticated": False, "locked": locked, "errormsg": reason}
    return Answer(write_json(refusal), executed=False)


def _sign(secret: str, message: str) -> str:
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def _whole(digits: str) -> int | None:
    try:
        return int(digits) if digits.isascii() and digits.isdigit() else None
    except ValueError:  # more digits than this interpreter reads
        return None


def _totp(secret: str) -> TOTP:
    try:
        import pyotp  # noqa: PLC0415  (an extra, which only a user with a second factor needs)
    except ModuleNotFoundError as error:
        if error.name != "pyotp":
            raise
        sentence = "a user with a totp_secret needs the package pyotp: pip install 'aioalphapoint[testing]'"
        raise ModuleNotFoundError(sentence, name="pyotp") from None
    try:
        totp = pyotp.TOTP(secret)
        totp.at(0)  # older versions look at the secret only now
    except ValueError as error:
        raise ValueError(f"totp_secret cannot be used: {error}") from None
    return totp
