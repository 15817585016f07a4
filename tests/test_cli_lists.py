"""Lists of tickets as people have them: spreadsheets, numbers, and the command's own output."""

import json
from decimal import Decimal

import pytest

from aioalphapoint import WithdrawTicket
from aioalphapoint.cli.exits import Misuse
from aioalphapoint.cli.report import amounts_in_words, ticket_row
from aioalphapoint.cli.ticket_lists import is_complete, read_tickets

CODE = "490b4fa3-53fc-44f4-bd29-7e16be86fba3"
WHOLE = WithdrawTicket(ticket_number=292, account_id=7, request_code=CODE)


@pytest.mark.parametrize(
    "text",
    [
        f"ticket_number,account_id,request_code\n292,7,{CODE}\n",
        f"TicketNumber,AccountId,RequestCode\r\n292,7,{CODE}\r\n",
        f"\ufeffTicket Number;Account Id;Request Code\n292;7;{CODE}\n",
        f"accountid\twithdrawcode\tticketid\n7\t{CODE}\t292",
        f'\n"ticket_number","note","account_id","request_code"\n\n"292","two\nlines, and a comma","7","{CODE}"\n,,,\n',
        f'{{"ticket_number": 292, "account_id": 7, "request_code": "{CODE}"}}\n\n',
        f'{{"TicketNumber": 292, "AccountId": 7, "WithdrawCode": "{CODE}", "Other": [1]}}',
    ],
    ids=["ours", "the exchange's", "semicolons", "tabs", "quoted", "JSON", "JSON of the exchange"],
)
def test_a_whole_ticket_is_read_from_every_kind_of_list(text: str) -> None:
    (ticket,) = read_tickets(text, "the list")
    assert (ticket.ticket_number, ticket.account_id, ticket.request_code) == (292, 7, CODE)
    assert is_complete(ticket)


def test_bare_numbers_are_tickets_that_have_to_be_looked_up() -> None:
    tickets = read_tickets("\n292\n 293 \n\n292\n", "the list")
    assert [ticket.ticket_number for ticket in tickets] == [292, 293]  # each once
    assert not any(is_complete(ticket) for ticket in tickets)
    assert not is_complete(read_tickets(f"ticket_number,request_code\n292,{CODE}", "the list")[0])
    assert read_tickets("ticket_number\n", "the list") == read_tickets("", "the list") == []


def test_a_number_in_two_order_management_systems_is_two_tickets() -> None:
    tickets = read_tickets("oms_id,ticket_number\n1,292\n2,292\n1,292\n", "the list")
    assert [(ticket.oms_id, ticket.ticket_number) for ticket in tickets] == [(1, 292), (2, 292)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            f"ticket_number,account_id,request_code\n292,7,{CODE}\n292,7,{CODE.upper()}\n292,8,{CODE}\n",
            "line 4 of the list gives ticket 292 another account_id or request_code",
        ),
        ("292,7\n", "the list must be CSV whose first line names a column ticket_number"),
        ("292\nx\n", "line 2 of the list must have a ticket number from 0, not 'x'"),
        ("292\n-1\n", "line 2 of the list must have a ticket number from 0, not '-1'"),
        ("ticket_number,account_id\n292,7\n,7\n", "line 3 of the list must have a ticket number from 0, not ''"),
        (
            '{"ticket_number": 292}\n{"account_id": 7}\n',
            "line 2 of the list must have a ticket number from 0, not 'none'",
        ),
        ("account_name,ticket_number\nDesk,293,292\n", "line 2 of the list has 3 cells, and its header 2"),
        ("ticket_number,account_id\n292\n", "line 2 of the list has 1 cells, and its header 2"),
        ("ticket_number,TicketId\n292,293\n", "the header of the list must name ticketnumber once, by whatever name"),
        ('{"ticketId": 292, "TicketNumber": 293}\n', "line 1 of the list must name ticketnumber once"),
        (f"ticket_number,note\n292,{'x' * 200_000}\n", "the list cannot be read as CSV: field larger than field limit"),
        ('{"ticket_number": 292}\n[293]\n', "line 2 of the list must be a JSON object"),
        ('{"ticket_number": 292}\n{"ticket_number": 29', "line 2 of the list must be a JSON object"),
        ('{"ticket_number": 292.0}\n', "line 1 of the list must have a ticket number from 0, not Decimal('292.0')"),
    ],
)
def test_a_line_that_is_no_ticket_is_named(text: str, sentence: str) -> None:
    with pytest.raises(Misuse) as caught:
        read_tickets(text, "the list")
    assert str(caught.value).startswith(sentence)


def test_what_the_command_prints_of_a_ticket_it_reads_back_digit_by_digit() -> None:
    ticket = WHOLE.model_copy(update={"amount": Decimal("0.0010000000000000000000000000"), "asset_name": "BTC"})
    (read,) = read_tickets(json.dumps(ticket_row(ticket)), "the list")
    assert read == ticket
    assert str(read.amount) == "0.0010000000000000000000000000"


def test_amounts_are_added_up_without_losing_a_digit() -> None:
    amounts = ["9999999999999999999999999999", "0.0000000000000000000000000001", "1E+3"]
    tickets = [WHOLE.model_copy(update={"amount": Decimal(amount), "asset_name": "BTC"}) for amount in amounts]
    tickets.append(WHOLE)  # of an amount that nobody knows
    tickets.append(WHOLE.model_copy(update={"amount": Decimal(2), "asset_name": "A\x1b[31m"}))
    assert amounts_in_words(tickets) == (r"2 A\x1b[31m, 10000000000000000000000000999.0000000000000000000000000001 BTC")
