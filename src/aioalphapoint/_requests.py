"""What the calls send: one payload model a call, keys in the exact case and order of the exchange's documents.

Arguments are checked here, before anything is sent. The checks are strict: in Python `True` is an int, and a
ticket number that went through a float may be another ticket's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, TypeAlias
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ._arguments import shown
from ._envelope import INT64_MAX, write_json
from .errors import InvalidArguments

__all__ = [
    "CancelFailedWithdrawTicket",
    "CancelWithdraw",
    "GetAllWithdrawTickets",
    "GetWithdrawTicket",
    "GetWithdrawTickets",
    "GetWithdraws",
    "Request",
    "SubscribeAccountEvents",
    "function_name",
    "payload_text",
    "request_text",
]

# Sent on as it was written: whether the exchange compares GUIDs with regard to case is not documented.
_GUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"


def _text_of_uuid(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise ValueError("not a GUID")


Int64: TypeAlias = Annotated[
    int,
    Field(strict=True, ge=0, le=INT64_MAX, description=f"an int from 0 to {INT64_MAX}"),
]
_START = f"None or an int from 0 to {INT64_MAX}"
_LIMIT = f"None or an int from 1 to {INT64_MAX}"
Guid: TypeAlias = Annotated[
    Annotated[str, Field(strict=True, pattern=_GUID)] | Annotated[str, BeforeValidator(_text_of_uuid)],
    Field(union_mode="left_to_right", description="a uuid.UUID or its text of 36 characters"),
]


class Request(BaseModel):
    """What a call sends. Each model has the exchange's name of its function."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)


class CancelWithdraw(Request):
    oms_id: Int64 = Field(serialization_alias="OMSId")
    user_id: Int64 = Field(serialization_alias="UserId")
    account_id: Int64 = Field(serialization_alias="AccountId")
    request_code: Guid = Field(serialization_alias="RequestCode")


class CancelFailedWithdrawTicket(Request):
    oms_id: Int64 = Field(serialization_alias="omsId")
    ticket_id: Int64 = Field(serialization_alias="ticketId")


class GetWithdraws(Request):
    oms_id: Int64 = Field(serialization_alias="OMSId")
    account_id: Int64 = Field(serialization_alias="AccountId")


class GetWithdrawTicket(Request):
    oms_id: Int64 = Field(serialization_alias="OMSId")
    account_id: Int64 = Field(serialization_alias="AccountId")
    request_code: Guid = Field(serialization_alias="RequestCode")


class GetWithdrawTickets(Request):
    oms_id: Int64 = Field(serialization_alias="OMSId")
    account_id: Int64 = Field(serialization_alias="AccountId")
    start_index: Int64 | None = Field(serialization_alias="StartIndex", description=_START)
    limit: Int64 | None = Field(serialization_alias="Limit", gt=0, description=_LIMIT)


class GetAllWithdrawTickets(Request):
    oms_id: Int64 = Field(serialization_alias="OMSId")
    operator_id: Int64 = Field(serialization_alias="OperatorId")
    start_index: Int64 | None = Field(serialization_alias="StartIndex", description=_START)
    limit: Int64 | None = Field(serialization_alias="Limit", gt=0, description=_LIMIT)
    include_comments: bool | None = Field(
        serialization_alias="IncludeComments", strict=True, description="None, True or False"
    )


class SubscribeAccountEvents(Request):
    oms_id: Int64 = Field(serialization_alias="OMSId")
    account_id: Int64 = Field(serialization_alias="AccountId")


def request_text(model: type[Request], **arguments: object) -> str:
    """Check the arguments of a call and write its payload. What is None is left out: the exchange has a default.

    Raises:
        InvalidArguments: One of them cannot be sent; the message names it and says what is allowed.
    """
    try:
        # Without the models' own methods, which look at their options at each call.
        request = model.__pydantic_validator__.validate_python(arguments)
        return model.__pydantic_serializer__.to_json(request, by_alias=True, exclude_none=True).decode("ascii")
    except ValidationError as error:
        name = str(error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"][0])
        allowed = model.model_fields[name].description
        raise InvalidArguments(
            f"{name} must be {allowed}, not {shown(arguments[name])}", function=model.__name__
        ) from None


def function_name(function: object) -> str:
    """Check the name that a caller of `Client.call` gave.

    Raises:
        InvalidArguments: It is none.
    """
    if not isinstance(function, str) or not function:
        raise InvalidArguments(f"function must be a name such as 'GetWithdraws', not {shown(function)}")
    return function


def payload_text(function: str, payload: object) -> str:
    """Check the payload that a caller of `Client.call` gave, and write it.

    Raises:
        InvalidArguments: It is no JSON object; the message says why.
    """
    if payload is None:
        return "{}"
    if not isinstance(payload, Mapping):
        raise InvalidArguments(f"payload must be a mapping, not {shown(payload)}", function=function)
    try:
        return write_json(payload)
    except ValueError as error:
        raise InvalidArguments(f"payload must be what JSON can hold: {error}", function=function) from None
