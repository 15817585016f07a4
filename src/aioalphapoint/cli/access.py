"""Where the exchange is and who logs in: from the environment, or from a file that its user alone can read.

Never from arguments: whoever may list the processes of a machine reads those.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from aioalphapoint import ApiKey, Password, SessionToken

from .exits import Misuse

__all__ = ["URL", "Access", "read_access"]

URL = "ALPHAPOINT_URL"
_API_KEY = ("ALPHAPOINT_API_KEY", "ALPHAPOINT_API_SECRET", "ALPHAPOINT_USER_ID")
_PASSWORD = ("ALPHAPOINT_USER_NAME", "ALPHAPOINT_PASSWORD")
_TOKEN = ("ALPHAPOINT_SESSION_TOKEN",)
_LOGINS = (_API_KEY, _PASSWORD, _TOKEN)
_NAMES = frozenset({URL, *_API_KEY, *_PASSWORD, *_TOKEN})

# Seconds in which a person has to find the code of a second factor and type it.
_TYPING = 60.0

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Access:
    """An exchange's address, and a login there; None where none was given.

    Attributes:
        url: The gateway's address.
        credentials: Who logs in.
    """

    url: str
    credentials: ApiKey | Password | SessionToken | None


def read_access(
    environment: Mapping[str, str], file: Path | None, *, two_factor: Callable[[], Awaitable[str]]
) -> Access:
    """Read address and login. A login in the file is taken whole, and the environment's is then passed by.

    Args:
        environment: Where `ALPHAPOINT_...` variables stand.
        file: Lines of `NAME=value` with the same names; None: there is none.
        two_factor: Asks for the code of a second factor.

    Raises:
        Misuse: Something is missing, there twice, or readable by others. No value is quoted.
    """
    told = {name: environment.get(name, "") for name in _NAMES}
    if file is not None:
        in_file = _read_file(file)
        if any(in_file.get(name) for names in _LOGINS for name in names):
            told = {URL: told[URL]}
        told |= in_file
    told = {name: value for name, value in told.items() if value}
    if URL not in told:
        raise Misuse(f"{URL} is not set: the address of the exchange's gateway, such as wss://HOST/WSGateway/")
    return Access(told[URL], _credentials(told, two_factor))


def _credentials(
    told: Mapping[str, str], two_factor: Callable[[], Awaitable[str]]
) -> ApiKey | Password | SessionToken | None:
    # A user's number alone is no beginning of a login: other programs use that variable too.
    begun = [names for names in _LOGINS if any(name in told for name in names[:2])]
    if len(begun) > 1:
        found = " and ".join(next(name for name in names if name in told) for names in begun)
        raise Misuse(f"{found} are both set: keep one login")
    for names in begun:
        missing = [name for name in names if name not in told]
        if missing:
            raise Misuse(f"{' and '.join(missing)} must be set beside {next(name for name in names if name in told)}")
    match begun:
        case [names] if names is _API_KEY:
            api_key, secret, user_id = (told[name] for name in _API_KEY)
            return ApiKey(api_key, secret, user_id)
        case [names] if names is _PASSWORD:
            user_name, password = (told[name] for name in _PASSWORD)
            return Password(user_name, password, two_factor, _TYPING)
        case [_]:
            return SessionToken(told[_TOKEN[0]])
    return None


def _read_file(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())  # of what is read, whatever the name leads to by then
            if hasattr(os, "geteuid") and (status.st_mode & _OTHERS or status.st_uid != os.geteuid()):
                raise Misuse(f"{path} must be its user's own and readable by nobody else: chmod 600 {path}")
            text = file.read().decode()
    except OSError as error:
        raise Misuse(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Misuse(f"cannot read {path}: it is not text in UTF-8") from None
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    unknown = values.keys() - _NAMES
    if unknown:  # a name typed wrong would leave the login to the environment; the line itself may be a secret
        raise Misuse(f"{path} holds a line that sets none of {', '.join(sorted(_NAMES))}")
    return {name: value or "" for name, value in values.items()}
