"""Tickets as an exchange lists them: the same ones in each run, of the length that real ones have."""

from __future__ import annotations

import json
import random
from uuid import UUID

__all__ = ["listing", "ticket"]

_SEED = 7
# As seen on real gateways: trailing zeros, up to 28 digits after the point.
_AMOUNTS = ("0.0010000000000000000000000000", "12.3456789012345678901234567890", "250.00", "0.00012345", "1000000")
_STATUSES = ("FullyProcessed", "Pending", "UserCanceled", "AutoAccepted", "Failed", "Rejected")


def listing(count: int) -> str:
    """Write a list of so many tickets as JSON text, every digit spelled out."""
    chance = random.Random(_SEED)
    return f"[{','.join(_ticket(number, chance) for number in range(count))}]"


def _ticket(number: int, chance: random.Random) -> str:
    code = UUID(int=chance.getrandbits(128), version=4)
    return ticket(str(code), number=1000 + number, status=chance.choice(_STATUSES), amount=chance.choice(_AMOUNTS))


def ticket(code: str, *, number: int = 1, status: str = "UserCanceled", amount: str = _AMOUNTS[0]) -> str:
    """Write one ticket as JSON text, keys as on the wire."""
    address = f"bc1q{code.replace('-', '')}"
    form = {"TemplateType": "ToExternalBitcoinAddress", "Comment": "", "ExternalAddress": address}
    details = {"TxId": None, "ExternalAddress": address, "Amount": 1, "Confirmed": False, "LastUpdated": "0001-01-01"}
    fields: dict[str, object] = {
        "AssetManagerId": 1,
        "AccountProviderId": 5,
        "AccountId": 7,
        "AccountName": "alice@example.com",
        "AssetId": 1,
        "AssetName": "BTC",
        "Amount": "AMOUNT",
        "NotionalValue": "AMOUNT",
        "NotionalProductId": 1,
        "TemplateForm": json.dumps(form, separators=(",", ":")),
        "TemplateFormType": "ToExternalBitcoinAddress",
        "OMSId": 1,
        "RequestCode": code,
        "RequestIP": "192.0.2.17",
        "RequestUserId": 96,
        "RequestUserName": "alice",
        "OperatorId": 1,
        "Status": status,
        "FeeAmt": "AMOUNT",
        "UpdatedByUser": 96,
        "UpdatedByUserName": "alice",
        "TicketNumber": number,
        "WithdrawTransactionDetails": json.dumps(details, separators=(",", ":")),
        "RejectReason": None,
        "CreatedTimestamp": "2023-03-23T12:48:31.067Z",
        "LastUpdateTimestamp": "2023-03-23T12:51:02.411Z",
        "CreatedTimestampTick": 638151725110670000,
        "LastUpdateTimestampTick": 638151726624110000,
        "Comments": [],
        "Attachments": [],
        "AuditLog": [],
    }
    # `json` cannot write a number with the digits that it is given.
    return json.dumps(fields, separators=(",", ":")).replace('"AMOUNT"', amount)
