"""No client at all: tasks that wait for a future, and a list of tickets that is read without regard to its digits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

from pydantic import BaseModel, TypeAdapter, create_model
from websockets.asyncio.client import connect

from speed.program import Answer, Commands, Settings, measured, serve

from .calls import keep_in_flight
from .memory import held_by

__all__: list[str] = []

_FIELDS: dict[object, str] = {
    int: "AssetManagerId AccountProviderId AccountId AssetId NotionalProductId OMSId RequestUserId OperatorId "
    "UpdatedByUser TicketNumber CreatedTimestampTick LastUpdateTimestampTick",
    str: "AccountName AssetName TemplateForm TemplateFormType RequestCode RequestIP RequestUserName Status "
    "UpdatedByUserName WithdrawTransactionDetails",
    float: "Amount NotionalValue FeeAmt",
    str | None: "RejectReason",
    datetime: "CreatedTimestamp LastUpdateTimestamp",
    list[object]: "Comments Attachments AuditLog",
}
_COLUMNS = {name: (kind, ...) for kind, names in _FIELDS.items() for name in names.split()}
# The model that is written without a second thought: amounts lose digits, and another key's case, a number of
# status, or a timestamp that means "none" make the list unreadable.
_TICKET: type[BaseModel] = create_model("Ticket", **_COLUMNS)  # type: ignore[call-overload]  # mypy sees no names


class _Contestant:
    def __init__(self, url: str) -> None:
        self._url = url
        self._texts: dict[int, str] = {}
        self._list = TypeAdapter(list[_TICKET])

    async def hold(self, calls: int, traced: bool) -> Answer:  # noqa: FBT001  (named in a line of JSON)
        """Tell the bytes that tasks take which wait for a future each."""
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            await loop.create_future()

        return await held_by(wait, calls, partial(asyncio.sleep, 0.1), traced=traced)

    async def listing(self, tickets: int, times: int) -> Answer:
        """Read a list of tickets, which is at hand, so many times."""
        if tickets not in self._texts:
            self._texts[tickets] = await self._fetch(tickets)
        text = self._texts[tickets]

        async def read() -> None:
            assert len(self._list.validate_python(json.loads(json.loads(text)["o"]))) == tickets

        return await measured(keep_in_flight(read, times, 1))

    async def _fetch(self, tickets: int) -> str:
        payload = json.dumps({"OMSId": 1, "AccountId": 7, "Limit": tickets}, separators=(",", ":"))
        async with connect(self._url, compression=None, max_size=None) as socket:
            frame = {"m": 0, "i": 2, "n": "GetWithdrawTickets", "o": payload}
            await socket.send(json.dumps(frame, separators=(",", ":")))
            return await socket.recv(decode=True)


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    contestant = _Contestant(settings.url)
    yield {"hold": contestant.hold, "listing": contestant.listing}


if __name__ == "__main__":
    serve(_program)
