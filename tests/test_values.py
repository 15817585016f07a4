"""Statuses, tickets, pauses, addresses: the small values, in every shape that the wire has."""

import copy
import pickle
import ssl
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aioalphapoint import (
    Backoff,
    Client,
    InvalidArguments,
    Password,
    StandardResponse,
    WithdrawStatus,
    WithdrawTicket,
)

# The table of the exchange's documents, by number.
NAMES = [
    *("New", "AdminProcessing", "Accepted", "Rejected", "SystemProcessing", "FullyProcessed", "Failed", "Pending"),
    *("Pending2Fa", "AutoAccepted", "Delayed", "UserCanceled", "AdminCanceled", "AmlProcessing", "AmlAccepted"),
    *("AmlRejected", "AmlFailed", "LimitsAccepted", "LimitsRejected", "Submitted", "Confirmed"),
    *("ManuallyConfirmed", "Confirmed2Fa"),
]
CANCELLED = {"UserCanceled", "AdminCanceled"}
FAILED = {"Failed", "AmlFailed"}
ENDED = CANCELLED | FAILED | {"Rejected", "FullyProcessed", "AmlRejected", "LimitsRejected", "ManuallyConfirmed"}


@pytest.mark.parametrize(("number", "name"), list(enumerate(NAMES)))
def test_a_status_is_found_by_name_and_by_number_and_falls_in_its_class(number: int, name: str) -> None:
    status = WithdrawStatus(name)
    numbered: Any = number  # the type checker knows the names alone
    assert status is WithdrawStatus(numbered) is WithdrawStatus(name.upper())
    assert status == name
    assert status.is_open == (name not in ENDED)
    assert status.is_cancelled == (name in CANCELLED)
    assert status.is_failed == (name in FAILED)
    assert status.is_final == (name in ENDED)


@pytest.mark.parametrize("name", ["UserCancelled", "AdminCancelled"])
def test_either_spelling_of_cancelled_is_understood(name: str) -> None:
    assert WithdrawStatus(name) is WithdrawStatus(name.replace("ll", "l"))


@pytest.mark.parametrize(("written", "text"), [("Frozen", "Frozen"), (23, "23"), (-1, "-1"), ("", "")])
def test_an_unknown_status_is_kept_and_nothing_is_claimed_of_it(written: Any, text: str) -> None:
    before = list(WithdrawStatus)
    status = WithdrawStatus(written)
    assert str(status) == text
    assert status == WithdrawStatus(text)
    assert {status: 1}[WithdrawStatus(text)] == 1
    assert not any((status.is_open, status.is_cancelled, status.is_failed, status.is_final))
    assert pickle.loads(pickle.dumps(status)) == copy.deepcopy(status) == status
    assert list(WithdrawStatus) == before


@pytest.mark.parametrize("value", [None, 7.0, True, b"New", []])
def test_what_is_neither_name_nor_number_is_no_status(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a valid WithdrawStatus"):
        WithdrawStatus(value)


def test_a_ticket_is_read_in_any_case_with_every_digit() -> None:
    ticket = WithdrawTicket.model_validate(
        {
            "TicketNumber": 292,
            "accountid": 7,
            "RequestCode": "490B4FA3-53fc-44f4-bd29-7e16be86fba3",
            "OMSID": 1,
            "requestIP": "127.0.0.1",
            "Amount": Decimal("0.0010000000000000000000000000"),
            "feeAmt": Decimal("1E-28"),
            "Status": "UserCancelled",
            "createdTimeStamp": "2023-03-23T12:48:31.067Z",
            "LastUpdateTimestamp": "0001-01-01T00:00:00",
            "CreatedTimestampTick": 638151725116710000,
            "SomethingNew": {"a": 1},
        }
    )
    assert (ticket.ticket_number, ticket.oms_id, ticket.request_ip) == (292, 1, "127.0.0.1")
    assert (ticket.account_id, ticket.request_code) == (7, "490B4FA3-53fc-44f4-bd29-7e16be86fba3")
    assert str(ticket.amount) == "0.0010000000000000000000000000"
    assert ticket.status is WithdrawStatus.USER_CANCELED
    assert ticket.created_timestamp == datetime(2023, 3, 23, 12, 48, 31, 67_000, tzinfo=UTC)
    assert ticket.last_update_timestamp is None
    assert ticket.created_timestamp_tick == 638_151_725_116_710_000
    assert ticket.reject_reason is None
    with pytest.raises(ValidationError, match="frozen"):
        ticket.status = WithdrawStatus.NEW  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("0001-01-01T00:00:00Z", None),
        (None, None),
        ("", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("2023-03-23T12:48:31", datetime(2023, 3, 23, 12, 48, 31, tzinfo=UTC)),
        ("2023-03-23T14:48:31+02:00", datetime(2023, 3, 23, 12, 48, 31, tzinfo=UTC)),
        (
            datetime(2023, 3, 23, 14, 48, 31, tzinfo=timezone(timedelta(hours=2))),
            datetime(2023, 3, 23, 12, 48, 31, tzinfo=UTC),
        ),
    ],
)
def test_a_moment_is_aware_and_in_utc(written: object, moment: datetime | None) -> None:
    needed = {"TicketNumber": 1, "Status": 0, "AccountId": 7, "RequestCode": ""}
    ticket = WithdrawTicket.model_validate({**needed, "CreatedTimestamp": written})
    assert ticket.created_timestamp == moment
    assert moment is None or ticket.created_timestamp is None or ticket.created_timestamp.tzinfo is UTC


@pytest.mark.parametrize("amount", ["1_0.5", True, "NaN", 1.5, "\u0661"])
def test_an_amount_is_digits_or_none(amount: object) -> None:
    needed = {"TicketNumber": 1, "Status": 0, "AccountId": 7, "RequestCode": ""}
    assert str(WithdrawTicket.model_validate({**needed, "Amount": "10.50"}).amount) == "10.50"
    assert WithdrawTicket.model_validate({**needed, "Amount": 10}).amount == 10
    assert WithdrawTicket.model_validate({**needed, "Amount": amount}).amount is None


def test_a_ticket_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValidationError):
        WithdrawTicket.model_validate([1])


@given(failures=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_a_pause_stays_between_half_and_whole_of_its_step(failures: int, chance: float) -> None:
    step = min(30.0, 0.5 * 2 ** min(failures, 20))
    assert step / 2 <= Backoff(first=0.5, cap=30.0).pause(failures, chance) <= step


def test_pauses_double_up_to_the_cap() -> None:
    assert [Backoff(first=0.5, cap=3).pause(failures, 0.0) for failures in range(5)] == [0.5, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"first": 0}, "first must be a positive number of seconds, not 0"),
        ({"cap": float("inf")}, "cap must be a positive number of seconds, not inf"),
        ({"first": True}, "first must be a positive number of seconds, not True"),
        ({"first": "1"}, "first must be a positive number of seconds, not '1'"),
        ({"first": 2, "cap": 1}, r"cap must not be below first \(2 s\), not 1"),
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArguments, match=f"^{sentence}$"):
        Backoff(**arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"url": "http://host/"}, "url must be an address such as wss://HOST/WSGateway/"),
        ({"url": "wss://"}, "url must be an address such as wss://HOST/WSGateway/"),
        ({"url": None}, "url must be an address such as wss://HOST/WSGateway/"),
        ({"url": "wss://host:99999/"}, "url must be an address such as wss://HOST/WSGateway/$"),
        ({"url": "wss://alice:secret/x@host/WSGateway/"}, "url must be an address such as wss://HOST/WSGateway/$"),
        ({"url": "wss://alice:secr\u2100et@host/"}, "url must be an address such as wss://HOST/WSGateway/$"),
        ({"credentials": ("alice", "secret")}, "credentials must be None or ApiKey, Password or SessionToken, not a "),
        ({"reconnect": 5}, "reconnect must be None or a Backoff, not a value of type int$"),
        ({"ssl": True}, "ssl must be None or an ssl.SSLContext, not a value of type bool$"),
        ({"proxy": 8080}, "proxy must be None or an address or True, not a value of type int$"),
        ({"limiter": 50}, "limiter must be None or an async context manager, not a value of type int$"),
        ({"url": "wss://alice:secret@host/"}, "url must not hold a user name or password"),
        ({"url": "wss://host/#part"}, "url must not have a fragment"),
        ({"url": "ws://localhost/", "ssl": ssl.create_default_context()}, "ssl must be None for an address that"),
        ({"timeout": 10**400}, "timeout must be a positive number of seconds, not 1000"),
        ({"timeout": 0}, "timeout must be a positive number of seconds, not 0"),
        ({"connect_timeout": -1}, "connect_timeout must be a positive number of seconds, not -1"),
        ({"max_in_flight": 0}, "max_in_flight must be a positive int, not 0"),
        ({"max_message_size": True}, "max_message_size must be a positive int, not True"),
        ({"oms_id": "1"}, "oms_id must be None or an int from 0, not '1'"),
    ],
)
def test_a_client_that_makes_no_sense_is_refused_before_any_io(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArguments, match=f"^{sentence}") as caught:
        Client(**{"url": "wss://host/WSGateway/", **arguments})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "[::1]", "localhost"])
def test_credentials_may_go_unencrypted_to_this_machine(host: str) -> None:
    Client(f"ws://{host}:8765/WSGateway/", Password("alice", "secret"))


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "localhost.example.com", "0.0.0.0"])  # noqa: S104  (refused)
def test_credentials_may_go_unencrypted_elsewhere_only_when_allowed_by_name(host: str) -> None:
    url = f"ws://{host}/WSGateway/"
    with pytest.raises(InvalidArguments, match="^url must start with wss://"):
        Client(url, Password("alice", "secret"))
    Client(url, Password("alice", "secret"), allow_insecure=True)
    Client(url)
    Client(url.replace("ws:", "wss:"), Password("alice", "secret"))


def test_credentials_go_unencrypted_through_no_proxy() -> None:
    url, proxy = "ws://127.0.0.1/WSGateway/", "http://proxy.example.com"
    with pytest.raises(InvalidArguments, match="to take credentials to 127.0.0.1 through a proxy"):
        Client(url, Password("alice", "secret"), proxy=proxy)
    Client(url, Password("alice", "secret"), proxy=proxy, allow_insecure=True)
    Client(url, proxy=proxy)


def nested() -> list[object]:
    """Nest lists deeper than Python can compare, write or show."""
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


def test_what_is_nested_too_deep_to_be_compared_decides_nothing_and_is_in_nobodys_way() -> None:
    response = StandardResponse.model_validate({"result": True, "detail": nested(), "Detail": nested()})
    assert response.is_accepted
    assert response.detail == "nested too deep to be shown"
    odd = {"comments": nested(), "Comments": nested(), "amount": nested(), "Amount": nested()}
    ticket = WithdrawTicket.model_validate({"TicketNumber": 292, **odd})
    assert (ticket.ticket_number, ticket.amount, len(ticket.comments)) == (292, None, 1)
    with pytest.raises(ValidationError):
        StandardResponse.model_validate({"result": nested(), "Result": nested()})
