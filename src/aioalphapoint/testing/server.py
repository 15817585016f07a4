"""The simulated exchange as a real WebSocket server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from secrets import token_urlsafe
from types import TracebackType
from typing import Self, cast
from uuid import UUID, uuid4

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from aioalphapoint._envelope import BadEnvelope, Envelope, MessageType, decode, encode, write_json
from aioalphapoint._logging import WithoutFrames
from aioalphapoint.models import WithdrawTicket

from .answers import Answer, standard
from .exchange import Exchange
from .faults import (
    AcceptOnly,
    Cut,
    Delay,
    Duplicate,
    Faults,
    Freeze,
    Garble,
    Mute,
    RefuseDial,
    RefuseLogin,
    Reject,
    Reorder,
    check_close_code,
)
from .guests import GOODBYE_TIMEOUT, Guest, Line
from .journal import Arrival
from .logins import LOGIN_FUNCTIONS, refused_login
from .rows import ticket_row
from .users import Permission, User

__all__ = ["SimulatedExchange"]

_log = WithoutFrames(logging.getLogger("aioalphapoint.testing"), {})

# A simulated exchange may be left running for days: its journal holds the newest entries.
_JOURNAL_LENGTH = 200_000

# Message types that ask for something. Clients send REQUEST for everything, subscriptions too.
_ASKING = frozenset({MessageType.REQUEST, MessageType.SUBSCRIBE, MessageType.UNSUBSCRIBE})

# What leaving may take, in seconds, before the connections are cut.
_LEAVE_TIMEOUT = 1.5


class SimulatedExchange:
    """A small AlphaPoint exchange on this machine: a WebSocket server with users, accounts and tickets.

    Use it by `async with`. It listens on 127.0.0.1 alone. It answers `AuthenticateUser` (by password or by API
    key), `WebAuthenticateUser`, `Authenticate2FA`, `Ping`, `LogOut`, `CancelWithdraw`,
    `CancelFailedWithdrawTicket`, `GetWithdraws`, `GetWithdrawTicket`, `GetWithdrawTickets`,
    `GetAllWithdrawTickets`, `SubscribeAccountEvents` and `SubscribeAllAccountEvents` in the shapes seen on real
    gateways, and any other function with the gateway's plain `Endpoint Not Found`. Events carry a counter of the
    connection's own, even and from 2, which collides with the numbers of calls, as on real gateways; the event of
    a change is sent before the reply to the call that made it.

    Which statuses it lets be cancelled is an **assumption**, because nobody documents it: New, Pending and
    Pending2Fa by `CancelWithdraw`, Failed by `CancelFailedWithdrawTicket`. The modules
    `aioalphapoint.testing.exchange` and `aioalphapoint.testing.logins` list the other assumptions.

    Args:
        port: The port to listen on; 0 takes a free one.
        oms_id: The only order management system that it knows.
        sends_ticket_events: Whether subscribers hear of a ticket that changes, by a WithdrawTicketUpdateEvent. Older
            versions accept subscriptions and never send one; False is like them.
        newest_first: Whether listings begin with the newest ticket, from which StartIndex then counts; else with
            the oldest. The documents contradict themselves on which end it is, so a program should work with both.
    """

    def __init__(
        self, *, port: int = 0, oms_id: int = 1, sends_ticket_events: bool = True, newest_first: bool = False
    ) -> None:
        self.journal: deque[Arrival] = deque(maxlen=_JOURNAL_LENGTH)
        """What arrived, in order."""
        self._port = port
        self._sends_ticket_events = sends_ticket_events
        self._rules = Exchange(oms_id=oms_id, newest_first=newest_first, new_token=token_urlsafe)
        self.faults: Faults = Faults(
            freeze=self._freeze, thaw=self._thaw, expire_token=self._rules.logins.expire_tokens
        )
        """What is to go wrong."""
        self._server: Server | None = None
        self._guests: dict[int, Guest] = {}  # by the number of the connection
        self._connections = 0

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._receive_guest,
            "127.0.0.1",
            self._port,
            compression=None,  # as on the gateways probed
            ping_interval=None,  # likewise
            open_timeout=GOODBYE_TIMEOUT,  # else a connection that never shakes hands holds up the end
            close_timeout=GOODBYE_TIMEOUT,
            logger=_log,
            create_connection=Line,
            process_request=self._receive_dial,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        for guest in self._guests.values():
            if guest.is_silent:
                guest.line.transport.abort()  # it would not hear the goodbye
        server.close()
        closed = asyncio.ensure_future(server.wait_closed())
        await asyncio.wait({closed}, timeout=_LEAVE_TIMEOUT)
        for guest in self._guests.values():
            guest.line.transport.abort()  # a guest that reads nothing holds its goodbye up for ever
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
        api_key: str | None = None,
        api_secret: str | None = None,
        totp_secret: str | None = None,
    ) -> User:
        """Let somebody log in.

        Args:
            user_name: The name to log in with.
            password: The password.
            account_id: The account that the user owns; left out, none (an operator needs none).
            user_id: The user's number; left out, one above the highest so far.
            permissions: What the user may do: "Trading", "Withdraw", "Operator".
            api_key: An API key that the user may log in with as well, together with its secret.
            api_secret: The secret that signs those logins.
            totp_secret: Makes every login but one by session token wait for a code of a second factor, which
                comes from this secret: base32 text, such as `pyotp.random_base32()`. It needs the package pyotp,
                which the extra `aioalphapoint[testing]` brings.

        Raises:
            ValueError: The name, the number or the API key is taken, only one of key and secret is there, or the
                totp_secret cannot be used.
            ModuleNotFoundError: pyotp is not installed, and there is a totp_secret.
        """
        if isinstance(permissions, str):
            raise TypeError(f"permissions must be a list of them, not the text {permissions!r}")
        if user_id is None:
            user_id = max((user.user_id for user in self._rules.logins.users.values()), default=0) + 1
        accounts = frozenset() if account_id is None else frozenset({account_id})
        secrets = {"api_key": api_key, "api_secret": api_secret, "totp_secret": totp_secret}
        user = User(user_id, user_name, password, accounts, frozenset(permissions), **secrets)
        self._rules.logins.add(user)
        return user

    def unlock_user(self, user_name: str) -> None:
        """Let a user log in again whom five failed logins in a row have locked. An unknown name is a KeyError."""
        self._rules.logins.unlock(user_name)

    def log_out_everybody(self) -> None:
        """End every login and its session token, and tell each connection by a LogoutEvent. Sockets stay open.

        The payload of that event, `{}`, is an **assumption**: nobody has captured one.
        """
        for guest in self._guests.values():
            if guest.visitor.user is not None:
                self._rules.logins.log_out(guest.visitor)
                guest.send_event("LogoutEvent", "{}")

    async def cut_now(self, code: int | None = None) -> None:
        """End all present connections at once; new ones are welcome. What is under way on them is not carried out.

        Args:
            code: The close code; left out, they end by a TCP reset, without a goodbye. A connection that is
                frozen always does.
        """
        check_close_code(code)
        await asyncio.gather(*(guest.end(code) for guest in self._guests.values()))

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

        Raises:
            ValueError: The account has a withdrawal with this request_code already, or an argument cannot be used.
            TypeError: The amount is of a type that may have lost digits, such as a float.
        """
        return self._rules.add_withdraw(
            account_id=account_id,
            amount=amount,
            status=status,
            asset_name=asset_name,
            request_code=str(request_code or uuid4()),
            now=datetime.now(UTC),
        )

    def ticket(self, ticket_number: int) -> WithdrawTicket:
        """Give a ticket as it stands now. An unknown number is a KeyError."""
        return self._rules.tickets[ticket_number]

    def set_status(self, ticket_number: int, status: str) -> WithdrawTicket:
        """Change a ticket as the exchange does by itself, and let subscribers hear of it.

        Args:
            ticket_number: The ticket. An unknown number is a KeyError.
            status: Where it stands from now on: "FullyProcessed" once it is paid out. Any name will do, also one
                that nobody knows, and any step: nobody documents which ones an exchange takes.

        Returns:
            The ticket as it stands now.
        """
        ticket = self._rules.set_status(ticket_number, status, datetime.now(UTC))
        self._publish(ticket)
        return ticket

    def _freeze(self) -> None:
        for guest in self._guests.values():
            guest.fall_silent()

    def _thaw(self) -> None:
        for guest in list(self._guests.values()):
            guest.speak()

    def _receive_dial(self, socket: ServerConnection, _request: Request) -> Response | None:
        refusal = self.faults.innermost(RefuseDial)
        return None if refusal is None else socket.respond(refusal.status, "")

    async def _receive_guest(self, socket: ServerConnection) -> None:
        self._connections += 1
        guest = self._guests[self._connections] = Guest(cast("Line", socket), self._connections)
        if self.faults.innermost(Freeze) is not None:
            guest.fall_silent()
        try:
            async for message in socket:
                if guest.is_ended:
                    break
                await self._receive(guest, message)
        except ConnectionClosed:
            pass  # the guest left, with or without a goodbye
        finally:
            guest.forget()
            del self._guests[guest.number]

    async def _receive(self, guest: Guest, message: str | bytes) -> None:
        text = message if isinstance(message, str) else repr(message)
        arrival = Arrival(guest.number, text, moment=asyncio.get_running_loop().time())
        self.journal.append(arrival)
        try:
            call = decode(text.encode())
        except (BadEnvelope, UnicodeEncodeError):
            return  # real gateways give no answer at all, and keep the socket open
        if call.type not in _ASKING:
            return
        arrival.sequence, arrival.function, arrival.payload = call.sequence, call.function, call.payload
        cut = self.faults.innermost(Cut, call.function)
        if cut is None or not cut.before:
            answer = self._answer(guest, call)
            arrival.executed = answer.executed
            if cut is None:
                await self._reply(guest, arrival, call, answer)
        if cut is not None:
            await guest.end(cut.code)

    def _answer(self, guest: Guest, call: Envelope) -> Answer:
        rejection = self.faults.innermost(Reject, call.function)
        if rejection is not None:
            return standard(rejection.code, rejection.detail)
        refusal = self.faults.innermost(RefuseLogin)
        if refusal is not None and call.function in LOGIN_FUNCTIONS:
            return refused_login(call.function, locked=refusal.locked)
        accept_only = self.faults.innermost(AcceptOnly, call.function) is not None
        now = datetime.now(UTC)
        answer = self._rules.answer(guest.visitor, call.function, call.payload, now, accept_only=accept_only)
        if answer.changed is not None:
            self._publish(answer.changed)
        return answer

    async def _reply(self, guest: Guest, arrival: Arrival, call: Envelope, answer: Answer) -> None:
        function = call.function
        if self.faults.innermost(Mute, function) is not None:
            return
        payload = answer.payload
        if self.faults.innermost(Garble, function) is not None:
            payload = payload[: len(payload) // 2]
        frame = encode(Envelope(answer.type, call.sequence, function, payload)).decode()
        copies = 1 if self.faults.innermost(Duplicate, function) is None else 2
        delay, order = self.faults.innermost(Delay, function), self.faults.innermost(Reorder, function)
        if delay is None and order is None and not guest.is_silent:
            arrival.answer = frame
            for _ in range(copies):
                await guest.line.send(frame)  # waits while the guest does not read: its calls pile up, not replies
            return

        def send() -> None:
            arrival.answer = frame
            for _ in range(copies):
                guest.send(frame)

        def send_in_order() -> None:
            if order is None:
                send()
            else:
                order.hold(lambda: guest.act(send))

        if delay is None:
            guest.act(send_in_order)
        else:
            guest.act_later(delay.seconds, send_in_order)

    def _publish(self, ticket: WithdrawTicket) -> None:
        if not self._sends_ticket_events:
            return
        payload = write_json(ticket_row(ticket))
        for guest in list(self._guests.values()):
            if guest.visitor.hears_of(ticket.account_id):
                guest.send_event("WithdrawTicketUpdateEvent", payload)
