"""The progress of many cancels: two bars, because all are sent before any is read back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from aioalphapoint import WithdrawTicket
from aioalphapoint.bulk import Outcome

__all__ = ["COLUMNS", "Bars"]


class _Rate(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


COLUMNS = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())


class Bars:
    """Moves the bars of one run.

    Args:
        progress: Draws them.
        on_outcome: Is told of each outcome too.
    """

    def __init__(self, progress: Progress, on_outcome: Callable[[Outcome], object]) -> None:
        self._progress = progress
        self._on_outcome = on_outcome
        self._sent = progress.add_task("sent", total=None)
        self._settled = progress.add_task("settled", total=None)

    async def counted(
        self, tickets: AsyncIterable[WithdrawTicket] | Iterable[WithdrawTicket]
    ) -> AsyncGenerator[WithdrawTicket, None]:
        """Give tickets on, and count them: a run takes one when it is about to send it."""
        count = 0
        if isinstance(tickets, AsyncIterable):
            async for ticket in tickets:
                yield ticket
                count += 1
                self._progress.update(self._sent, completed=count)
            self._expect(count)
            return
        listed = list(tickets)
        self._expect(len(listed))
        for ticket in listed:
            yield ticket
            self._progress.advance(self._sent)

    def tell(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self._progress.advance(self._settled)
        self._on_outcome(outcome)

    def _expect(self, total: int) -> None:
        self._progress.update(self._sent, total=total)
        self._progress.update(self._settled, total=total)
