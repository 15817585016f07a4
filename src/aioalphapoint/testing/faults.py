"""What can be made to go wrong on the simulated exchange. No I/O here: the server asks what is on, and does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

__all__ = [
    "AcceptOnly",
    "Chance",
    "Cut",
    "Delay",
    "Duplicate",
    "Fault",
    "Faults",
    "Freeze",
    "Garble",
    "Mute",
    "RefuseDial",
    "RefuseLogin",
    "Reject",
    "Reorder",
    "check_close_code",
]

# What may stand in a close frame (RFC 6455, section 7.4, and the registry that it set up).
_CLOSE_CODES = (range(1000, 1004), range(1007, 1015), range(3000, 5000))


class Chance(Protocol):
    """Where a random order comes from: a `random.Random`."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Bring a list into random order."""


@dataclass(eq=False, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        function: The only function whose calls it concerns; None for every call.
    """

    function: str | None = None


class AcceptOnly(Fault):
    """Cancels are answered as received, and are not carried out."""


class Mute(Fault):
    """Calls are not answered."""


class Garble(Fault):
    """The payload of a reply ends in the middle."""


class Duplicate(Fault):
    """A reply is sent twice."""


class Freeze(Fault):
    """Connections fall silent."""


@dataclass(eq=False, slots=True)
class Delay(Fault):
    """Replies come `seconds` late."""

    seconds: float = 0.0


@dataclass(eq=False, slots=True)
class Reject(Fault):
    """Calls are refused with this code and detail."""

    code: int = 101
    detail: str | None = None


@dataclass(eq=False, slots=True)
class Cut(Fault):
    """Calls end their connection: with this close code, or None for a TCP reset."""

    code: int | None = None
    before: bool = False


@dataclass(eq=False, slots=True)
class RefuseDial(Fault):
    """Handshakes are refused with this HTTP status."""

    status: int = 503


@dataclass(eq=False, slots=True)
class RefuseLogin(Fault):
    """Logins are refused."""

    locked: bool = False


@dataclass(eq=False, slots=True, kw_only=True)
class Reorder(Fault):
    """Replies wait until `count` are there, and then go in the order that `chance` gives."""

    count: int
    chance: Chance
    _held: list[Callable[[], None]] = field(default_factory=list, init=False)

    def hold(self, send: Callable[[], None]) -> None:
        """Keep what sends a reply, and send all once enough are there."""
        self._held.append(send)
        if len(self._held) >= self.count:
            self.release()

    def release(self) -> None:
        """Send what is held."""
        held, self._held = self._held, []
        self.chance.shuffle(held)
        for send in held:
            send()

    def end(self) -> None:
        """Send what is held, and hold nothing any more: a delayed reply may come after the end."""
        self.count = 1
        self.release()


_Kind = TypeVar("_Kind", bound=Fault)


class Faults:
    """Faults of a simulated exchange, each a context manager named after the event.

    They can be nested, and each is undone on leaving, after an exception too. Of two of a kind that concern the
    same call the inner one counts. Several kinds at once take effect in this order: a cut before the call is
    carried out, a refusal, a cancel that is accepted and no more, a cut after it, silence, and then whatever
    becomes of the reply.

    `function`, where a method has it, limits the fault to the calls of this function, in the exact spelling.

    Args:
        freeze: Makes the connections fall silent.
        thaw: Gives them their voice back.
        expire_token: Makes the session tokens worthless.
    """

    def __init__(
        self, *, freeze: Callable[[], None], thaw: Callable[[], None], expire_token: Callable[[], None]
    ) -> None:
        self._on: list[Fault] = []  # in the order of entering
        self._freeze = freeze
        self._thaw = thaw
        self._expire_token = expire_token

    def innermost(self, kind: type[_Kind], function: str | None = None) -> _Kind | None:
        """Give the fault of this kind that is on, and concerns the calls of this function; None where none does."""
        for fault in reversed(self._on):
            if isinstance(fault, kind) and fault.function in (None, function):
                return fault
        return None

    @contextmanager
    def mute(self, function: str | None = None) -> Iterator[None]:
        """Carry calls out and answer none of them, as when the way back is lost."""
        with self._switched_on(Mute(function)):
            yield

    @contextmanager
    def delay(self, seconds: float, function: str | None = None) -> Iterator[None]:
        """Carry calls out at once, and answer them `seconds` later. Other calls of the connection are not held up.

        A reply that is under way when the fault is left comes when it would have come.
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"seconds must not be below 0, and must end, not {seconds!r}")
        with self._switched_on(Delay(function, seconds)):
            yield

    @contextmanager
    def reject(self, code: int = 101, detail: str | None = None, function: str | None = None) -> Iterator[None]:
        """Carry no call out, and refuse each with a standard response of this code and detail."""
        if code == 0:
            raise ValueError("code must not be 0: that is how the exchange accepts a call")
        with self._switched_on(Reject(function, code, detail)):
            yield

    @contextmanager
    def accept_only(self, function: str | None = None) -> Iterator[None]:
        """Answer a cancel as received and do not carry it out, as when the exchange is still at it.

        This concerns `CancelWithdraw` and `CancelFailedWithdrawTicket`, and of these what the exchange's rules
        accept: what they refuse stays refused. The ticket stays as it is after the fault is left, too, until
        `SimulatedExchange.set_status` or another cancel moves it on. Other functions go on as ever.
        """
        with self._switched_on(AcceptOnly(function)):
            yield

    @contextmanager
    def garble(self, function: str | None = None) -> Iterator[None]:
        """Carry calls out, and cut the payload of each reply in the middle, so that nobody can read it.

        The frame around it stays whole, so that the reply still finds its call. A refusal by the gateway is
        plain text, and stays plain text when it is cut.
        """
        with self._switched_on(Garble(function)):
            yield

    @contextmanager
    def duplicate(self, function: str | None = None) -> Iterator[None]:
        """Send each reply twice, one right after the other."""
        with self._switched_on(Duplicate(function)):
            yield

    @contextmanager
    def reorder(self, count: int, chance: Chance, function: str | None = None) -> Iterator[None]:
        """Hold replies until `count` are there, of all connections together, and then send them in random order.

        What is held on leaving is sent then.

        Args:
            count: How many replies go at a time.
            chance: Where the order comes from; `random.Random(7)` gives the same one in every run.
            function: The only function whose replies are held.
        """
        if count < 1:
            raise ValueError(f"count must not be below 1, not {count!r}")
        fault = Reorder(function, count=count, chance=chance)
        try:
            with self._switched_on(fault):
                yield
        finally:
            fault.end()

    @contextmanager
    def cut(self, code: int | None = None, *, before: bool = False, function: str | None = None) -> Iterator[None]:
        """End the connection at each call, and never answer it.

        Args:
            code: The close code; left out, the connection ends by a TCP reset, without a goodbye.
            before: End it before the call is carried out; else after that.
            function: The only function whose calls end the connection.
        """
        check_close_code(code)
        with self._switched_on(Cut(function, code, before)):
            yield

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Let all connections fall into a black hole: nothing is read from them, and nothing is sent on them.

        New ones fall silent after their handshake. Not even a closing handshake is answered. On leaving, reading
        goes on where it stopped, and what was kept back is sent. What was handed to the operating system before,
        it may still deliver; a call that had arrived before may still be carried out.
        """
        try:
            with self._switched_on(Freeze()):
                self._freeze()
                yield
        finally:
            if self.innermost(Freeze) is None:
                self._thaw()

    @contextmanager
    def refuse_dial(self, status: int = 503) -> Iterator[None]:
        """Refuse handshakes with this HTTP status, 300 to 599. Connections that stand are left alone."""
        if HTTPStatus(status) < HTTPStatus.MULTIPLE_CHOICES:
            raise ValueError(f"status must refuse: 300 to 599, not {status}")
        with self._switched_on(RefuseDial(status=status)):
            yield

    @contextmanager
    def refuse_login(self, *, locked: bool = False) -> Iterator[None]:
        """Refuse every login, the second factor too. It does not count as a failure of the user.

        Args:
            locked: Say that the user is locked.
        """
        with self._switched_on(RefuseLogin(locked=locked)):
            yield

    def expire_token(self) -> None:
        """Make every session token given out so far worthless. Who is logged in stays so.

        No context manager, because a token that ran out does not come back: there is nothing to undo.
        """
        self._expire_token()

    @contextmanager
    def _switched_on(self, fault: Fault) -> Iterator[None]:
        self._on.append(fault)
        try:
            yield
        finally:
            self._on.remove(fault)


def check_close_code(code: int | None) -> None:
    """Make sure that a close frame may hold this code, or that it is None."""
    if code is not None and not any(code in codes for codes in _CLOSE_CODES):
        raise ValueError(f"code must be a close code, such as 1011, or None for a TCP reset, not {code!r}")
