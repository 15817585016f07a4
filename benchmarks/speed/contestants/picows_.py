"""picows, a WebSocket client in C, with the least that a client is: a table of futures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from speed.program import Answer, Commands, Settings, serve

from .least import Least

__all__: list[str] = []


class _Listener(WSListener):  # type: ignore[misc]  # which has no types where picows is not installed
    least: Least

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.least = Least(lambda text: transport.send(WSMsgType.TEXT, text.encode()))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        del transport
        if frame.msg_type == WSMsgType.TEXT:
            self.least.receive(frame.get_payload_as_bytes())


async def _about() -> Answer:
    return {"versions": {"picows": version("picows")}}


@asynccontextmanager
async def _program(settings: Settings) -> AsyncIterator[Commands]:
    transport, listener = await ws_connect(_Listener, settings.url)
    yield {"about": _about, "calls": listener.least.calls}
    transport.disconnect()


if __name__ == "__main__":
    serve(_program)
