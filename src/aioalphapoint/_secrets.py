"""What is secret in a frame, and how to take it out of text that came from outside. Pure.

A secret is known in three ways: by the function that carries it, by the key that it stands under, and by its value.
The value is the strongest: an exchange may echo it anywhere, in any text and any function's name.

Invariants:

* What cannot be searched through is withheld whole: what starts like JSON and is none, what is nested or escaped
  deeper than it is looked into, and plain text that names a secret's key.
* Memory is bounded: of the values that were learnt, the oldest are forgotten first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NoReturn

from ._envelope import Json, read_json, write_json

__all__ = ["Secrets", "is_private", "secret_values", "without_keys", "without_secrets"]

_HIDDEN = "***"

# The functions of logins and of what they rest on. Part of a name, because venues add functions of their own.
_PRIVATE = ("authenticate", "password", "2fa", "apikey", "token")

# Part of a key, in any letter case: `Password`, `NewPassword`, `SessionToken`, `TwoFAToken`, `APISecret`.
_PART_OF_KEY = ("password", "secret", "token", "signature", "apikey", "passphrase", "passcode", "privatekey")
_WHOLE_KEY = frozenset({"otp", "totp", "pin", "pwd", "salt", "authorization"})
# Codes are secrets (`Code`, `PendingEmailCode`, `BackupCodes`) but for these.
_KNOWN_CODES = ("request", "withdraw", "error", "status", "currency", "country", "asset", "product", "zip", "postal")
_CODE = re.compile(rf"(?!(?:{'|'.join(_KNOWN_CODES)})_?codes?$)\w*codes?")

# In plain text a key shows by what follows it: `SessionToken\":`, `Password=`. The bounds keep the search linear.
_NAMES_KEY = re.compile(
    rf"(?i)(?:(?:{'|'.join(_PART_OF_KEY)})\w{{0,20}}|\b(?:{'|'.join(sorted(_WHOLE_KEY))})"
    rf"|\b(?!(?:{'|'.join(_KNOWN_CODES)})_?codes?\b)\w{{0,30}}codes?)[\s\"'\\]{{0,20}}[:=]"
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

# How often text is escaped at most: a payload in a frame is once, JSON text in it twice, a whole request that is
# echoed in an error's message four times.
_LEVELS = 6

_LONGEST_NAME = 100  # characters of a function's name that is remembered; a hostile exchange's has megabytes
_MOST_OWN = 20  # values of the client's own logins; each brings up to four
_MOST_LEARNT = 100  # values of logins, and of lists of keys, that a program asks for by `call`
_LONGEST_SECRET = 10_000  # characters; a token has some hundred
_DEEPEST = 50  # objects and lists inside one another; the exchange's have three


def is_private(function: str) -> bool:
    """Tell whether what a function is sent and answered is nobody's business, whatever its keys are."""
    return _is_private(function) if len(function) <= _LONGEST_NAME else _is_private.__wrapped__(function)


@lru_cache(maxsize=256)
def _is_private(function: str) -> bool:
    name = function.lower()
    return any(part in name for part in _PRIVATE)


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Take secrets out of a text, however often and in whatever way they are escaped in it."""
    known = set(secrets)
    forms, escaped = set(known), known
    for _ in range(_LEVELS):
        escaped = {json.dumps(form)[1:-1] for form in escaped}
        forms |= escaped
    # The longest first: a shorter one inside it would leave its rest standing.
    for form in sorted((form for form in forms if len(form) <= len(text)), key=len, reverse=True):
        text = text.replace(form, _HIDDEN)
    return _HIDDEN if known and _still_hold(text, known) else text


def _still_hold(text: str, secrets: set[str]) -> bool:
    # Other writers escape more than Python's (`\/`, `\u0026`), or in other letters (`\u00FC`).
    for _ in range(_LEVELS):
        plain = _ESCAPE.sub(_letter, text)
        if plain == text:
            return False
        plain = plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins two escapes of one letter
        if any(secret in plain for secret in secrets):
            return True
        text = plain
    return True


def _letter(escape: re.Match[str]) -> str:
    digits, short = escape.groups()
    return chr(int(digits, 16)) if digits else _SHORT.get(short, short)


def without_keys(payload: str) -> str:
    """Replace what stands under a secret's key in a payload, in JSON text inside its strings too."""
    return _without_keys(payload, 0)


def _without_keys(text: str, depth: int) -> str:
    if text.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
        try:
            return write_json(_replaced(read_json(text), depth + 1))
        except ValueError:
            return _HIDDEN
    return _HIDDEN if _NAMES_KEY.search(text) else text


def _replaced(value: Json, depth: int) -> Json:
    if depth > _DEEPEST:
        return _HIDDEN
    match value:
        case dict():
            return {key: _concealed(key, item, depth) for key, item in value.items()}
        case list():
            return [_replaced(item, depth + 1) for item in value]
        case str():
            return _without_keys(value, depth)
        case _:
            return value


def _concealed(key: str, value: Json, depth: int) -> Json:
    if value is not None and _is_secret(key):
        return _HIDDEN
    return _replaced(value, depth + 1)


def _is_secret(key: str) -> bool:
    name = key.lower()
    return name in _WHOLE_KEY or any(part in name for part in _PART_OF_KEY) or bool(_CODE.fullmatch(name))


def secret_values(value: object) -> Iterator[str]:
    """Give what stands under a secret's key in a JSON value."""
    if isinstance(value, list):
        for item in value:
            yield from secret_values(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list):
                yield from secret_values(item)
            elif _is_secret(key) and item not in (None, True, False, ""):
                yield str(item)


class Secrets:
    """The secret values that one client knows: what it logs in with, and what logins have brought.

    Args:
        kept: Those that are never forgotten.
    """

    def __init__(self, kept: Iterable[str] = ()) -> None:
        self._kept = frozenset(kept)
        self._own: dict[str, None] = {}  # in the order in which they came
        self._learnt: dict[str, None] = {}  # likewise
        self._is_too_long = False

    def __repr__(self) -> str:
        return f"<Secrets, {len(self._kept) + len(self._own) + len(self._learnt)} known>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Secrets are not pickled")

    def learn(self, payload: str, *, is_own: bool = False) -> None:
        """Remember what stands under a secret's key in a login's payload.

        Args:
            payload: The text of it.
            is_own: The login is the client's own: what others bring does not push its secrets out.
        """
        try:
            found = list(secret_values(read_json(payload)))
        except (ValueError, RecursionError):
            return
        values, most = (self._own, _MOST_OWN) if is_own else (self._learnt, _MOST_LEARNT)
        for value in found:
            if len(value) > _LONGEST_SECRET:
                self._is_too_long = True
                continue
            values.pop(value, None)
            values[value] = None
            if len(values) > most:
                del values[next(iter(values))]

    def out_of(self, text: str) -> str:
        """Take all of them out of a text. Where one was too long to be remembered, nothing of the text is left."""
        return _HIDDEN if self._is_too_long else without_secrets(text, [*self._kept, *self._own, *self._learnt])
