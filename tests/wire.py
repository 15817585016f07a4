"""Frames written by hand, and a raw WebSocket to send them by: never the library's codec."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

from websockets.asyncio.client import ClientConnection as Socket
from websockets.asyncio.client import connect

from aioalphapoint import WithdrawTicket
from aioalphapoint.testing import SimulatedExchange

CODE = "490b4fa3-53fc-44f4-bd29-7e16be86fba3"
OTHER_CODE = "0" + CODE[1:]
TICKET = 292  # the first ticket's number
PENDING = ["New", "Pending", "Pending2Fa"]

PING = '{"m":0,"i":8,"n":"Ping","o":"{}"}'
PONG = r'{"m":1,"i":8,"n":"Ping","o":"{\"msg\":\"PONG\"}"}'
LOGIN = r'{"m":0,"i":9,"n":"AuthenticateUser","o":"{\"UserName\":\"alice\",\"Password\":\"a password of alice\"}"}'
OPERATOR = LOGIN.replace(r"\"alice\"", r"\"operator\"").replace("of alice", "of the operator")
LOGGED_IN = (
    r'{"m":1,"i":9,"n":"AuthenticateUser","o":"{\"Authenticated\":true,\"SessionToken\":\"TOKEN\",'
    r"\"User\":{\"UserId\":1,\"UserName\":\"alice\",\"Email\":\"alice@example.com\",\"EmailVerified\":true,"
    r"\"AccountId\":7,\"OMSId\":1,\"Use2FA\":false},\"Locked\":false,\"Requires2FA\":false,\"EnforceEnable2FA\":false,"
    r'\"TwoFAType\":null,\"TwoFAToken\":null,\"errormsg\":null}"}'
)
LOG_OUT = '{"m":0,"i":2,"n":"LogOut","o":"{}"}'
LOGGED_OUT = '{"m":5,"i":2,"n":"LogOut","o":"Endpoint Not Found"}'
CANCEL = (
    r'{"m":0,"i":2,"n":"CancelWithdraw","o":"{\"OMSId\":1,\"UserId\":1,\"AccountId\":7,'
    r'\"RequestCode\":\"490b4fa3-53fc-44f4-bd29-7e16be86fba3\"}"}'
)
CANCEL_FAILED = r'{"m":0,"i":2,"n":"CancelFailedWithdrawTicket","o":"{\"omsId\":1,\"ticketId\":292}"}'
GET_WITHDRAWS = r'{"m":0,"i":2,"n":"GetWithdraws","o":"{\"OMSId\":1,\"AccountId\":7}"}'
GET_TICKETS = r'{"m":0,"i":2,"n":"GetWithdrawTickets","o":"{\"OMSId\":1,\"AccountId\":7}"}'
GET_TICKET = (
    r'{"m":0,"i":2,"n":"GetWithdrawTicket","o":"{\"OMSId\":1,\"AccountId\":7,'
    r'\"RequestCode\":\"490b4fa3-53fc-44f4-bd29-7e16be86fba3\"}"}'
)
GET_ALL_TICKETS = r'{"m":0,"i":2,"n":"GetAllWithdrawTickets","o":"{\"OMSId\":1,\"OperatorId\":1}"}'
READS = [GET_WITHDRAWS, GET_TICKETS, GET_TICKET]
SUBSCRIBE = r'{"m":0,"i":2,"n":"SubscribeAccountEvents","o":"{\"OMSId\":1,\"AccountId\":7}"}'
SUBSCRIBE_ALL = '{"m":0,"i":2,"n":"SubscribeAllAccountEvents","o":"{}"}'

# Payloads of replies, as they stand in a frame.
SUBSCRIBED = r"{\"Subscribed\":true}"
GOOD = r"{\"result\":true,\"errormsg\":null,\"errorcode\":0,\"detail\":null}"
DENIED = r"{\"result\":false,\"errormsg\":\"Not Authorized\",\"errorcode\":20,\"detail\":null}"
INVALID = r"{\"result\":false,\"errormsg\":\"Invalid Request\",\"errorcode\":100,\"detail\":"
WRONG_OMS = INVALID + r"\"Invalid OMSId\"}"
INCOMPLETE = INVALID + r"\"Not all required fields are provided\"}"
FAILED = r"{\"result\":false,\"errormsg\":\"Operation Failed\",\"errorcode\":101,\"detail\":\"Withdraw Ticket "
NOT_FOUND = FAILED + r"not found for OmsId, AccountId, RequestCode\"}"
NO_RESOURCE = r"{\"result\":false,\"errormsg\":\"Resource Not Found\",\"errorcode\":104,\"detail\":null}"
TWICE = r"{\"result\":false,\"errormsg\":\"Already Subscribed.\",\"errorcode\":909,\"detail\":null}"

TICKET_ROW = (
    r'{"AssetManagerId":1,"AccountProviderId":2,"AccountId":7,"AccountName":"a","AssetId":3,"AssetName":"BTC",'
    r'"Amount":0.0010000000000000000000000000,"NotionalValue":24.10,"NotionalProductId":4,'
    r'"TemplateForm":"{\"TemplateType\":\"Standard\"}","TemplateFormType":"Standard","OMSId":1,'
    r'"RequestCode":"490b4fa3-53fc-44f4-bd29-7e16be86fba3","RequestIP":"192.0.2.1","RequestUserId":5,'
    r'"RequestUserName":"u","OperatorId":6,"Status":"Pending","FeeAmt":0.00,"UpdatedByUser":8,"UpdatedByUserName":"w",'
    r'"TicketNumber":292,"WithdrawTransactionDetails":"{\"TxId\":null}","RejectReason":null,'
    r'"CreatedTimestamp":"2023-03-23T12:48:31.067Z","LastUpdateTimestamp":"0001-01-01T00:00:00",'
    r'"CreatedTimestampTick":638151725110670000,"LastUpdateTimestampTick":0,"Comments":[],"Attachments":[],'
    r'"AuditLog":[]}'
)
WITHDRAW_ROW = (
    r'{"Amount":0.0010000000000000000000000000,"FeeAmount":0.00,"NotionalValue":24.10,"WithdrawId":100292,'
    r'"AssetManagerId":1,"AccountId":7,"AssetId":3,"TemplateForm":"{\"TemplateType\":\"Standard\"}",'
    r'"TemplateFormType":"Standard","OMSId":1,"TicketStatus":"Pending","TicketNumber":292,'
    r'"WithdrawTransactionDetails":"{\"TxId\":null}","WithdrawType":"",'
    r'"WithdrawCode":"490b4fa3-53fc-44f4-bd29-7e16be86fba3","AssetType":0,"Reaccepted":false,"NotionalProductId":4}'
)


REFUSED = r"{\"authenticated\":false,\"locked\":false,\"errormsg\":\"Invalid username or password\"}"
LOCKED = r"{\"authenticated\":false,\"locked\":true,\"errormsg\":\"User is locked\"}"
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

# The second signature vector of the protocol notes: user 96, secret `secret`.
KEY = "28c68ac3fcfafc3d4e8d653fe57e5baf"
SIGNED = (
    r'{"m":0,"i":9,"n":"AuthenticateUser","o":"{\"APIKey\":\"28c68ac3fcfafc3d4e8d653fe57e5baf\",'
    r"\"Signature\":\"44c623957fdc342b2bf892182710c3816e0d73dccfabe25341588fe841cd6a5c\","
    r'\"UserId\":\"96\",\"Nonce\":\"2247733562\"}"}'
)
FIRST_SIGNATURE = "6da3735d764bb64c26da9c2d202333a9c7c6ae55198bdbc4a9f696b4a58e5975"


def reply(function: str, payload: str, number: int = 2) -> str:
    return f'{{"m":1,"i":{number},"n":"{function}","o":"{payload}"}}'


def swap(frame: str, right: str, wrong: str) -> str:
    assert right in frame
    return frame.replace(right, wrong)


def hide_tokens(frame: str) -> str:
    return re.sub(r'(Token\\":\\")[\w-]{20,}', r"\1TOKEN", frame)


def payload_of(frame: str) -> Any:
    return json.loads(json.loads(frame)["o"], parse_float=Decimal)


async def hear(socket: Socket) -> str:
    async with asyncio.timeout(5):
        message = await socket.recv()
    assert isinstance(message, str), "the exchange sends no binary messages"
    return message


async def ask(socket: Socket, frame: str | bytes) -> str:
    async with asyncio.timeout(5):
        await socket.send(frame)
    return await hear(socket)


@asynccontextmanager
async def dialled(exchange: SimulatedExchange, login: str | None = None) -> AsyncIterator[Socket]:
    async with asyncio.timeout(5):
        socket = await connect(exchange.url, proxy=None, compression=None)
    try:
        if login is not None:
            assert payload_of(await ask(socket, login))["Authenticated"] is True
        yield socket
    finally:
        async with asyncio.timeout(5):
            await socket.close()


def add(exchange: SimulatedExchange, status: str = "Pending", code: str = CODE, account_id: int = 7) -> WithdrawTicket:
    return exchange.add_withdraw(account_id=account_id, amount="1.10", status=status, request_code=UUID(code))


def add_many(exchange: SimulatedExchange, count: int, account_id: int = 7) -> list[int]:
    """Add tickets, each with a request code of its own, and give their numbers."""
    return [exchange.add_withdraw(account_id=account_id, amount="1.10").ticket_number for _ in range(count)]


def numbers_in(frame: str) -> list[int]:
    """Give the numbers of the tickets that a reply lists, in its order."""
    return [row["TicketNumber"] for row in payload_of(frame)]


def by_token(token: str, function: str = "WebAuthenticateUser") -> str:
    return rf'{{"m":0,"i":9,"n":"{function}","o":"{{\"SessionToken\":\"{token}\"}}"}}'


async def token_of(socket: Socket, login: str = LOGIN) -> str:
    token = payload_of(await ask(socket, login))["SessionToken"]
    assert isinstance(token, str)
    return token
