"""Credentials go only to the host that was asked for: over TLS, with a certificate that was checked."""

import json
import ssl

import pytest
from websockets.asyncio.server import ServerConnection, serve

from aioalphapoint import Client, ConnectFailed, Password
from certificates import certified
from scripted import reply


@pytest.mark.parametrize(
    ("name", "is_known", "works"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("other.example.com", True, False)],
    ids=["good", "an authority nobody knows", "another host's"],
)
async def test_a_login_goes_out_only_where_the_certificate_was_checked(name: str, is_known: bool, works: bool) -> None:
    arrived: list[str] = []

    async def gateway(socket: ServerConnection) -> None:
        async for request in socket:
            arrived.append(json.loads(request)["n"])
            await socket.send(reply(request, '{"Authenticated":true}'))

    server_context, client_context = certified(name)
    if not is_known:
        client_context = ssl.create_default_context()
    async with serve(gateway, "127.0.0.1", 0, ssl=server_context, compression=None) as server:
        url = f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/WSGateway/"
        client = Client(url, Password("alice", "a password"), ssl=client_context)
        if works:
            async with client:
                await client.call("F")
        else:
            with pytest.raises(ConnectFailed, match="certificate verify failed"):
                await client.connect()
            with pytest.raises(ConnectFailed, match="certificate verify failed"):
                await Client(url, Password("alice", "a password")).connect()
    assert arrived == (["AuthenticateUser", "F"] if works else [])
