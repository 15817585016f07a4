"""notbank, the best-kept Python client of this family: synchronous, a thread for each call in flight.

It has no method for this call, so its connection's own `request` makes it, with an answer that is read and no type
made of it. It always dials with TLS; here it does not, like the others. It runs in an environment of its own, because
the versions that it asks for go with no others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version

from notbank_python_sdk.client_connection_factory import new_websocket_client_connection
from notbank_python_sdk.core.endpoint_category import EndpointCategory
from notbank_python_sdk.websocket.websocket_manager import WebsocketManager

from speed.program import Answer, Commands, Settings, measured, serve

from .frames import CANCEL

__all__: list[str] = []


class _Contestant:
    def __init__(self, url: str) -> None:
        WebsocketManager._build_url = lambda _, host: host  # noqa: SLF001
        self.connection = new_websocket_client_connection(url)
        self._threads: dict[int, ThreadPoolExecutor] = {}  # they live on from round to round

    def _cancel(self) -> object:
        return self.connection.request("CancelWithdraw", EndpointCategory.AP, CANCEL, lambda data: data)

    async def about(self) -> Answer:
        return {"versions": {name: version(name) for name in ("notbank", "websocket-client")}}

    async def calls(self, calls: int, at_once: int) -> Answer:
        return await measured(self._keep_in_flight(calls, at_once))

    async def _keep_in_flight(self, calls: int, at_once: int) -> None:
        def work() -> None:
            for _ in range(calls // at_once):
                self._cancel()

        if at_once == 1:
            work()
            return
        threads = self._threads.setdefault(at_once, ThreadPoolExecutor(at_once))
        for worker in [threads.submit(work) for _ in range(at_once)]:
            worker.result()


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    contestant = _Contestant(settings.url)
    contestant.connection.connect()
    yield {"about": contestant.about, "calls": contestant.calls}
    contestant.connection.close()


if __name__ == "__main__":
    serve(_program)
