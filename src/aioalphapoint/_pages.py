"""A listing that comes page by page, read to its end. Pure but for awaiting the pages.

The documents contradict themselves on which end of the list the index counts from, a list grows while it is read,
and what an exchange gives at most is not documented. So a ticket counts by its number, and a page that is shorter
than was asked for is the last one only if nothing comes after it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from ._arguments import positive
from .errors import UnexpectedReply
from .models import WithdrawTicket

__all__ = ["PAGE", "all_pages"]

PAGE = 200  # tickets: what the exchange gives where no limit is asked for, by its documents


async def all_pages(
    function: str, page: Callable[[int], Awaitable[list[WithdrawTicket]]], page_size: int
) -> AsyncGenerator[WithdrawTicket, None]:
    """Give each ticket once.

    Args:
        function: What is called, for the error.
        page: Reads the page that starts at an index.
        page_size: How many tickets `page` asks for.

    Raises:
        UnexpectedReply: The exchange gave a whole page again, so it does not page, and there may be more.
    """
    positive("page_size", page_size)
    seen: set[int] = set()
    before: list[int] = []
    start = 0
    while tickets := await page(start):
        numbers = [ticket.ticket_number for ticket in tickets]
        if numbers == before:
            if len(numbers) < page_size:
                return  # it begins its only page at whatever index
            raise UnexpectedReply(f"{function} gave the same tickets from index {start} again", function=function)
        for ticket in tickets:
            if ticket.ticket_number not in seen:
                seen.add(ticket.ticket_number)
                yield ticket
        before = numbers
        start += len(tickets)
