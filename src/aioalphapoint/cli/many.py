"""`cancel-pending` and `cancel-failed`: many cancels, shown as they happen, and the truth about each at the end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiolimiter import AsyncLimiter

from aioalphapoint import AlphaPointError, CallNotSent, Client, NotConnected, WithdrawTicket
from aioalphapoint.bulk import Journal, Outcome, OutcomeState, cancel_failed_tickets, cancel_withdraws

from .exits import Exit, Misuse, check_seconds, exit_of_all
from .listing import listed
from .progress import COLUMNS, Bars
from .report import (
    amounts_in_words,
    outcome_row,
    outcome_table,
    summary_in_words,
    ticket_row,
    ticket_table,
    trouble_table,
)
from .screen import Screen
from .session import Session
from .terminal import has_terminal
from .ticket_lists import is_complete

__all__ = ["Manner", "cancel_failed", "cancel_pending"]

_MOST_SHOWN = 100  # rows of a table: beyond it a person reads a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How many tickets are cancelled.

    Attributes:
        yes: Ask nobody.
        dry_run: Show what would be cancelled, and send no cancel.
        confirm: Read the tickets afterwards.
        confirm_timeout: Seconds for which each is followed.
        concurrency: Cancels under way at once.
        rate: The most calls a second; None: no bound.
        journal: Where to write down what is done.
    """

    yes: bool
    dry_run: bool
    confirm: bool
    confirm_timeout: float
    concurrency: int
    rate: float | None
    journal: Path | None

    def check(self, timeout: float) -> None:
        """Make sure that it makes sense, and that whoever has to be asked can be.

        Args:
            timeout: Seconds that a call may take.

        Raises:
            Misuse: It does not, or nobody can.
        """
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise Misuse(f"--rate must be a positive number of calls a second, not {self.rate!r}")
        if self.at_once(timeout) < 1:
            raise Misuse(f"--timeout must be at least {2 / (self.rate or 1):g} s for a --rate of {self.rate:g}")
        check_seconds("--confirm-timeout", self.confirm_timeout)
        if not (self.yes or self.dry_run or has_terminal()):
            raise Misuse("there is no terminal to ask at whether to cancel: --yes says so beforehand")

    def at_once(self, timeout: float) -> int:
        """Give how many cancels may be under way: each waits for the limiter inside its own timeout, in seconds."""
        return self.concurrency if self.rate is None else min(self.concurrency, int(self.rate * timeout / 2))

    @property
    def limiter(self) -> AbstractAsyncContextManager[object] | None:
        """What bounds the rate: evenly spaced calls, because nobody documents what an exchange counts by."""
        return None if self.rate is None else AsyncLimiter(1, 1 / self.rate)


async def cancel_pending(session: Session, account_id: int, manner: Manner) -> Exit:
    """Cancel every withdrawal of an account that has not ended, until a listing shows none that was not tried."""
    manner.check(session.timeout)
    screen = session.screen
    async with session.connected(limiter=manner.limiter) as client:
        run = _Run(client, screen, manner, "CancelWithdraw", session.timeout)

        async def pending() -> AsyncGenerator[WithdrawTicket, None]:
            # Whatever its status is called: the exchange decides what it can stop, and new names come.
            async for ticket in listed(client, account_id, screen):
                if not ticket.status.is_final and not run.has_sent(ticket):
                    yield ticket

        if manner.dry_run:
            return _show_only(screen, [ticket async for ticket in pending()])
        with run.told_when_interrupted():
            while await run.another_round(pending(), f"of account {account_id}"):
                pass
            return run.report("No withdrawal is open.")


async def cancel_failed(
    session: Session, account_id: int | None, given: list[WithdrawTicket] | None, manner: Manner
) -> Exit:
    """Cancel failed tickets: those given, or all that the exchange lists as failed.

    Args:
        session: How to reach the exchange.
        account_id: Only tickets that the listing of this account shows; None: of all accounts.
        given: The tickets; None: those that the listing shows as failed.
        manner: How.
    """
    manner.check(session.timeout)
    if given is not None and account_id is not None:
        raise Misuse("--account chooses from the exchange's listing; it does not go with --from")
    screen = session.screen
    if given is not None and manner.dry_run and all(is_complete(ticket) for ticket in given):
        return _show_only(screen, given)
    async with session.connected(limiter=manner.limiter) as client:
        run = _Run(client, screen, manner, "CancelFailedWithdrawTicket", session.timeout)
        with run.told_when_interrupted():
            if given is None:
                tickets = [ticket async for ticket in listed(client, account_id, screen) if ticket.status.is_failed]
            else:
                tickets = await run.completed(given)
            if manner.dry_run:
                return max(_show_only(screen, tickets), exit_of_all(run.tried.values()))
            await run.cancel_if_agreed(tickets, "that failed")
            return run.report("No failed ticket was found.")


def _show_only(screen: Screen, tickets: list[WithdrawTicket]) -> Exit:
    for ticket in tickets:
        screen.record({**ticket_row(ticket), "outcome": "dry run"})
    _show_tickets(screen, tickets)
    screen.say(f"{len(tickets):,} would be cancelled. No cancel was sent.")
    return Exit.DONE


def _show_tickets(screen: Screen, tickets: list[WithdrawTicket]) -> None:
    if tickets:
        screen.show(ticket_table(tickets[:_MOST_SHOWN]))
        if len(tickets) > _MOST_SHOWN:
            screen.say(f"... and {len(tickets) - _MOST_SHOWN:,} more")


@dataclass(eq=False, slots=True)
class _Run:
    """Cancels tickets, once or several times in a row, and keeps what became of them."""

    client: Client
    screen: Screen
    manner: Manner
    function: str
    timeout: float
    tried: dict[int, Outcome] = field(default_factory=dict)
    told: list[Outcome] = field(default_factory=list)  # in this round
    listed: list[WithdrawTicket] = field(default_factory=list)
    error: AlphaPointError | Misuse | None = None
    is_declined: bool = False

    @contextmanager
    def told_when_interrupted(self) -> Iterator[None]:
        """Show what is known, too, when the command is stopped in the middle."""
        try:
            yield
        except asyncio.CancelledError:
            for ticket in self.listed:  # those that the run had not come to
                if ticket.ticket_number not in self.tried:
                    self._settled(Outcome(ticket, OutcomeState.NOT_SENT))
            if self.tried:
                self.report("")
            known = summary_in_words(self.tried.values()) or "nothing was sent"
            journal = self.manner.journal
            how = "" if journal is None else f" The same command goes on from {journal}."
            self.screen.note(f"Stopped: {known}.{how}")
            raise

    async def another_round(self, tickets: AsyncIterable[WithdrawTicket], which: str) -> bool:
        """Cancel what is listed and was not sent yet.

        Returns:
            Whether one more round may find more to do: something was sent, or only the link was in the way.
        """
        self.told = []
        try:
            if self.manner.yes:
                await self.cancel(tickets)  # the first one does not wait for the last page: money is leaving
            else:
                await self.cancel_if_agreed([ticket async for ticket in tickets], which)
        except (AlphaPointError, Misuse) as error:  # of the listing, or of a terminal that is gone
            if not self.tried:
                raise
            self.error = error
        if self.error is not None or self.is_declined:
            return False
        # Of this round alone: what could not be sent in an earlier one may have ended since.
        return any(
            outcome.state is not OutcomeState.NOT_SENT or isinstance(outcome.error, NotConnected)
            for outcome in self.told
        )

    async def cancel_if_agreed(self, tickets: list[WithdrawTicket], which: str) -> None:
        """Cancel them if whoever sits at the terminal says so, or has said so beforehand."""
        if tickets and not self.manner.yes:
            _show_tickets(self.screen, tickets)
            amounts = amounts_in_words(tickets)
            number = f"these {len(tickets):,} tickets" if len(tickets) > 1 else "this ticket"
            answer = await self.screen.ask(f"Cancel {number} {which}{f' ({amounts})' if amounts else ''}? [y/N] ")
            self.is_declined = answer.lower() not in ("y", "yes")
        if tickets and not self.is_declined:
            self.listed = tickets
            await self.cancel(tickets)

    async def cancel(self, tickets: AsyncIterable[WithdrawTicket] | Iterable[WithdrawTicket]) -> None:
        """Cancel them. What fails beside the tickets, the listing or the journal, is kept: the rest is told first."""
        manner = self.manner
        cancel_all = cancel_withdraws if self.function == "CancelWithdraw" else cancel_failed_tickets
        try:
            with self.screen.progress(*COLUMNS) as progress:
                bars = Bars(progress, self._settled)
                await cancel_all(
                    self.client,
                    bars.counted(tickets),
                    concurrency=manner.at_once(self.timeout),
                    confirm=manner.confirm,
                    confirm_timeout=manner.confirm_timeout,
                    journal=None if manner.journal is None else Journal(manner.journal),
                    on_outcome=bars.tell,
                )
        except AlphaPointError as error:
            self.error = error

    def has_sent(self, ticket: WithdrawTicket) -> bool:
        """Tell whether something of a ticket's cancel may have left this machine: it is not sent a second time."""
        outcome = self.tried.get(ticket.ticket_number)
        return outcome is not None and outcome.state is not OutcomeState.NOT_SENT

    async def completed(self, given: list[WithdrawTicket]) -> list[WithdrawTicket]:
        """Look up what is needed to read given tickets back; those that are in no listing are not sent."""
        missing = {ticket.ticket_number for ticket in given if not is_complete(ticket)}
        found: dict[int, WithdrawTicket] = {}
        if missing:
            async with aclosing(listed(self.client, None, self.screen)) as tickets:
                async for ticket in tickets:
                    if ticket.ticket_number in missing:
                        found[ticket.ticket_number] = ticket
                    if len(found) == len(missing):
                        break
        for ticket in given:
            number = ticket.ticket_number
            if number in missing - found.keys():
                error = CallNotSent(f"{self.function} was not sent: ticket {number} is in no listing")
                self._settled(Outcome(ticket, OutcomeState.NOT_SENT, error))
        whole = (found.get(ticket.ticket_number, ticket) for ticket in given)
        return [ticket for ticket in whole if ticket.ticket_number not in self.tried]

    def report(self, nothing: str) -> Exit:
        """Show what became of all, or say why there is nothing to show, and tell how the command ends."""
        outcomes = list(self.tried.values())
        troubled = [outcome for outcome in outcomes if outcome.error is not None]
        if troubled:
            self.screen.show(trouble_table(troubled[:_MOST_SHOWN]))
            if len(troubled) > _MOST_SHOWN:
                self.screen.say(f"... and {len(troubled) - _MOST_SHOWN:,} more; --json tells of each")
            self.screen.say("")
        if outcomes:
            self.screen.show(outcome_table(outcomes))
        elif self.error is None:
            self.screen.say("Nothing was sent." if self.is_declined else nothing)
        status = max(exit_of_all(outcomes), Exit.NOT_SENT if self.is_declined else Exit.DONE)
        return status if self.error is None else self.screen.fail(self.error, status)

    def _settled(self, outcome: Outcome) -> None:
        self.tried[outcome.ticket.ticket_number] = outcome
        self.told.append(outcome)
        self.screen.record(outcome_row(outcome, self.function))
