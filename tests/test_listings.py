"""Long listings: read row by row, to the same values as plainly, and nobody has to wait for their end."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from websockets.asyncio.server import ServerConnection

from aioalphapoint import CallRejected, Client, UnexpectedReply, Withdraw, WithdrawTicket
from aioalphapoint._envelope import Envelope, Json, MessageType, read_items, read_json, write_json
from aioalphapoint._replies import read_tickets
from aioalphapoint._turns import unhurried
from aioalphapoint.models import _LONGEST_NAME, _MOST_NAMES, _names
from aioalphapoint.stats import Stats
from loops import LOOPS, Factory
from plain_rows import FIELDS, Unreadable, plain_row
from scripted import reply, scripted
from wire import TICKET_ROW

ODD = [
    *("", "7", "007", "23", "1_0", "-7", "9223372036854775808", "\u0661", "NaN", "1.10", "-0.5", "1e5", "true", "[]"),
    *("Pending", "USERCANCELLED", "adminCanceled", "Pending2fa", "Frozen", "\ud800", "yes", "0001-01-01T00:00:00Z"),
    *("2023-03-23T12:48:31.067Z", "2023-03-23 12:48:31", "20230323", "9999-12-31T23:59:59-01:00", "1679575711"),
]
Row: TypeAlias = WithdrawTicket | Withdraw
MODELS = st.sampled_from([WithdrawTicket, Withdraw])
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 7, 11, 22, 23, 99, -1, 2**63 - 1, 2**63, 10**30, 638151725110670000])
    | st.sampled_from([Decimal("0.0010000000000000000000000000"), Decimal("7.0"), Decimal("-1E+5"), Decimal("1E+999")])
    | st.sampled_from(ODD)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


def spelled(field: str, style: int) -> str:
    pascal = "".join(part.capitalize() for part in field.split("_"))
    return [pascal, pascal[0].lower() + pascal[1:], field, field.upper()][style]


@st.composite
def rows(draw: st.DrawFn, model: type[Row]) -> dict[str, Json]:
    row: dict[str, Json] = {"TicketNumber": draw(st.just(292) | VALUES)}
    for field in draw(st.lists(st.sampled_from([*FIELDS[model], "unheard_of"]), max_size=12)):
        row[spelled(field, draw(st.integers(0, 3)))] = draw(VALUES)
    return row


def fields_of(row: Row) -> dict[str, object]:
    return {field: getattr(row, field) for field in type(row).model_fields}


@given(data=st.data(), model=MODELS)
def test_whatever_stands_in_a_row_is_read_as_plainly(data: st.DataObject, model: type[Row]) -> None:
    row = data.draw(rows(model))
    try:
        expected = plain_row(model, row)
    except Unreadable:
        with pytest.raises(ValidationError):
            model.model_validate(row)
        return
    read = fields_of(model.model_validate(row))
    assert read == expected
    assert repr(read) == repr(expected)  # True is no 1, and 0.10 no 0.1


@pytest.mark.parametrize("model", FIELDS)
def test_each_value_in_each_place_is_read_as_plainly(model: type[Row]) -> None:
    values = [*ODD, None, True, 0, 1, 7, -1, 2**63, Decimal("7.0"), Decimal("1E+999"), [], [1], {}, {"a": [None]}]
    for field in FIELDS[model]:
        for value in values:
            row: dict[str, object] = {"TicketNumber": 292, spelled(field, 0): value}
            try:
                expected = repr(plain_row(model, row))
            except Unreadable:
                with pytest.raises(ValidationError):
                    model.model_validate(row)
                continue
            assert repr(fields_of(model.model_validate(row))) == expected


def test_a_ticket_is_written_by_pydantic_as_its_types_are() -> None:
    ticket = WithdrawTicket.model_validate(read_json(TICKET_ROW))
    written = json.loads(ticket.model_dump_json())
    assert (written["amount"], written["status"], written["comments"]) == (
        "0.0010000000000000000000000000",
        "Pending",
        [],
    )
    assert WithdrawTicket.model_validate(written) == ticket
    properties = WithdrawTicket.model_json_schema()["properties"]
    assert properties["assetname"]["anyOf"] == [{"type": "string"}, {"type": "null"}]


def as_text(value: Json) -> str:
    try:
        return write_json(value)
    except ValueError:  # 1E+999
        return repr(value)


@given(text=st.text('[]{},:"1 \t\n\ra\\.e-\u00a0', max_size=12) | VALUES.map(as_text))
@example("[1,]")
@example("[,1]")
@example("[1 2]")
@example("[]]")
@example("[] x")
@example(" [ 1 , [ ] ] \r\n")
@example("\ufeff[1]")
@example("\u00a0[1]")
@example("[\u00a01]")
@example("[1\u00a0]")
@example("[1\u00a0,1]")
@example("[1,\u00a01]")
@example("[1]\u00a0")
@example('[{"a":1,"a":1}]')
@example("[NaN]")
@example("[" * 100_000)
def test_what_is_read_item_by_item_is_what_is_read_as_a_whole(text: str) -> None:
    try:
        whole = read_json(text)
        if not isinstance(whole, list):
            raise ValueError("no array")  # noqa: TRY301, TRY004  (as `read_items` has it)
    except ValueError:
        with pytest.raises(ValueError):
            list(read_items(text))
        return
    assert list(read_items(text)) == whole


def listing(*numbers: int) -> str:
    return f"[{','.join(TICKET_ROW.replace(':292', f':{number}') for number in numbers)}]"


@pytest.mark.parametrize("place", [0, 500, 999])
@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ('"AssetId":3', '"AssetId":3,"AssetId":3', "in a shape that nobody knows"),
        ('"AssetId":3', '"AssetId":NaN', "in a shape that nobody knows"),
        ('"AssetId":3', '"AssetId":', "in a shape that nobody knows"),
        ('"AuditLog":[]}', '"AuditLog":[]}}', "in a shape that nobody knows"),
        ('"AuditLog":[]}', '"AuditLog":[]} {}', "in a shape that nobody knows"),
        ('"TicketNumber"', '"TicketNo"', r"with a row that cannot be read \(ticketnumber\)$"),
        ('"AuditLog":[]', '"accountID":8', "with a row that cannot be read$"),
    ],
)
def test_one_bad_row_wherever_it_stands_spoils_the_listing(place: int, right: str, wrong: str, words: str) -> None:
    rows = [TICKET_ROW] * 1000
    rows[place] = rows[place].replace(right, wrong)
    assert rows[place] != TICKET_ROW
    answer = Envelope(MessageType.REPLY, 2, "GetWithdrawTickets", f"[{','.join(rows)}]")
    with pytest.raises(UnexpectedReply, match=f"^GetWithdrawTickets was answered {words}") as caught:
        list(read_tickets("GetWithdrawTickets", answer))
    assert caught.value.payload == answer.payload


def test_blanks_around_a_listing_and_its_rows_are_of_no_account() -> None:
    answer = Envelope(MessageType.REPLY, 2, "F", f"\r\n\t [ {TICKET_ROW} ,\n{TICKET_ROW} ] \n")
    assert [ticket.ticket_number for ticket in read_tickets("F", answer)] == [292, 292]


@pytest.mark.parametrize("payload", ["[]", f"[{TICKET_ROW}]", "[1", "Endpoint Not Found"])
def test_a_gateways_refusal_is_one_even_where_it_looks_like_a_listing(payload: str) -> None:
    with pytest.raises(CallRejected):
        read_tickets("F", Envelope(MessageType.ERROR, 2, "F", payload))


def test_keys_that_were_never_seen_before_are_not_remembered_without_end() -> None:
    long = "x" * (_LONGEST_NAME + 1)
    for number in range(2 * _MOST_NAMES):
        row = {"TicketNumber": 292, f"Key_{number}": 1, f"{long}{number}": 1, f"Asset{'_' * (number % 90)}Id": 3}
        assert WithdrawTicket.model_validate(row).asset_id == 3
    assert len(_names) <= _MOST_NAMES
    assert max(map(len, _names)) <= _LONGEST_NAME


class Clocked(asyncio.SelectorEventLoop):
    """A loop whose clock stands still but for what is set."""

    now = 0.0  # seconds

    def time(self) -> float:
        return self.now


async def turns_beside(values: list[float]) -> list[int]:
    """Take a value after each pause of so many seconds; tell how many were taken at each turn of the loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clocked)
    taken, seen = 0, []

    def slow() -> Iterator[float]:
        for pause in values:
            loop.now += pause
            yield pause

    async def look() -> None:
        while True:
            await asyncio.sleep(0)
            seen.append(taken)

    looking = asyncio.create_task(look())
    async for _ in unhurried(slow()):
        taken += 1
    looking.cancel()
    return seen


def test_the_loop_has_a_turn_whenever_it_was_held_for_five_milliseconds() -> None:
    with asyncio.Runner(loop_factory=Clocked) as runner:
        assert runner.run(turns_beside([0.001] * 4)) == []
        # The neighbour's first turn is the one in which it begins.
        assert runner.run(turns_beside([0.0011] * 20)) == [10, 15, 20]
        assert runner.run(turns_beside([0.0, 0.2, 0.0, 0.0, 0.2, 0.0])) == [5]


COUNT = 300


async def list_many(socket: ServerConnection) -> None:
    async for request in socket:
        await socket.send(reply(request, listing(*range(COUNT))))


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the loop a turn after each row, so that a test need not be slow to be in the middle."""
    monkeypatch.setattr("aioalphapoint._turns._HELD", 0.0)


async def in_the_middle(client: Client) -> "asyncio.Task[list[WithdrawTicket]]":
    """Ask for tickets, and come back when some of them are read, and some are not."""
    before = client.stats.replies
    asking = asyncio.create_task(client.get_withdraw_tickets(account_id=7))
    while client.stats.replies == before:
        await asyncio.sleep(0)
    for _ in range(COUNT // 3):
        await asyncio.sleep(0)
    assert not asking.done()
    return asking


@LOOPS
@pytest.mark.usefixtures("hurried")
def test_others_have_their_turns_while_a_listing_is_read(factory: Factory) -> None:
    async def both() -> None:
        async with scripted(list_many) as url, Client(url) as client:
            asking = await in_the_middle(client)
            for _ in range(COUNT // 3):
                await asyncio.sleep(0)
            assert not asking.done()
            assert [ticket.ticket_number for ticket in await asking] == list(range(COUNT))

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(both())


@pytest.mark.usefixtures("hurried")
async def test_cancelled_in_the_middle_of_a_listing_a_call_leaves_nothing_and_the_next_is_right() -> None:
    async with scripted(list_many) as url, Client(url) as client:
        asking = await in_the_middle(client)
        tasks = asyncio.all_tasks() - {asking}
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert asyncio.all_tasks() == tasks
        assert (client.stats.in_flight, len(await client.get_withdraw_tickets(account_id=7))) == (0, COUNT)


@pytest.mark.usefixtures("hurried")
async def test_a_listing_that_has_come_is_read_to_its_end_after_the_client_is_closed() -> None:
    async with scripted(list_many) as url, Client(url) as client:
        asking = await in_the_middle(client)
        await client.close()
        assert len(await asking) == COUNT


@pytest.mark.usefixtures("hurried")
async def test_reading_a_listing_counts_against_no_timeout() -> None:
    async with scripted(list_many) as url, Client(url, timeout=0.25) as client:
        asking = await in_the_middle(client)
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(time.sleep, 0.3)
        assert len(await asking) == COUNT


class Book:
    """A telemetry that notes how each call ended."""

    def __init__(self) -> None:
        self.ends: list[BaseException | None] = []

    def client(self, host: str, stats: Stats) -> "Book":  # noqa: ARG002  (what the protocol hands it)
        return self

    def call(self, function: str) -> Callable[[BaseException | None], None]:  # noqa: ARG002  (likewise)
        return self.ends.append

    def connect(self) -> Callable[[BaseException | None], None]:
        return lambda _: None


async def test_a_row_that_cannot_be_read_is_how_the_call_ended_for_telemetry_too() -> None:
    async def half(socket: ServerConnection) -> None:
        async for request in socket:
            await socket.send(reply(request, f"[{TICKET_ROW},null]"))

    book = Book()
    async with scripted(half) as url, Client(url, telemetry=book) as client:
        with pytest.raises(UnexpectedReply) as caught:
            await client.get_withdraw_tickets(account_id=7)
    assert book.ends == [caught.value]
