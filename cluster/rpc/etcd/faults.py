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


SILENT = "it did not answer in time"


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
    (True, "Hostname Verification", "its certificate does not name this host"),
    (True, "has expired", "its certificate has expired"),
    (True, "certificate signature failure", "its certificate is not signed by the ca.crt of the credentials"),
    (True, "CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by the ca.crt of the credentials"),
    (True, "WRONG_VERSION_NUMBER", "it does not speak TLS; leave the credentials out"),
    (True, "Handshake read failed", "it does not speak TLS; leave the credentials out"),
    # With TLS 1.3 the server refuses a client after the handshake; what arrives then does not decrypt.
    (True, "Unwrap failed", "it wants another certificate than that of the credentials (tls.crt), or any at all"),
    (True, "CERTIFICATE", "it wants another certificate than that of the credentials (tls.crt), or any at all"),
    (False, "SETTINGS", "it does not answer as etcd does; it may want TLS: give credentials"),
    (False, "Socket closed", "it has closed the connection; it may want TLS: give credentials"),
    (False, "Connection reset", "it has closed the connection; it may want TLS: give credentials"),
)
"""With TLS or without; a part of what gRPC says of a connection that did not come about; what it means."""


def explain(code: str, text: str, *, tls: bool) -> str:
    """The text of a status, in words that help."""
    if code == "DEADLINE_EXCEEDED":
        return SILENT
    folded = text.casefold()
    if "connection refused" in folded:
        return "connection refused"
    for with_tls, known, hint in _HINTS if "failed to connect" in folded else ():
        if with_tls == tls and known.casefold() in folded:
            return f"{hint} ({_short(text)})"
    return _short(text) or code


def _short(text: str) -> str:
    """gRPC's "failed to connect" repeats itself; the last part says it."""
    return text.rpartition("last error: ")[2][:300]
