"""What went wrong, as Kubernetes says it: a Status with code, reason and details.

The errors of `cluster.api.errors` have Kubernetes' reasons already, but for a few that only Podium knows, and that its
clients would not understand. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cluster.api.errors import (
    Aborted,
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Expired,
    FieldError,
    Forbidden,
    Internal,
    Invalid,
    NotFound,
    Overloaded,
    StoreRewound,
    TooManyRequests,
)

if TYPE_CHECKING:
    from cluster.kubernetes.paths import Target

_AS_KUBERNETES: dict[type[ApiError], tuple[str, int]] = {
    Aborted: ("Conflict", 409),
    Overloaded: ("TooManyRequests", 429),
    StoreRewound: ("Expired", 410),
}
_RETRY_AFTER_S = 1
_FIELD = re.compile(r"([a-z][A-Za-z0-9]*(?:\.[A-Za-z0-9]+|\[[^\]]*\])*): (.+)", re.DOTALL)
"""spec.replicas: must be ..."""
_BEGINNING = re.compile(r'[A-Za-z0-9.-]+ "([^"]+)" (?:is invalid|already exists)')


_MISSING = re.compile(r'([a-z]+) "([^"]+)" not found')
_ACCOUNT = "serviceaccount:"
_MAY_NOT = re.compile(r"(?P<who>[a-z]+(?::[^\s:]+)?) may not (?:[^:]|:(?! ))+(?:: (?P<why>.+))?", re.DOTALL)
"""node:n1 may not list pods: only with ..."""
_WHOLE = "[]"
"""What Kubernetes calls an object as a whole where a field is named; kubectl prints it before what is wrong."""


class Refused(ApiError):
    """A request that HTTP itself has a code for: a method, a type of content."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


def success(details: dict[str, Any] | None = None, code: int = 200) -> dict[str, Any]:
    """That something was done which has no other answer."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    if code != 200:
        status["code"] = code
    return status


def failure(error: ApiError, target: Target | None = None, verb: str = "get") -> dict[str, Any]:
    """The Status of an error, about an object or a collection if the request named one. `verb`: what Kubernetes calls
    it that was asked for."""
    reason, code = _AS_KUBERNETES.get(type(error), (error.reason, error.code))
    status: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": _message(error, target, verb),
        "reason": reason,
    }
    details: dict[str, Any] = {}
    if target is not None and isinstance(error, NotFound) and (other := _other_missing(error, target)):
        details |= other
    elif target is not None:
        if name := target.name or _named(error):
            details["name"] = name
        if target.resource.group:
            details["group"] = target.resource.group
        details["kind"] = target.resource.kind.name if isinstance(error, Invalid) else target.resource.plural
    causes = error.causes
    if isinstance(error, Invalid) and not causes:
        # kubectl says what it is about and the causes, and not the message; or the message, if there is nothing else.
        found = _FIELD.match(_BEGINNING.sub("", error.message).removeprefix(": "))
        causes = (FieldError(found[1], found[2]),) if found is not None else ()
        details = details if causes else {}
    if causes:
        whole = _WHOLE if isinstance(error, Invalid) else ""
        details["causes"] = [
            {
                key: value
                for key, value in (("reason", cause.reason), ("message", cause.message), ("field", cause.path or whole))
                if value
            }
            for cause in causes
        ]
    if retry_after := retry_after_s(error):
        details["retryAfterSeconds"] = retry_after
    if details or isinstance(error, NotFound):  # kubectl debug looks into these without asking whether there are any
        status["details"] = details
    status["code"] = code
    return status


def not_upgraded(error: ApiError) -> ApiError:
    """What the caller of exec or attach is told, when the connection is one already, of an error that the node's agent
    answered with: if it would not begin at all, that its own connection has not become one. kubectl prints the message
    as it is."""
    if not isinstance(error, BadRequest | NotFound):
        return error
    return Internal(f"Internal error occurred: unable to upgrade connection: {error.message}")


def code_of(error: ApiError) -> int:
    """The HTTP code that goes with it."""
    return _AS_KUBERNETES.get(type(error), ("", error.code))[1]


def retry_after_s(error: ApiError) -> int:
    """What the header Retry-After says; 0: nothing."""
    if error.retry_after_s or isinstance(error, TooManyRequests):
        return error.retry_after_s or _RETRY_AFTER_S
    return _RETRY_AFTER_S if isinstance(error, Overloaded) else 0


def expired_event(error: ApiError) -> bool:
    """Whether a watch that ended so has to begin with a list again."""
    return isinstance(error, StoreRewound) or (isinstance(error, Expired) and not error.last_revision)


def _other_missing(error: NotFound, target: Target) -> dict[str, Any]:
    """What is not there, if it is something else than the path is about: the namespace of a new object."""
    found = _MISSING.match(error.message)
    if found is None or found[1] in (target.resource.plural, target.resource.qualified):
        return {}
    return {"name": found[2], "kind": found[1]}


def _named(error: ApiError) -> str:
    """The object that an error is about which the path does not name, as it was to be created: Pod "web" is invalid."""
    found = _BEGINNING.match(error.message)
    return found[1] if found is not None else ""


def _message(error: ApiError, target: Target | None, verb: str) -> str:
    """Kubernetes names the group as well: poddisruptionbudgets.policy "web" not found."""
    if target is not None and isinstance(error, Forbidden):
        row = target.resource
        # A namespace is in itself.
        namespace = target.namespace or (target.name if row.stored_kind == "Namespace" else "")
        return denied(error.message, verb, row.group, row.plural, namespace, target.name, target.subresource)
    if target is not None and target.resource.group and isinstance(error, NotFound | AlreadyExists | Conflict):
        return error.message.replace(f'{target.resource.plural} "', f'{target.resource.qualified} "', 1)
    return error.message


def user_of(identity: str) -> str:
    """What Kubernetes calls an identity: serviceaccount:default/robot is system:serviceaccount:default:robot."""
    account = identity.removeprefix(_ACCOUNT)
    return f"system:{_ACCOUNT}{account.replace('/', ':')}" if account != identity else identity


def denied(
    message: str, verb: str, group: str, plural: str, namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    """That somebody may not do what it asked for, in Kubernetes' words: the master, and the agents of nodes, name the
    step that it failed at. Any other message stays as it is."""
    found = _MAY_NOT.fullmatch(message)
    if found is None:
        return message
    about = f"{plural}.{group}" if group else plural
    about += f' "{name}"' if name else ""
    what = f'"{plural}/{subresource}"' if subresource else f'"{plural}"'
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    why = f": {found['why']}" if found["why"] else ""
    user = user_of(found["who"])
    return f'{about} is forbidden: User "{user}" cannot {verb} resource {what} in API group "{group}" {where}{why}'
