"""A listing that comes page by page, read to its end. Pure but for awaiting the pages.

The documents contradict themselves on which end of the list the index counts from, and a list grows while it is
read. Either way a ticket may come twice, so a ticket counts by its number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from ._arguments import positive
from .errors import UnexpectedReply
from .models import WithdrawTicket

__all__ = ["PAGE", "all_pages"]

PAGE = 200  # tickets: what the exchange gives where no limit is asked for, by its documents


async def all_pages(
    function: str, page: Callable[[int], Awaitable[list[WithdrawTicket]]], page_size: int
) -> AsyncIterator[WithdrawTicket]:
    """Give each ticket once.

    Args:
        function: What is called, for the error.
        page: Reads the page that starts at an index.
        page_size: How many tickets `page` asks for.

    Raises:
        UnexpectedReply: A whole page brought nothing new, so the exchange does not page, and there may be more.
    """
    # More than its documents name the exchange may not give at once; such a page is not the last for that.
    full = min(positive("page_size", page_size), PAGE)
    seen: set[int] = set()
    start = 0
    while True:
        tickets = await page(start)
        new = {ticket.ticket_number: ticket for ticket in tickets if ticket.ticket_number not in seen}
        for ticket in new.values():
            yield ticket
        seen.update(new)
        if len(tickets) < full:
            return
        if not new:
            raise UnexpectedReply(f"{function} gave the same tickets from index {start} again", function=function)
        start += len(tickets)
