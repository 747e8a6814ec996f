"""What a failed call to etcd means. Pure: a gRPC status comes in as the name of its code and its text.

The question is always the same: may a change have been made? A status that etcd gives on purpose says no; so does a
connection that never came about. Everything that breaks on the way leaves it open. When a text is not known, it is
left open: to believe wrongly that nothing happened is the worse mistake.
"""

from __future__ import annotations

from cluster.rpc.etcd.errors import (
    Compacted,
    Corrupt,
    EtcdError,
    LeaseNotFound,
    NoSpace,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    TooLarge,
    Unreachable,
)

_NOT_PROPOSED = (
    "etcdserver: no leader",  # said before a request is looked at: we ask for that (hasleader)
    "etcdserver: too many requests",
    "etcdserver: rpc not supported for learner",
    "failed to connect to all addresses",  # gRPC's own: the call was never given to a connection
)
"""Nothing was done, and another member may do it."""

_BY_TEXT: tuple[tuple[str, type[EtcdError]], ...] = (
    ("required revision has been compacted", Compacted),
    ("database space exceeded", NoSpace),
    ("request is too large", TooLarge),
    ("too many operations in txn request", TooLarge),
    ("message larger than max", TooLarge),
    ("lease not found", LeaseNotFound),
    ("corrupt cluster", Corrupt),
    ("user name is empty", PermissionDenied),
    ("permission denied", PermissionDenied),
    ("invalid auth token", PermissionDenied),
)

_DEFINITE = {
    "INVALID_ARGUMENT": Refused,
    "NOT_FOUND": Refused,
    "ALREADY_EXISTS": Refused,
    "FAILED_PRECONDITION": Refused,
    "OUT_OF_RANGE": Refused,
    "UNIMPLEMENTED": Refused,
    "PERMISSION_DENIED": PermissionDenied,
    "UNAUTHENTICATED": PermissionDenied,
    "DATA_LOSS": Corrupt,
}


def judge(code: str, text: str, endpoint: str, *, changes: bool, tls: bool) -> EtcdError:
    """The error for a call of one endpoint that has failed. `changes`: it was a request for a change; `tls`: over TLS.

    Unreachable means that it may be asked of another endpoint.
    """
    words = explain(code, text, tls=tls)
    message = f"{endpoint}: {words}"
    if any(known in text for known in _NOT_PROPOSED):
        return Unreachable(message)
    for known, error in _BY_TEXT:
        if known in text:
            return error(message)
    if code in _DEFINITE:
        return _DEFINITE[code](message)
    return OutcomeUnknown(message) if changes else Unreachable(message)


_HINTS: tuple[tuple[bool, str, str], ...] = (
    (True, "CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by the ca.crt of the credentials"),
    (True, "Peer name", "its certificate does not name this host"),
    (True, "Hostname Verification", "its certificate does not name this host"),
    (True, "IP address mismatch", "its certificate does not name this host"),
    (True, "WRONG_VERSION_NUMBER", "it does not speak TLS; leave the credentials out"),
    (True, "CERTIFICATE_REQUIRED", "it wants a certificate of the client; put tls.crt and tls.key beside ca.crt"),
    (True, "BAD_CERTIFICATE", "it does not accept the certificate of the credentials"),
    (True, "UNKNOWN_CA", "it does not accept the certificate of the credentials"),
    (False, "SETTINGS", "it does not speak as etcd does; it may want TLS: pass credentials"),
    (False, "Socket closed", "it has closed the connection; it may want TLS: pass credentials"),
    (False, "Connection reset", "it has closed the connection; it may want TLS: pass credentials"),
)


def explain(code: str, text: str, *, tls: bool) -> str:
    """The text of a status, in words that help."""
    if code == "DEADLINE_EXCEEDED":
        return "it did not answer in time"
    folded = text.casefold()
    if "connection refused" in folded:
        return "connection refused"
    for with_tls, known, hint in _HINTS:
        if with_tls == tls and known.casefold() in folded:
            return f"{hint} ({_short(text)})"
    return _short(text) or code


def _short(text: str) -> str:
    """gRPC's "failed to connect" repeats itself; the last part says it."""
    return text.rpartition("last error: ")[2][:300]
