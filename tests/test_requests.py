"""What the calls send, and what they refuse to send."""

import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from aioalphapoint import InvalidArguments
from aioalphapoint._requests import (
    CancelFailedWithdrawTicket,
    CancelWithdraw,
    function_name,
    payload_text,
    request_text,
)

CODE = "490b4fa3-53fc-44f4-bd29-7e16be86fba3"
GOOD: dict[str, Any] = {"oms_id": 1, "user_id": 1, "account_id": 1, "request_code": CODE}


def test_keys_stand_in_the_case_and_order_of_the_documents() -> None:
    assert request_text(CancelWithdraw, **GOOD) == (
        '{"OMSId":1,"UserId":1,"AccountId":1,"RequestCode":"490b4fa3-53fc-44f4-bd29-7e16be86fba3"}'
    )
    assert request_text(CancelFailedWithdrawTicket, ticket_id=292, oms_id=1) == '{"omsId":1,"ticketId":292}'


def test_the_whole_range_of_64_bits_is_sent_digit_by_digit() -> None:
    text = request_text(CancelFailedWithdrawTicket, oms_id=0, ticket_id=2**63 - 1)
    assert text == '{"omsId":0,"ticketId":9223372036854775807}'


@pytest.mark.parametrize(
    ("code", "sent"),
    [(UUID(CODE), CODE), (CODE, CODE), (CODE.upper(), CODE.upper())],
    ids=["UUID", "text", "upper case"],
)
def test_a_request_code_is_sent_as_it_was_given(code: object, sent: str) -> None:
    assert json.loads(request_text(CancelWithdraw, **{**GOOD, "request_code": code}))["RequestCode"] == sent


@pytest.mark.parametrize("name", ["oms_id", "user_id", "account_id", "ticket_id"])
@pytest.mark.parametrize(
    "value",
    [True, False, 7.0, -1, 2**63, 10**5000, "7", None, Decimal(7), b"7", [7]],
    ids=["True", "False", "float", "negative", "2^63", "10^5000", "text", "None", "Decimal", "bytes", "list"],
)
def test_a_number_that_is_none_is_refused_by_name(name: str, value: object) -> None:
    model = CancelFailedWithdrawTicket if name == "ticket_id" else CancelWithdraw
    arguments = {**({"oms_id": 1, "ticket_id": 1} if name == "ticket_id" else GOOD), name: value}
    with pytest.raises(InvalidArguments) as caught:
        request_text(model, **arguments)
    assert str(caught.value).startswith(f"{name} must be an int from 0 to 9223372036854775807, not ")
    assert isinstance(caught.value, ValueError)
    assert caught.value.function == model.__name__


@pytest.mark.parametrize(
    "code",
    ["", "nope", CODE[:-1], f"{{{CODE}}}", f"urn:uuid:{CODE}", CODE.replace("-", ""), f"{CODE}\n", 7, None, b"0" * 16],
)
def test_a_request_code_that_is_no_guid_is_refused_by_name(code: object) -> None:
    with pytest.raises(InvalidArguments, match=r"^request_code must be a uuid.UUID or its text of 36 characters, not "):
        request_text(CancelWithdraw, **{**GOOD, "request_code": code})


def test_a_payload_of_any_function_keeps_order_and_digits() -> None:
    payload = {"OMSId": 1, "Amount": Decimal("0.0010000000000000000000000000"), "Nested": [{"a": None}]}
    assert payload_text("F", payload) == ('{"OMSId":1,"Amount":0.0010000000000000000000000000,"Nested":[{"a":null}]}')
    assert payload_text("Ping", None) == payload_text("Ping", {}) == "{}"


@pytest.mark.parametrize(
    ("function", "payload", "sentence"),
    [
        ("", None, "function must be a name such as 'GetWithdraws', not ''"),
        (7, None, "function must be a name such as 'GetWithdraws', not 7"),
        ("F", [1], r"payload must be a mapping, not \[1\]"),
        ("F", "{}", "payload must be a mapping, not '{}'"),
        ("F", {"a": float("nan")}, r"payload must be what JSON can hold: the number nan at \['a'\]"),
        ("F", {"a": {1: 2}}, r"payload must be what JSON can hold: key 1 at \['a'\] has no place"),
        ("F", {"a": object}, r"payload must be what JSON can hold: type at \['a'\] has no place"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(function: object, payload: object, sentence: str) -> None:
    with pytest.raises(InvalidArguments, match=f"^{sentence}"):
        payload_text(function_name(function), payload)
