"""Reading withdrawals: what is sent, every digit of what comes, and lists that are whole."""

import json
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from websockets.asyncio.server import ServerConnection

from aioalphapoint import (
    Client,
    InvalidArguments,
    NotAuthorized,
    ResourceNotFound,
    UnexpectedReply,
    WithdrawStatus,
    WithdrawTicket,
)
from aioalphapoint.testing import SimulatedExchange
from scripted import scripted
from wire import CODE, TICKET_ROW, WITHDRAW_ROW


def answer(request: str | bytes, payload: str) -> str:
    frame = json.loads(request)
    return json.dumps({"m": 1, "i": frame["i"], "n": frame["n"], "o": payload})


class Told:
    """A server that records each frame and answers with the payloads given, the last one again and again."""

    def __init__(self, *payloads: str) -> None:
        self.payloads = list(payloads)
        self.arrived: list[str | bytes] = []

    async def __call__(self, socket: ServerConnection) -> None:
        async for request in socket:
            self.arrived.append(request)
            await socket.send(answer(request, self.payloads.pop(0) if len(self.payloads) > 1 else self.payloads[0]))


async def test_the_reads_are_on_the_wire_byte_by_byte() -> None:
    told = Told("[]", "[]", "[]", "[]", "[]", TICKET_ROW)
    async with scripted(told) as url, Client(url) as client:
        assert await client.get_withdraws(account_id=7) == []
        assert await client.get_withdraw_tickets(account_id=7) == []
        assert await client.get_withdraw_tickets(account_id=7, start_index=0, limit=50, oms_id=3) == []
        assert await client.get_all_withdraw_tickets() == []
        everything = {"operator_id": 2, "start_index": 4, "limit": 5, "include_comments": True}
        assert await client.get_all_withdraw_tickets(**everything) == []  # type: ignore[arg-type]  # as they are
        await client.get_withdraw_ticket(account_id=7, request_code=CODE)
    assert told.arrived == [
        r'{"m":0,"i":2,"n":"GetWithdraws","o":"{\"OMSId\":1,\"AccountId\":7}"}',
        r'{"m":0,"i":4,"n":"GetWithdrawTickets","o":"{\"OMSId\":1,\"AccountId\":7}"}',
        r'{"m":0,"i":6,"n":"GetWithdrawTickets","o":"{\"OMSId\":3,\"AccountId\":7,\"StartIndex\":0,\"Limit\":50}"}',
        r'{"m":0,"i":8,"n":"GetAllWithdrawTickets","o":"{\"OMSId\":1,\"OperatorId\":1}"}',
        r'{"m":0,"i":10,"n":"GetAllWithdrawTickets","o":"{\"OMSId\":1,\"OperatorId\":2,\"StartIndex\":4,\"Limit\":5,'
        r'\"IncludeComments\":true}"}',
        r'{"m":0,"i":12,"n":"GetWithdrawTicket","o":"{\"OMSId\":1,\"AccountId\":7,'
        r'\"RequestCode\":\"490b4fa3-53fc-44f4-bd29-7e16be86fba3\"}"}',
    ]


async def test_a_ticket_comes_through_digit_by_digit() -> None:
    """28 decimals, and ticks beyond what a float can tell apart."""
    row = TICKET_ROW.replace('"Amount":0.0010000000000000000000000000', '"Amount":1.2345678901234567890123456789')
    row = row.replace("638151725110670000", "638151725110670001")
    async with scripted(Told(row, f"[{row}]")) as url, Client(url) as client:
        ticket = await client.get_withdraw_ticket(account_id=7, request_code=CODE.upper())
        assert [ticket] == await client.get_withdraw_tickets(account_id=7)
    assert str(ticket.amount) == "1.2345678901234567890123456789"
    assert ticket.created_timestamp_tick == 638151725110670001
    assert float(638151725110670001) != 638151725110670001
    assert ticket == WithdrawTicket(
        ticket_number=292,
        account_id=7,
        request_code=CODE,
        status=WithdrawStatus.PENDING,
        account_name="a",
        asset_id=3,
        asset_name="BTC",
        amount=Decimal("1.2345678901234567890123456789"),
        fee_amt=Decimal("0.00"),
        notional_value=Decimal("24.10"),
        notional_product_id=4,
        oms_id=1,
        operator_id=6,
        asset_manager_id=1,
        account_provider_id=2,
        request_user_id=5,
        request_user_name="u",
        request_ip="192.0.2.1",
        updated_by_user=8,
        updated_by_user_name="w",
        template_form='{"TemplateType":"Standard"}',
        template_form_type="Standard",
        withdraw_transaction_details='{"TxId":null}',
        created_timestamp=datetime(2023, 3, 23, 12, 48, 31, 67000, tzinfo=UTC),
        last_update_timestamp=None,
        created_timestamp_tick=638151725110670001,
        last_update_timestamp_tick=0,
    )


async def test_a_withdraw_row_has_the_names_of_its_own_and_those_of_a_ticket() -> None:
    async with scripted(Told(f"[{WITHDRAW_ROW}]")) as url, Client(url) as client:
        (row,) = await client.get_withdraws(account_id=7)
    assert (row.withdraw_code, row.withdraw_id, row.ticket_number) == (CODE, 100292, 292)
    assert (row.request_code, row.status) == (row.withdraw_code, row.ticket_status) == (CODE, "Pending")
    assert (str(row.amount), str(row.fee_amount)) == ("0.0010000000000000000000000000", "0.00")
    assert row.reaccepted is False


async def test_a_list_with_odd_statuses_is_read_whole() -> None:
    rows = [
        TICKET_ROW.replace('"Pending"', status).replace("292", str(number))
        for number, status in enumerate(
            ['"Pending"', '"SomethingNew"', "6", '"UserCancelled"', '"7"', "null", "true", "77", "[]"], 300
        )
    ]
    async with scripted(Told(f"[{','.join(rows)}]")) as url, Client(url) as client:
        tickets = await client.get_withdraw_tickets(account_id=7)
    statuses = [ticket.status for ticket in tickets]
    assert statuses[:5] == ["Pending", "SomethingNew", "Failed", "UserCanceled", "Pending"]
    assert statuses[5:] == ["", "true", "77", "[]"]
    assert [status.is_open for status in statuses] == [True, False, False, False, True, False, False, False, False]
    assert [status.is_failed for status in statuses[:4]] == [False, False, True, False]
    assert [status.is_cancelled for status in statuses[:4]] == [False, False, False, True]
    assert not any(status.is_final or status.is_cancelled or status.is_failed for status in statuses[4:])


@pytest.mark.parametrize(
    ("there", "instead", "field", "value"),
    [
        ('"AssetId":3', '"AssetId":"none"', "asset_id", None),
        ('"FeeAmt":0.00', '"FeeAmt":null', "fee_amt", None),
        ('"FeeAmt":0.00', '"FeeAmt":"free"', "fee_amt", None),
        ('"FeeAmt":0.00', '"feeamt":"0.10"', "fee_amt", Decimal("0.10")),
        ('"AccountName":"a"', '"accountname":12', "account_name", "12"),
        ('"Amount":0.0010000000000000000000000000', '"Amount":1,"amount":1', "amount", Decimal(1)),
        ('"Amount":0.0010000000000000000000000000', '"Amount":1,"amount":9999', "amount", None),
        ('"RequestCode":"' + CODE + '",', "", "request_code", ""),
        ('"RequestCode":"' + CODE + '"', '"RequestCode":null', "request_code", ""),
        ('"Comments":[]', '"Comments":[{"commentId":1}]', "comments", ({"commentId": 1},)),
        ('"Comments":[]', r'"Comments":"[{\"commentId\":1}]"', "comments", ('[{"commentId":1}]',)),
        ('"Comments":[]', '"Comments":"[]"', "comments", ()),
        ('"Comments":[]', '"Comments":null', "comments", ()),
        ("2023-03-23T12:48:31.067Z", "not a moment", "created_timestamp", None),
        ('"2023-03-23T12:48:31.067Z"', "0", "created_timestamp", None),
        ('"2023-03-23T12:48:31.067Z"', "638151725110670000", "created_timestamp_tick", 638151725110670000),
        (
            '"2023-03-23T12:48:31.067Z"',
            "638151725110670000",
            "created_timestamp",
            datetime(2023, 3, 23, 12, 48, 31, 67000, tzinfo=UTC),
        ),
        ('"2023-03-23T12:48:31.067Z"', "9" * 30, "created_timestamp", None),
        ('"OMSId":1', '"OMSId":1,"Unheard":{"of":[1]}', "oms_id", 1),
    ],
)
async def test_what_a_ticket_lacks_or_says_oddly_is_not_in_the_way(
    there: str, instead: str, field: str, value: object
) -> None:
    assert there in TICKET_ROW
    async with scripted(Told(f"[{TICKET_ROW.replace(there, instead)}]")) as url, Client(url) as client:
        (ticket,) = await client.get_withdraw_tickets(account_id=7)
    assert getattr(ticket, field) == value
    assert (ticket.ticket_number, ticket.account_id, ticket.status) == (292, 7, "Pending")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("{}", "in a shape that nobody knows"),
        ("", "in a shape that nobody knows"),
        ('{"result":true,"errorcode":0}', "in a shape that nobody knows"),
        ("[1]", "with a row that cannot be read$"),
        (f"[{TICKET_ROW},null]", "with a row that cannot be read$"),
        ("[" + TICKET_ROW.replace('"TicketNumber":292,', "") + "]", r"cannot be read \(ticketnumber\)"),
        ("[" + TICKET_ROW.replace('"TicketNumber":292', '"TicketNumber":2.92e2') + "]", r"\(ticketnumber\)"),
        ("[" + TICKET_ROW.replace('"AuditLog":[]', '"status":"Failed"') + "]", "cannot be read"),
    ],
)
async def test_a_list_with_a_hole_is_no_list(payload: str, words: str) -> None:
    async with scripted(Told(payload, "[]")) as url, Client(url) as client:
        with pytest.raises(UnexpectedReply, match=words) as caught:
            await client.get_withdraw_tickets(account_id=7)
        assert caught.value.payload == payload
        assert await client.get_withdraw_tickets(account_id=7) == []


@pytest.mark.parametrize("account", ["", '"AccountId":null,', '"AccountId":-7,', '"AccountId":"seven",'])
async def test_a_ticket_without_an_account_is_listed_with_none(account: str) -> None:
    row = TICKET_ROW.replace('"AccountId":7,', account)
    async with scripted(Told(f"[{row}]")) as url, Client(url) as client:
        (ticket,) = await client.get_withdraw_tickets(account_id=7)
    assert (ticket.ticket_number, ticket.account_id) == (292, 0)


@pytest.mark.parametrize(
    "payload",
    [
        *("[]", "null", "{}", f"[{TICKET_ROW}]"),
        TICKET_ROW.replace(CODE, str(uuid4())),
        TICKET_ROW.replace('"AccountId":7', '"AccountId":8'),
        TICKET_ROW.replace('"AccountId":7,', ""),
    ],
)
async def test_what_is_not_the_ticket_asked_for_is_no_answer(payload: str) -> None:
    async with scripted(Told(payload, TICKET_ROW)) as url, Client(url) as client:
        with pytest.raises(UnexpectedReply):
            await client.get_withdraw_ticket(account_id=7, request_code=CODE)
        assert (await client.get_withdraw_ticket(account_id=7, request_code=CODE)).ticket_number == 292


async def test_bad_arguments_are_named_and_nothing_is_sent(client: Client) -> None:
    sent = client.stats.sent
    for match, call in [
        ("start_index must be None or an int from 0 to", client.get_withdraw_tickets(account_id=7, start_index=-1)),
        ("limit must be None or an int from 1 to", client.get_withdraw_tickets(account_id=7, limit=0)),
        ("account_id must be an int from 0 to", client.get_withdraws(account_id="7")),  # type: ignore[arg-type]  # wrong
        ("request_code must be a uuid.UUID", client.get_withdraw_ticket(account_id=7, request_code="7")),
        (
            "include_comments must be None, True or False, not 1",
            client.get_all_withdraw_tickets(include_comments=1),  # type: ignore[arg-type]  # wrong on purpose
        ),
        ("page_size must be a positive int, not 0", anext(client.iter_withdraw_tickets(account_id=7, page_size=0))),
    ]:
        with pytest.raises(InvalidArguments, match=match):
            await call
    assert client.stats.sent == sent


async def test_refusals_reach_the_reader(exchange: SimulatedExchange, client: Client) -> None:
    with pytest.raises(ResourceNotFound):
        await client.get_withdraw_ticket(account_id=7, request_code=CODE)
    with pytest.raises(NotAuthorized):
        await client.get_withdraws(account_id=8)
    with pytest.raises(NotAuthorized):
        [ticket async for ticket in client.iter_all_withdraw_tickets()]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(("count", "pages"), [(0, 1), (5, 2), (9, 2), (10, 2), (11, 3), (35, 5)])
async def test_every_ticket_is_given_once_whatever_the_order(newest_first: bool, count: int, pages: int) -> None:
    async with SimulatedExchange(newest_first=newest_first) as exchange:
        exchange.add_user("operator", "secret", permissions=["Operator"])
        for _ in range(count):
            exchange.add_withdraw(account_id=7, amount="1")
            exchange.add_withdraw(account_id=8, amount="1")
        async with Client(exchange.url) as client:
            await client.call("AuthenticateUser", {"UserName": "operator", "Password": "secret"})
            own = [ticket.ticket_number async for ticket in client.iter_withdraw_tickets(account_id=7, page_size=10)]
            assert sorted(own) == list(range(292, 292 + 2 * count, 2))
            every = [ticket.ticket_number async for ticket in client.iter_all_withdraw_tickets(page_size=10)]
            assert sorted(every) == list(range(292, 292 + 2 * count))
        assert sum(arrival.function == "GetWithdrawTickets" for arrival in exchange.journal) == pages


@pytest.mark.parametrize("newest_first", [False, True])
async def test_tickets_that_come_while_the_pages_are_read_hide_none_and_repeat_none(newest_first: bool) -> None:
    async with SimulatedExchange(newest_first=newest_first) as exchange:
        exchange.add_user("alice", "secret", account_id=7)
        there = {exchange.add_withdraw(account_id=7, amount="1").ticket_number for _ in range(100)}
        async with Client(exchange.url) as client:
            await client.call("AuthenticateUser", {"UserName": "alice", "Password": "secret"})
            given = []
            async for ticket in client.iter_withdraw_tickets(account_id=7, page_size=10):
                given.append(ticket.ticket_number)
                if len(given) < 100 and len(given) % 5 == 0:
                    exchange.add_withdraw(account_id=7, amount="1")
        assert there <= set(given)
        assert len(given) == len(set(given))


def page(*numbers: int) -> str:
    rows = [TICKET_ROW.replace('"TicketNumber":292', f'"TicketNumber":{number}') for number in numbers]
    return f"[{','.join(rows)}]"


async def numbers_of(told: Told, page_size: int) -> list[int]:
    async with scripted(told) as url, Client(url) as client:
        return [
            ticket.ticket_number async for ticket in client.iter_withdraw_tickets(account_id=7, page_size=page_size)
        ]


async def test_a_page_cut_short_by_the_exchange_is_not_taken_for_the_last() -> None:
    told = Told(page(*range(100)), page(*range(100, 200)), page(*range(200, 210)), page())
    assert await numbers_of(told, 200) == list(range(210))
    assert [json.loads(json.loads(frame)["o"])["StartIndex"] for frame in told.arrived] == [0, 100, 200, 210]


async def test_a_whole_page_of_tickets_known_already_hides_none_after_it() -> None:
    """As many new ones came in front, meanwhile, as a page holds."""
    assert await numbers_of(Told(page(5, 4), page(6, 5), page(5, 4), page(3, 2), page()), 2) == [5, 4, 6, 3, 2]


async def test_an_exchange_that_gives_one_short_page_at_any_index_is_read_once() -> None:
    assert await numbers_of(Told(page(1, 2, 3)), 10) == [1, 2, 3]


async def test_an_exchange_that_gives_one_full_page_for_ever_is_an_error() -> None:
    with pytest.raises(UnexpectedReply, match="GetWithdrawTickets gave the same tickets from index 10 again"):
        await numbers_of(Told(page(*range(10))), 10)


async def test_a_listing_can_be_left_early_and_closed(exchange: SimulatedExchange, client: Client) -> None:
    for _ in range(3):
        exchange.add_withdraw(account_id=7, amount="1")
    async with aclosing(client.iter_withdraw_tickets(account_id=7)) as listing:
        assert (await anext(listing)).ticket_number == 292
    assert client.stats.in_flight == 0


async def test_every_argument_of_the_listings_reaches_the_wire() -> None:
    told = Told("[]")
    async with scripted(told) as url, Client(url) as client:
        [ticket async for ticket in client.iter_withdraw_tickets(account_id=7, page_size=3, oms_id=5)]
        listing = client.iter_all_withdraw_tickets(operator_id=4, page_size=3, include_comments=False, oms_id=5)
        [ticket async for ticket in listing]
    assert [json.loads(json.loads(frame)["o"]) for frame in told.arrived] == [
        {"OMSId": 5, "AccountId": 7, "StartIndex": 0, "Limit": 3},
        {"OMSId": 5, "OperatorId": 4, "StartIndex": 0, "Limit": 3, "IncludeComments": False},
    ]


async def test_a_listing_of_several_megabytes_comes_through() -> None:
    row = WITHDRAW_ROW.replace("Standard", "S" * 1000)
    async with scripted(Told(f"[{','.join([row] * 2000)}]"), max_size=2**24) as url, Client(url) as client:
        assert len(await client.get_withdraws(account_id=7)) == 2000
    assert client.stats.reconnects == 0
