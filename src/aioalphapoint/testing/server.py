"""The simulated exchange as a real WebSocket server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed

from aioalphapoint._envelope import BadEnvelope, Envelope, MessageType, decode, encode, write_json
from aioalphapoint._logging import WithoutFrames
from aioalphapoint.models import WithdrawTicket

from .exchange import Exchange, Permission, User, Visitor, amount_of, ticket_row, ticks
from .faults import Faults

__all__ = ["Arrival", "SimulatedExchange"]

_log = WithoutFrames(logging.getLogger("aioalphapoint.testing"), {})

# A simulated exchange may be left running for days: its journal holds the newest entries.
_JOURNAL_LENGTH = 200_000

# Message types that ask for something. Clients send REQUEST for everything, subscriptions too.
_ASKING = frozenset({MessageType.REQUEST, MessageType.SUBSCRIBE, MessageType.UNSUBSCRIBE})

# What the exchange's own goodbye may take, in seconds, when the other side does not answer it.
_CLOSE_TIMEOUT = 1.0

# What leaving may take, in seconds, before the connections are cut.
_LEAVE_TIMEOUT = 1.5

# Bytes of events that may wait for a guest that does not read, before it is shown out.
_MOST_UNREAD = 4 * 2**20

_FIRST_TICKET = 292  # any number will do; small ones would look like the sequence numbers beside them


@dataclass(slots=True)
class Arrival:
    """One message that arrived, and what went back. Its repr leaves the texts out: a login's holds the password.

    Attributes:
        connection: Which connection it came on, counted from 1 over the life of the exchange.
        frame: The message as it came; a binary one as Python writes it.
        sequence: Its number; None where it was no frame.
        function: What it called; None where it was no frame.
        payload: The text of its payload; None where it was no frame.
        answer: The frame that went back; None where none did.
    """

    connection: int
    frame: str = field(repr=False)
    sequence: int | None = None
    function: str | None = None
    payload: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)


class SimulatedExchange:
    """A small AlphaPoint exchange on this machine: a WebSocket server with users, accounts and tickets.

    Use it by `async with`. It listens on 127.0.0.1 alone. It answers `AuthenticateUser`, `Ping`, `LogOut`,
    `CancelWithdraw`, `CancelFailedWithdrawTicket`, `GetWithdraws`, `GetWithdrawTicket`, `GetWithdrawTickets`,
    `SubscribeAccountEvents` and `SubscribeAllAccountEvents` in the shapes seen on real gateways, and any other
    function with the gateway's plain `Endpoint Not Found`. Events carry a counter of the connection's own,
    even and from 2, which collides with the numbers of calls, as on real gateways; the event of a change is
    sent before the reply to the call that made it.

    Which statuses it lets be cancelled is an **assumption**, because nobody documents it: New, Pending and
    Pending2Fa by `CancelWithdraw`, Failed by `CancelFailedWithdrawTicket`. The module
    `aioalphapoint.testing.exchange` lists the other assumptions.

    Args:
        port: The port to listen on; 0 takes a free one.
        oms_id: The only order management system that it knows.
    """

    def __init__(self, *, port: int = 0, oms_id: int = 1) -> None:
        self.journal: deque[Arrival] = deque(maxlen=_JOURNAL_LENGTH)
        """What arrived, in order."""
        self.faults = Faults()
        """What is to go wrong."""
        self._port = port
        self._rules = Exchange(oms_id=oms_id)
        self._server: Server | None = None
        self._guests: dict[ServerConnection, _Guest] = {}
        self._connections = 0

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._receive_guest,
            "127.0.0.1",
            self._port,
            compression=None,  # as on the gateways probed
            ping_interval=None,  # likewise
            open_timeout=_CLOSE_TIMEOUT,  # else a connection that never shakes hands holds up the end
            close_timeout=_CLOSE_TIMEOUT,
            logger=_log,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        closed = asyncio.ensure_future(server.wait_closed())
        await asyncio.wait({closed}, timeout=_LEAVE_TIMEOUT)
        for socket in list(self._guests):
            socket.transport.abort()  # a guest that reads nothing holds its goodbye up for ever
        await closed

    @property
    def url(self) -> str:
        """The address to connect to."""
        return f"ws://127.0.0.1:{self._port}/WSGateway/"

    def add_user(
        self,
        user_name: str,
        password: str,
        *,
        account_id: int | None = None,
        user_id: int | None = None,
        permissions: Collection[Permission] = ("Trading", "Withdraw"),
    ) -> User:
        """Let somebody log in.

        Args:
            user_name: The name to log in with.
            password: The password.
            account_id: The account that the user owns; left out, none (an operator needs none).
            user_id: The user's number; left out, one above the highest so far.
            permissions: What the user may do: "Trading", "Withdraw", "Operator".
        """
        if isinstance(permissions, str):
            raise TypeError(f"permissions must be a list of them, not the text {permissions!r}")
        taken = {user.user_id for user in self._rules.users.values()}
        if user_id is None:
            user_id = max(taken, default=0) + 1
        if user_id in taken or user_name in self._rules.users:
            raise ValueError(f"there is a user {user_name!r} or a user number {user_id} already")
        accounts = frozenset() if account_id is None else frozenset({account_id})
        user = User(user_id, user_name, password, accounts, frozenset(permissions))
        self._rules.users[user_name] = user
        return user

    def add_withdraw(
        self,
        *,
        account_id: int,
        amount: str | int | Decimal,
        status: str = "Pending",
        asset_name: str = "BTC",
        request_code: UUID | None = None,
    ) -> WithdrawTicket:
        """Add a withdrawal.

        Args:
            account_id: The account that the money leaves.
            amount: How much, every digit kept.
            status: Where it stands.
            asset_name: What is withdrawn.
            request_code: Its GUID; left out, a new one.
        """
        now = datetime.now(UTC)
        number = max(self._rules.tickets, default=_FIRST_TICKET - 1) + 1
        ticket = WithdrawTicket.model_validate(
            {
                "ticket_number": number,
                "status": status,
                "request_code": str(request_code or uuid4()),
                "account_id": account_id,
                "account_name": f"account-{account_id}",
                "asset_manager_id": 1,
                "account_provider_id": 1,
                "asset_id": 1,
                "asset_name": asset_name,
                "amount": amount_of(amount),
                "fee_amt": Decimal(0),
                "notional_value": amount_of(amount),
                "notional_product_id": 1,
                "request_user_id": 0,
                "updated_by_user": 0,
                "oms_id": self._rules.oms_id,
                "operator_id": 1,
                "template_form": '{"TemplateType":"Standard"}',
                "template_form_type": "Standard",
                "withdraw_transaction_details": '{"TxId":null}',
                "created_timestamp": now,
                "created_timestamp_tick": ticks(now),
                "last_update_timestamp_tick": 0,
            }
        )
        self._rules.tickets[number] = ticket
        return ticket

    def ticket(self, ticket_number: int) -> WithdrawTicket:
        """Give a ticket as it stands now. An unknown number is a KeyError."""
        return self._rules.tickets[ticket_number]

    async def _receive_guest(self, socket: ServerConnection) -> None:
        self._connections += 1
        guest = self._guests[socket] = _Guest(socket, self._connections)
        try:
            async for message in socket:
                await self._receive(guest, message)
        except ConnectionClosed:
            pass  # the guest left, with or without a goodbye
        finally:
            del self._guests[socket]

    async def _receive(self, guest: _Guest, message: str | bytes) -> None:
        text = message if isinstance(message, str) else repr(message)
        arrival = Arrival(guest.number, text)
        self.journal.append(arrival)
        try:
            call = decode(text.encode())
        except (BadEnvelope, UnicodeEncodeError):
            return  # real gateways give no answer at all, and keep the socket open
        if call.type not in _ASKING:
            return
        arrival.sequence, arrival.function, arrival.payload = call.sequence, call.function, call.payload
        answer = self._rules.answer(guest.visitor, call.function, call.payload, datetime.now(UTC))
        if answer.changed is not None:
            self._publish(answer.changed)
        if self.faults.is_mute:
            return
        reply = encode(Envelope(answer.type, call.sequence, call.function, answer.payload))
        arrival.answer = reply.decode()
        await guest.socket.send(arrival.answer)

    def _publish(self, ticket: WithdrawTicket) -> None:
        payload = write_json(ticket_row(ticket))
        for guest in list(self._guests.values()):
            if guest.visitor.hears_of(ticket.account_id):
                guest.send_event("WithdrawTicketUpdateEvent", payload)


class _Guest:
    """One connection."""

    def __init__(self, socket: ServerConnection, number: int) -> None:
        self.socket = socket
        self.number = number
        self.visitor = Visitor()
        self._next_event = 2

    def send_event(self, name: str, payload: str) -> None:
        """Send without waiting: no guest may hold up, or take down, another guest's call."""
        event = encode(Envelope(MessageType.EVENT, self._next_event, name, payload))
        self._next_event += 2
        broadcast([self.socket], event.decode())
        if self.socket.transport.get_write_buffer_size() > _MOST_UNREAD:
            self.socket.transport.abort()
