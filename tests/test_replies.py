"""How an answer reads: the exchange's own samples, and what else it may say."""

import json
import pickle
import re
from bisect import bisect_left
from contextlib import suppress
from decimal import Decimal

import pytest

from aioalphapoint import (
    CallRejected,
    InvalidRequest,
    NotAuthorized,
    OperationFailed,
    OperationNotSupported,
    OutcomeUnknown,
    ResourceNotFound,
    ServerError,
    StandardResponse,
    UnexpectedReply,
    _replies,
)
from aioalphapoint._envelope import Envelope, Json, MessageType, read_json
from aioalphapoint._replies import read_response, read_value


def answer(payload: str, kind: MessageType = MessageType.REPLY) -> Envelope:
    return Envelope(kind, 2, "somewhatdifferentcase", payload)


CANCEL_WITHDRAW_SAMPLE = """
{
    "result": true,
    "errormsg": "Operation Failed",
    "errorcode": 101,
    "detail": "Withdraw Ticket not found for OmsId, AccountId, RequestCode"
}"""
CANCEL_FAILED_WITHDRAW_TICKET_SAMPLE = """
{
    "result": false,
    "errormsg": "Invalid Request",
    "errorcode": 100,
    "detail": "Invalid OMSId"
}"""


@pytest.mark.parametrize(
    ("function", "sample", "refusal", "sentence"),
    [
        (
            "CancelWithdraw",
            CANCEL_WITHDRAW_SAMPLE,
            OperationFailed,
            "CancelWithdraw was refused: Operation Failed (101): "
            "Withdraw Ticket not found for OmsId, AccountId, RequestCode",
        ),
        (
            "CancelFailedWithdrawTicket",
            CANCEL_FAILED_WITHDRAW_TICKET_SAMPLE,
            InvalidRequest,
            "CancelFailedWithdrawTicket was refused: Invalid Request (100): Invalid OMSId",
        ),
    ],
)
@pytest.mark.parametrize("read", [read_response, read_value])
def test_the_documents_own_samples_are_refusals(
    function: str, sample: str, refusal: type[CallRejected], sentence: str, read: type
) -> None:
    with pytest.raises(refusal, match=f"^{re.escape(sentence)}$") as caught:
        read(function, answer(sample))
    error = caught.value
    assert (error.function, error.sequence) == (function, 2)
    assert error.response == StandardResponse.model_validate(json.loads(sample))
    assert (error.code, error.message, error.detail) == tuple(
        json.loads(sample)[key] for key in ("errorcode", "errormsg", "detail")
    )


@pytest.mark.parametrize(
    "payload",
    [
        '{"result":true,"errormsg":null,"errorcode":0,"detail":null}',
        '{"result":true,"errormsg":"","errorcode":0,"detail":""}',
        '{"result":true,"errormsg":null,"errorcode":0,"detail":"490b4fa3-53fc-44f4-bd29-7e16be86fba3"}',
        '{"Result":true,"ErrorMsg":null,"errorCode":0,"Detail":null}',
        '{ "result" : true }',
        '{"result":true,"errorcode":null}',
        '{"result":true,"errorcode":0,"detail":{"a":1.10},"more":1}',
        '{"result":true,"Result":true,"errorcode":0}',
        '{"result":false,"errormsg":"Operation In Process","errorcode":107,"detail":null}',
    ],
)
def test_these_answers_accept(payload: str) -> None:
    response = read_response("F", answer(payload))
    assert response.is_accepted
    assert isinstance(read_value("F", answer(payload)), dict)


@pytest.mark.parametrize(
    ("payload", "refusal"),
    [
        ('{"result":false,"errormsg":"Not Authorized","errorcode":20}', NotAuthorized),
        ('{"result":false,"errormsg":"Invalid InstrumentId: 10000","errorcode":100}', InvalidRequest),
        ('{"result":false,"errormsg":"Operation Failed","errorcode":101}', OperationFailed),
        ('{"result":false,"errormsg":"Server Error","errorcode":102}', ServerError),
        ('{"result":false,"errormsg":"Resource Not Found","errorcode":104}', ResourceNotFound),
        ('{"result":false,"errormsg":"Operation Not Supported","errorcode":106}', OperationNotSupported),
        ('{"result":false,"errormsg":"Already Subscribed.","errorcode":909}', CallRejected),
        ('{"result":false,"errormsg":null,"errorcode":0}', CallRejected),
        ('{"result":true,"errormsg":null,"errorcode":20}', NotAuthorized),
        ('{"result":false}', CallRejected),
    ],
)
def test_either_sign_of_refusal_is_one_and_the_code_tells_the_class(payload: str, refusal: type[CallRejected]) -> None:
    for kind in (MessageType.REPLY, MessageType.ERROR):
        with pytest.raises(CallRejected) as caught:
            read_response("F", answer(payload, kind))
        assert type(caught.value) is refusal
        assert caught.value.code == json.loads(payload).get("errorcode", 0)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "OK",
        "true",
        "[]",
        "{}",
        '{"errorcode":0}',
        '{"result":"true","errorcode":0}',
        '{"result":1,"errorcode":0}',
        '{"result":null,"errorcode":0}',
        '{"result":true,"errorcode":"0"}',
        '{"result":true,"errorcode":0.0}',
        '{"result":true,"errorcode":false}',
        '{"result":true,"Result":false,"errorcode":0}',
        '{"result":true,"errorcode":0,"ErrorCode":101}',
        '{"result":true,"errorcode":NaN}',
        '{"result":true',
        "[" * 100_000,
    ],
)
def test_what_is_no_standard_response_leaves_the_outcome_unknown(payload: str) -> None:
    with pytest.raises(UnexpectedReply, match=r"^CancelWithdraw was answered") as caught:
        read_response("CancelWithdraw", answer(payload))
    assert isinstance(caught.value, OutcomeUnknown)
    assert caught.value.payload == payload
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ('{"msg":"PONG"}', {"msg": "PONG"}),
        ("[19]", [19]),
        ("[]", []),
        ("true", True),
        ("0.10", Decimal("0.10")),
        ("", ""),
        ("some text", "some text"),
        ('{"result":"a word"}', {"result": "a word"}),
    ],
)
def test_a_value_of_any_shape_is_given_as_it_is(payload: str, value: Json) -> None:
    read = read_value("F", answer(payload))
    assert read == value
    assert str(read) == str(value)  # 0.10 is not 0.1


@pytest.mark.parametrize(
    "payload",
    [
        '{"result":false,"errorcode":"101","errormsg":"no"}',
        '{"result":false,"errorcode":101.0}',
        '{"result":true,"Result":false,"errorcode":101}',
        '{"result":false,"errorcode":101,"result":true,"errorcode":0}',
        '{"result":null,"errorcode":101,"errormsg":"no"}',
        '\ufeff{"result":false,"errorcode":101}',
    ],
)
def test_what_is_meant_as_a_standard_response_and_is_none_is_never_given_as_data(payload: str) -> None:
    with pytest.raises(UnexpectedReply):
        read_value("F", answer(payload))


def test_a_note_that_cannot_be_written_does_not_make_a_clear_answer_unreadable() -> None:
    response = read_response("F", answer('{"result":true,"errorcode":0,"detail":1e999}'))
    assert response.detail == "Decimal('1E+999')"


def test_a_note_nested_to_the_edge_of_what_can_be_read_does_not_make_a_clear_answer_unreadable() -> None:
    def is_read(depth: int) -> bool:
        with suppress(ValueError):
            return bool(read_json("[" * depth + "1" + "]" * depth))
        return False

    edge = bisect_left(range(1, 100_000), True, key=lambda depth: not is_read(depth))
    for depth in range(edge - 10, edge + 3):
        payload = f'{{"result":false,"errorcode":101,"detail":{"[" * depth}1{"]" * depth}}}'
        with pytest.raises((OperationFailed, UnexpectedReply)):
            read_value("F", answer(payload))


def test_what_the_exchange_says_cannot_play_tricks_in_a_log() -> None:
    payload = json.dumps(
        {"result": False, "errorcode": 101, "errormsg": "no\nERROR all is lost\x1b[2J\ud800" + "x" * 999}
    )
    with pytest.raises(OperationFailed) as caught:
        read_value("F", answer(payload))
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert len(sentence) < 300
    assert caught.value.message == json.loads(payload)["errormsg"]


@pytest.mark.parametrize("payload", ['{"a":NaN}', "[1,", '"open', "  {", '{"a":' * 100_000, "[1e9999999999999999999]"])
def test_a_value_that_starts_like_json_and_cannot_be_read_is_unexpected(payload: str) -> None:
    with pytest.raises(UnexpectedReply):
        read_value("F", answer(payload))


@pytest.mark.parametrize("text", ["Endpoint Not Found", "", '{"a":1}', "[1", '"words"'])
def test_a_gateways_refusal_keeps_its_text(text: str) -> None:
    with pytest.raises(CallRejected) as caught:
        read_value("NoSuchFunction", answer(text, MessageType.ERROR))
    assert type(caught.value) is CallRejected
    assert (caught.value.code, caught.value.message, caught.value.response) == (None, text, None)
    assert str(caught.value) == f"NoSuchFunction was refused by the gateway: {text or '(no text)'}"


def test_a_refusal_that_says_yes_is_believed_in_neither() -> None:
    with pytest.raises(UnexpectedReply):
        read_value("F", answer('{"result":true,"errorcode":0}', MessageType.ERROR))


def test_errors_survive_pickling_with_all_they_carry() -> None:
    with pytest.raises(OperationFailed) as caught:
        read_response("CancelWithdraw", answer(CANCEL_WITHDRAW_SAMPLE))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is OperationFailed
    assert str(copy) == str(caught.value)
    assert vars(copy) == vars(caught.value)


@pytest.mark.parametrize(
    "payload",
    [
        '{"result":true,"errormsg":null,"errorcode":0,"detail":"a private word"}',
        '{"result":true,"errormsg":"a private word","errorcode":0,"detail":null}',
        '{"result":true,"errorcode":0,"other":"a private word"}',
        '{"result":false,"errormsg":"a private word","errorcode":101,"detail":null}',
        '{"result":true,"errorcode":0}' + " " * 200,
    ],
)
def test_nothing_is_kept_of_an_answer_that_says_more_than_received(payload: str) -> None:
    _replies._receipts.clear()
    with suppress(CallRejected):
        read_response("F", Envelope(MessageType.REPLY, 2, "F", payload))
    assert not _replies._receipts


def test_what_is_kept_of_answers_is_bounded_and_reads_as_it_did() -> None:
    for spaces in range(150):
        payload = '{"result":true,"errorcode":0}' + " " * spaces
        first, second = (read_response("F", Envelope(MessageType.REPLY, 2, "F", payload)) for _ in range(2))
        assert first == second == StandardResponse(result=True)
    assert len(_replies._receipts) == _replies._MOST_RECEIPTS
    _replies._receipts.clear()


def test_a_gateways_error_is_no_receipt_in_whatever_words() -> None:
    payload = '{"result":true,"errormsg":null,"errorcode":0,"detail":null}'
    assert read_response("F", Envelope(MessageType.REPLY, 2, "F", payload)).is_accepted
    with pytest.raises(UnexpectedReply):
        read_response("F", Envelope(MessageType.ERROR, 2, "F", payload))
