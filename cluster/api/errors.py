"""What can go wrong with a request, in Kubernetes' words: one class per reason, each with its HTTP code.

These errors are raised by the master, travel as gRPC statuses (`cluster.rpc.status` has the two tables), and are raised
again, with the same class, by the client. A message says what, why and, where it helps, the next command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong in an object."""

    path: str
    """Such as spec.containers[0].name."""
    message: str
    reason: str = "FieldValueInvalid"
    """FieldValueInvalid, FieldValueRequired, FieldValueDuplicate, FieldValueForbidden, FieldValueNotSupported,
    FieldValueTooLong; where a schema of a user's says so, FieldValueTypeInvalid and FieldValueTooMany; of a refused
    eviction, DisruptionBudget; of a read that was to be newer than what there is, ResourceVersionTooLarge; of a
    namespace that takes nothing new, NamespaceTerminating."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ApiError(Exception):
    """Base of all that a request can be answered with instead of success."""

    reason = "InternalError"
    code = 500

    def __init__(self, message: str, *, causes: Sequence[FieldError] = (), retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.causes = tuple(causes)
        self.retry_after_s = retry_after_s
        self.store_id = ""
        """The store that says so, and its revision when it did; set at the master's door. Empty: no store did."""
        self.revision = 0
        self.oldest_revision = 0
        """Expired: the oldest revision that is kept; 0: that is not the trouble."""
        self.last_revision = 0
        """Expired, for a watcher that was too slow: all up to here was sent to it, and it may resume from there."""

    def __str__(self) -> str:
        return self.message


class Invalid(ApiError):
    """The object or the request breaks a rule; nothing was written."""

    reason, code = "Invalid", 422


class BadRequest(ApiError):
    """The request itself makes no sense: a selector that does not parse, an unknown kind of operation."""

    reason, code = "BadRequest", 400


class NotFound(ApiError):
    reason, code = "NotFound", 404


class AlreadyExists(ApiError):
    reason, code = "AlreadyExists", 409


class Conflict(ApiError):
    """The object has changed, or is not the one that the caller meant."""

    reason, code = "Conflict", 409


class Forbidden(ApiError):
    """This identity may not do that."""

    reason, code = "Forbidden", 403


class Unauthenticated(ApiError):
    """The caller has no identity that the cluster knows."""

    reason, code = "Unauthorized", 401


class Expired(ApiError):
    """The revision asked for is no longer kept, or the watcher was too slow: list again, then watch."""

    reason, code = "Expired", 410


class StoreRewound(ApiError):
    """The store is another one than the caller knows, or was restored: revisions mean something else. List again."""

    reason, code = "StoreRewound", 410


class Overloaded(ApiError):
    """A queue is full; try again later. Nothing was written. (Kubernetes calls this TooManyRequests as well.)"""

    reason, code = "Overloaded", 429


class TooManyRequests(ApiError):
    """Not now: a pod's disruption budget allows no eviction. Try again later; the causes name the budget."""

    reason, code = "TooManyRequests", 429


class Unavailable(ApiError):
    """The server cannot be reached or is stopping. A write may or may not have happened."""

    reason, code = "ServiceUnavailable", 503


class DeadlineExceeded(ApiError):
    """No answer in time. A write may or may not have happened."""

    reason, code = "Timeout", 504


class Aborted(ApiError):
    """This operation was fine, but another one of its all-or-nothing write was not; nothing was written."""

    reason, code = "Aborted", 409


class Internal(ApiError):
    """A bug, a disk that failed, or a state in which the request has no answer."""

    reason, code = "InternalError", 500


ALL_ERRORS: tuple[type[ApiError], ...] = (
    Invalid,
    BadRequest,
    NotFound,
    AlreadyExists,
    Conflict,
    Forbidden,
    Unauthenticated,
    Expired,
    StoreRewound,
    Overloaded,
    TooManyRequests,
    Unavailable,
    DeadlineExceeded,
    Aborted,
    Internal,
)
BY_REASON: dict[str, type[ApiError]] = {error.reason: error for error in ALL_ERRORS}
