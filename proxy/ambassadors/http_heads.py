"""What a proxy must look at in the heads of HTTP/1.1 messages before it passes them on. Pure.

Two servers that read one stream in two ways can be made to disagree about where a request ends: that is how requests
are smuggled. So there is one reader (h11), what is sent on is written anew from what was read, and whatever has been
used to make readers disagree is refused before it is read: bare line feeds and carriage returns, folded lines, a length
said twice, another protocol to switch to than WebSocket.

    RFC 9112  2.2 (bare CR and LF), 5.2 (folding), 6.1 and 6.3 (both lengths), 3.2.2 (absolute form)
    RFC 9110  7.6.1 (headers for one hop), 7.8 (Upgrade)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

MAX_HEAD: Final = 1 << 16

Headers = list[tuple[bytes, bytes]]

_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_FOLDED = re.compile(rb"\r\n[ \t]")
_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"http2-settings")
)
_NEVER_DROPPED: Final = frozenset((b"host", b"content-length", b"transfer-encoding"))


class Refused(Exception):
    """The request is not passed on."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


def check_raw(head: bytes) -> None:
    """Looks at the bytes of a head, with its empty line, or at as much of it as there is. Raises Refused."""
    body = head[:-1] if head.endswith(b"\r") else head  # its line feed may be on its way
    if _BARE.search(body):
        raise Refused(400, "a line ends with a bare line feed or contains a bare carriage return")
    if _FOLDED.search(body):
        raise Refused(400, "a header is folded over several lines")
    if b"\0" in body:
        raise Refused(400, "the head contains a NUL")


def check_request(method: bytes, target: bytes, version: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Looks at a request that was read. Names of headers are in lower case. Raises Refused."""
    lengths = {name for name, _ in headers if name in (b"content-length", b"transfer-encoding")}
    if len(lengths) > 1:
        raise Refused(400, "Content-Length and Transfer-Encoding contradict each other")
    if version not in (b"1.0", b"1.1"):
        raise Refused(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if version == b"1.0" and b"transfer-encoding" in lengths:
        raise Refused(400, "HTTP/1.0 has no Transfer-Encoding")
    if method == b"CONNECT":
        raise Refused(501, "CONNECT is not carried out: this is no forward proxy")
    if not target.startswith(b"/") and not (method == b"OPTIONS" and target == b"*"):
        raise Refused(400, "the target of a request begins with / here: this is no forward proxy")


def passed_on(headers: Iterable[tuple[bytes, bytes]], raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers without those for this hop, spelt as in `raw`. `headers` are the same with names in lower case."""
    headers = list(headers)
    named = {
        word.strip().lower() for name, value in headers if name == b"connection" for word in value.split(b",")
    } - _NEVER_DROPPED
    return [
        (spelt, value)
        for (name, _), (spelt, value) in zip(headers, raw, strict=True)
        if name not in _HOP_BY_HOP and name not in named
    ]


def forwarded(headers: Headers, client_ip: str) -> Headers:
    """The headers, with those that say for whom they are sent on (X-Forwarded-...)."""
    before = [value for name, value in headers if name.lower() == b"x-forwarded-for"]
    told = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
    host = next((value for name, value in headers if name.lower() == b"host"), b"")
    return [
        *((name, value) for name, value in headers if name.lower() not in told),
        (b"X-Forwarded-For", b", ".join([*before, client_ip.encode()])),
        (b"X-Forwarded-Host", host),
        (b"X-Forwarded-Proto", b"http"),
    ]


def wants_websocket(version: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """The client asks to go on with WebSocket, and sends nothing before that."""
    headers = list(headers)
    upgrade = any(name == b"upgrade" and value.strip().lower() == b"websocket" for name, value in headers)
    connection = any(
        b"upgrade" in (word.strip().lower() for word in value.split(b","))
        for name, value in headers
        if name == b"connection"
    )
    return version == b"1.1" and upgrade and connection and not has_body(headers)


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """A request with these headers has more to it than its head."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
        for name, value in headers
    )


def error(status: int, why: str, *, head_only: bool = False) -> bytes:
    """An answer of the proxy's own; the connection is closed after it."""
    body = f"{status} {HTTPStatus(status).phrase}: {why}\n".encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    return head if head_only else head + body
