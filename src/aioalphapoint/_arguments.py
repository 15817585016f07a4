"""Checks of what callers hand in: one sentence that names the argument and what is allowed. Pure."""

from __future__ import annotations

import ipaddress
import math
from urllib.parse import urlsplit

from .errors import InvalidArguments, quote

__all__ = ["gateway_host", "instance", "natural", "positive", "seconds", "shown"]


def seconds(name: str, value: object) -> float:
    """Check a time span: positive, finite, in seconds."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < float(value) < math.inf:
            return float(value)
    except OverflowError:  # an int beyond every float
        pass
    raise InvalidArguments(f"{name} must be a positive number of seconds, not {shown(value)}")


def positive(name: str, value: object) -> int:
    """Check a bound: an int above 0."""
    if type(value) is not int or value <= 0:
        raise InvalidArguments(f"{name} must be a positive int, not {shown(value)}")
    return value


def natural(name: str, value: object) -> int | None:
    """Check a number of the exchange's that may be left out: an int from 0."""
    if value is None or (type(value) is int and value >= 0):
        return value
    raise InvalidArguments(f"{name} must be None or an int from 0, not {shown(value)}")


def gateway_host(url: str, *, has_credentials: bool, has_proxy: bool, allow_insecure: bool) -> str:
    """Check a gateway's address, and give the part of it that may stand in logs and errors.

    Path and query are left out of that part: they are where tokens would stand.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port  # `port` is parsed only when it is read
    except (AttributeError, TypeError, ValueError):  # whose text could hold a password
        raise InvalidArguments("url must be an address such as wss://HOST/WSGateway/") from None
    if parts.scheme not in ("ws", "wss") or not host:
        raise InvalidArguments("url must be an address such as wss://HOST/WSGateway/")
    if "@" in parts.netloc:
        raise InvalidArguments("url must not hold a user name or password; give them as credentials")
    if parts.fragment:
        raise InvalidArguments("url must not have a fragment (#...)")
    stays_here = _is_loopback(host) and not has_proxy
    if parts.scheme == "ws" and has_credentials and not allow_insecure and not stays_here:
        raise InvalidArguments(
            f"url must start with wss:// to take credentials to {host}{' through a proxy' if has_proxy else ''}: "
            "over ws:// anyone on the way could read them (allow_insecure=True permits it)"
        )
    return f"{parts.scheme}://{parts.netloc}"


def instance(name: str, value: object, *kinds: type, allowed: str) -> None:
    """Check a value's type without showing the value: it may hold a secret."""
    if value is not None and not isinstance(value, kinds):
        raise InvalidArguments(f"{name} must be None or {allowed}, not a value of type {type(value).__name__}")


def shown(value: object) -> str:
    """Describe a value in an error's sentence, whatever it is."""
    try:
        return quote(repr(value))
    except Exception:  # noqa: BLE001  (a foreign repr may fail, and int's does past 4300 digits)
        return f"a value of type {type(value).__name__}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
