"""Errors as messages: a domain error to and from Kubernetes' Status, as it stands in the result of an operation.

Knows nothing of gRPC; `cluster.rpc.status` puts the same Status into the details of a failed call.
"""

from __future__ import annotations

from cluster.api.errors import BY_REASON, ApiError, FieldError, Internal
from cluster.pb.v1 import cluster_pb2 as wire

_REVISIONS = ("revision", "oldest_revision", "last_revision")


def to_status(error: ApiError | None) -> wire.Status:
    """The Status that says what happened; None is success."""
    if error is None:
        return wire.Status(status="Success", code=200)
    status = wire.Status(status="Failure", message=error.message, reason=error.reason, code=error.code)
    for cause in error.causes:
        status.details.causes.add(reason=cause.reason, message=cause.message, field=cause.path)
    if error.retry_after_s:
        status.details.retryAfterSeconds = error.retry_after_s
    if error.store_id:
        status.store_id = error.store_id
    for field in _REVISIONS:
        if getattr(error, field):
            setattr(status, field, getattr(error, field))
    return status


def from_status(status: wire.Status) -> ApiError | None:
    """The error that a Status tells of, None for success. A reason that is not known here becomes Internal."""
    if status.status != "Failure":
        return None
    error = BY_REASON.get(status.reason, Internal)(
        status.message,
        causes=[FieldError(cause.field, cause.message, cause.reason) for cause in status.details.causes],
        retry_after_s=status.details.retryAfterSeconds,
    )
    error.store_id = status.store_id
    for field in _REVISIONS:
        setattr(error, field, getattr(status, field))
    return error
