"""One persistent WebSocket session to an AlphaPoint exchange, made for cancelling withdrawals safely."""

from ._auth import ApiKey, Password, SessionToken
from ._backoff import Backoff
from ._envelope import Json
from ._events import Event, Gap
from ._state import SessionState
from ._subscription import WithdrawTicketUpdateEvent
from .client import Client
from .errors import (
    AlphaPointError,
    AuthenticationFailed,
    CallNotSent,
    CallRejected,
    CallTimeout,
    ConnectFailed,
    ConnectionLost,
    InvalidArguments,
    InvalidRequest,
    JournalError,
    NotAuthorized,
    NotCancelled,
    NotConfirmed,
    NotConnected,
    OperationFailed,
    OperationNotSupported,
    OutcomeUnknown,
    Overloaded,
    ResourceNotFound,
    ServerError,
    UnexpectedReply,
)
from .models import Identity, StandardResponse, Withdraw, WithdrawTicket
from .stats import Stats
from .statuses import WithdrawStatus

__all__ = [
    "AlphaPointError",
    "ApiKey",
    "AuthenticationFailed",
    "Backoff",
    "CallNotSent",
    "CallRejected",
    "CallTimeout",
    "Client",
    "ConnectFailed",
    "ConnectionLost",
    "Event",
    "Gap",
    "Identity",
    "InvalidArguments",
    "InvalidRequest",
    "JournalError",
    "Json",
    "NotAuthorized",
    "NotCancelled",
    "NotConfirmed",
    "NotConnected",
    "OperationFailed",
    "OperationNotSupported",
    "OutcomeUnknown",
    "Overloaded",
    "Password",
    "ResourceNotFound",
    "ServerError",
    "SessionState",
    "SessionToken",
    "StandardResponse",
    "Stats",
    "UnexpectedReply",
    "Withdraw",
    "WithdrawStatus",
    "WithdrawTicket",
    "WithdrawTicketUpdateEvent",
]
