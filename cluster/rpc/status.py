"""Errors at the door: a domain error becomes a gRPC status when it leaves, and the same error again when it arrives.

The code is for people and foreign clients; the Status in the details is what our own client reads, because several
errors share a code. A status without details was made by gRPC itself, by a broken connection or a full server, and the
second table says what that means. Both tables are tested to be inverse to each other.
"""

from __future__ import annotations

import re

import grpc
from google.rpc import status_pb2  # type: ignore[import-untyped]

from cluster.api.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    DeadlineExceeded,
    Expired,
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    Overloaded,
    StoreRewound,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.rpc.outcome import from_status, to_status

DETAILS_KEY = "grpc-status-details-bin"
MAX_DETAILS_BYTES = 3072
"""Trailing metadata of more than 8 KiB is refused by the receiver. It holds the details (times 4/3), and the short
message twice, once with up to nine characters for each of its own."""
MAX_MESSAGE_LENGTH = 700
MAX_SHORT_MESSAGE_LENGTH = 200

CODE_OF: dict[type[ApiError], grpc.StatusCode] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    BadRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    Conflict: grpc.StatusCode.ABORTED,
    Aborted: grpc.StatusCode.FAILED_PRECONDITION,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Expired: grpc.StatusCode.OUT_OF_RANGE,
    StoreRewound: grpc.StatusCode.FAILED_PRECONDITION,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooManyRequests: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Internal: grpc.StatusCode.INTERNAL,
}

ERROR_OF: dict[grpc.StatusCode, type[ApiError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: BadRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Aborted,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.OUT_OF_RANGE: Expired,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INTERNAL: Internal,
}
"""For a status without details."""

_BROKEN = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)
"""Without details these come from the transport ("Stream removed", RST_STREAM), since our servers always add them:
nobody knows how far the call got."""

_NOT_CONNECTED = re.compile(
    r"failed to connect to all addresses; last error: \w+: (?:ipv[46]:)?(\S+): "
    r"(?:Failed to connect to remote host: )?(.+)",
    re.DOTALL,
)
"""What gRPC says of a call that it could give to no connection: which address was tried last, and what came of it."""


def encode(error: ApiError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Code, message and trailing metadata for an error. Causes that do not fit are counted instead of listed."""
    code = CODE_OF.get(type(error), grpc.StatusCode.INTERNAL)
    message = error.message[:MAX_SHORT_MESSAGE_LENGTH]
    status = to_status(error)
    status.message = status.message[:MAX_MESSAGE_LENGTH]
    left_out = 0
    while status.ByteSize() > MAX_DETAILS_BYTES and status.details.causes:
        left_out += 1
        del status.details.causes[-1]
    if left_out:
        status.details.causes.add(reason="FieldValueInvalid", message=f"and {left_out} more")
    details = status_pb2.Status(code=code.value[0], message=message)
    details.details.add().Pack(status)
    return code, message, ((DETAILS_KEY, details.SerializeToString()),)


def decode(error: grpc.aio.AioRpcError) -> ApiError:
    """The error that a failed call tells of."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            details = status_pb2.Status.FromString(value).details
            status = wire.Status()
            if details and details[0].Unpack(status):
                told = from_status(status)
                if told is not None:
                    return told
    code, message = error.code(), error.details() or ""
    if code in _BROKEN:
        return Unavailable(f"the connection broke: {message}" if message else "the connection broke")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return BadRequest(f"the server does not know this call: {message}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:  # our own: what gRPC says of it is about its streams
        return DeadlineExceeded("the server did not answer in the time that the call had; what it did is not known")
    if code is grpc.StatusCode.UNAVAILABLE and (found := _NOT_CONNECTED.fullmatch(message)):
        return Unavailable(f"cannot connect to {found[1]}: {found[2]}")
    return ERROR_OF.get(code, Internal)(message or code.name)
