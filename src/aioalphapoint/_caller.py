"""What the functions of the exchange stand on: a way there and back, and the numbers that a login tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from ._envelope import Envelope
from ._events import Listener
from ._requests import Request, request_text

__all__ = ["Caller"]

_Answer = TypeVar("_Answer")
_Row = TypeVar("_Row")


class Caller(ABC):
    """What a client has to bring along, and how a function is called by its payload model."""

    @abstractmethod
    def _call(
        self,
        function: str,
        payload: Callable[[], str],
        read: Callable[[str, Envelope], _Answer],
        timeout: float | None,
        *,
        asks_login: bool = False,
    ) -> Awaitable[_Answer]:
        """Send one call and read its answer.

        Args:
            function: The exchange's name of the function.
            payload: Checks the arguments and writes them, once it is known who is logged in.
            read: Reads the answer to the function, or raises what it means.
            timeout: The call's own, or None.
            asks_login: The payload takes numbers from the login, so a client that still connects is waited for.
        """

    @abstractmethod
    def _call_for_rows(
        self,
        function: str,
        payload: Callable[[], str],
        read: Callable[[str, Envelope], Iterator[_Row]],
        timeout: float | None,
        *,
        asks_login: bool = False,
    ) -> Awaitable[list[_Row]]:
        """Send one call and read its answer row by row, with turns for the event loop; else as `_call`.

        Reading them counts against no timeout, and what becomes of the session meanwhile does not matter.
        """

    @abstractmethod
    def _oms(self, oms_id: int | None) -> int: ...

    @abstractmethod
    def _user(self, user_id: int | None) -> int: ...

    @abstractmethod
    def _listen(self, size: int) -> AbstractContextManager[Listener]: ...

    def _ask(
        self,
        model: type[Request],
        read: Callable[[str, Envelope], _Answer],
        timeout: float | None,
        oms_id: int | None,
        **arguments: object,
    ) -> Awaitable[_Answer]:
        """Call the function that a payload model is named after."""
        return self._call(
            model.__name__,
            lambda: request_text(model, oms_id=self._oms(oms_id), **arguments),
            read,
            timeout,
            asks_login=oms_id is None,
        )

    def _ask_as_user(
        self,
        model: type[Request],
        read: Callable[[str, Envelope], _Answer],
        timeout: float | None,
        oms_id: int | None,
        user_id: int | None,
        **arguments: object,
    ) -> Awaitable[_Answer]:
        """Call a function that has to be told which user calls."""
        return self._call(
            model.__name__,
            lambda: request_text(model, oms_id=self._oms(oms_id), user_id=self._user(user_id), **arguments),
            read,
            timeout,
            asks_login=oms_id is None or user_id is None,
        )

    def _ask_for_rows(
        self,
        model: type[Request],
        read: Callable[[str, Envelope], Iterator[_Row]],
        timeout: float | None,
        oms_id: int | None,
        **arguments: object,
    ) -> Awaitable[list[_Row]]:
        """Call a function that answers with a list."""
        return self._call_for_rows(
            model.__name__,
            lambda: request_text(model, oms_id=self._oms(oms_id), **arguments),
            read,
            timeout,
            asks_login=oms_id is None,
        )
