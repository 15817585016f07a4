"""The frames that are sent by hand: a cancel's, byte for byte as aioalphapoint sends it, and a login's."""

from __future__ import annotations

import json

from speed.program import CODE

__all__ = ["CANCEL", "cancel", "login"]

CANCEL = {"OMSId": 1, "UserId": 96, "AccountId": 7, "RequestCode": CODE}
"""What a cancel says."""

_LOGIN = {"UserName": "alice", "Password": "a password of alice"}


def _frame(number: int, function: str, payload: object) -> bytes:
    frame = {"m": 0, "i": number, "n": function, "o": json.dumps(payload, separators=(",", ":"))}
    return json.dumps(frame, separators=(",", ":")).encode()


def cancel(number: int) -> bytes:
    """Write the frame of a cancel with this number."""
    return _frame(number, "CancelWithdraw", CANCEL)


def login() -> bytes:
    """Write the frame of a login."""
    return _frame(2, "AuthenticateUser", _LOGIN)
