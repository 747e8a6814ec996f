"""Where the messages of PostgreSQL's protocol (version 3) begin and end, and what a few of them say. Pure.

first, from the client    int32 length, int32 code: 196608 and up (a startup, with parameters), or a request for
                          encryption, or for a cancellation
everything after          one byte for the type, int32 length (with itself), the rest
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

SSL_REQUEST: Final = 80877103
GSS_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
MAX_STARTUP: Final = 10_000
"""The server's own limit."""
MAX_WHOLE: Final = 1 << 14
"""Messages up to so many bytes come in one piece."""
MAX_MESSAGE: Final = 1 << 30


class ProtocolError(ValueError):
    """What came is not this protocol; the stream cannot be followed any further."""


class Message(NamedTuple):
    """One message, or a part of one that is large."""

    type: bytes
    data: bytes
    """As it came, with its type and length."""
    begins: bool = True
    ends: bool = True

    @property
    def body(self) -> bytes:
        """Of a message that came whole: without type and length."""
        return self.data[5:]


class MessageScanner:
    """Cuts a stream into messages."""

    __slots__ = ("_buffer", "_left", "_type", "_whole")

    def __init__(self, whole: int = MAX_WHOLE) -> None:
        self._whole = whole
        self._buffer = b""
        self._left = 0
        """Bytes of a large message still to come."""
        self._type = b""

    @property
    def is_between(self) -> bool:
        """No part of a message was handed out whose end was not."""
        return not self._left

    def rest(self) -> bytes:
        """What was not handed out yet."""
        return self._buffer

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages in it, in order. Raises ProtocolError. To be exhausted before the next call."""
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        try:
            while at < size:
                if self._left:
                    step = min(self._left, size - at)
                    self._left -= step
                    at += step
                    yield Message(self._type, buffer[at - step : at], False, not self._left)
                    continue
                if size - at < 5:
                    return
                length = int.from_bytes(buffer[at + 1 : at + 5], "big")
                if not 4 <= length <= MAX_MESSAGE:
                    raise ProtocolError(f"a message of {length} bytes")
                if size - at >= length + 1:
                    at += length + 1
                    yield Message(buffer[at - length - 1 : at - length], buffer[at - length - 1 : at])
                elif length + 1 <= self._whole:
                    return
                else:
                    self._type = buffer[at : at + 1]
                    self._left = length + 1 - (size - at)
                    part, at = buffer[at:], size
                    yield Message(self._type, part, True, False)
        finally:
            self._buffer = buffer[at:]


class Startup(NamedTuple):
    """The first packet."""

    code: int
    data: bytes
    """The packet as it came."""
    parameters: Mapping[str, str]

    @property
    def wants_encryption(self) -> bool:
        """The session has not begun: the client asks for TLS, or for GSSAPI's encryption."""
        return self.code in (SSL_REQUEST, GSS_REQUEST)

    @property
    def is_cancellation(self) -> bool:
        """There will be no session: it names another one, by its key, whose query is to be cancelled."""
        return self.code == CANCEL_REQUEST


def read_startup(data: bytes) -> Startup | None:
    """The first packet, if it is there. Raises ProtocolError."""
    if len(data) < 8:
        return None
    length, code = struct.unpack_from("!ii", data)
    if not 8 <= length <= MAX_STARTUP:
        raise ProtocolError("the first packet is none of PostgreSQL")
    if len(data) < length:
        return None
    packet = data[:length]
    if code in (SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST):
        return Startup(code, packet, {})
    if code >> 16 != 3:
        raise ProtocolError(f"version {code >> 16}.{code & 0xFFFF} of the protocol is not spoken here")
    words = packet[8:].split(b"\0")
    if len(words) < 2 or words[-2:] != [b"", b""]:
        raise ProtocolError("the startup packet does not end where it says")
    text = [word.decode("utf-8", "replace") for word in words[:-2]]
    return Startup(code, packet, dict(zip(text[::2], text[1::2], strict=False)))


def wants_to_read_only(parameters: Mapping[str, str]) -> bool:
    """The client says at the very start that it will only read (default_transaction_read_only)."""
    yes = ("on", "true", "yes", "1")
    if parameters.get("default_transaction_read_only", "").lower() in yes:
        return True
    for word in parameters.get("options", "").replace("-c ", "-c").split():
        name, _, value = word.removeprefix("--").removeprefix("-c").partition("=")
        if name.replace("-", "_") == "default_transaction_read_only" and value.lower() in yes:
            return True
    return False


def wants_replication(parameters: Mapping[str, str]) -> bool:
    """The client is a server that wants to follow this one."""
    return parameters.get("replication", "off").lower() not in ("off", "false", "no", "0")


def error(severity: str, code: str, message: str) -> bytes:
    """An ErrorResponse."""
    fields = "".join(
        f"{kind}{text}\0" for kind, text in (("S", severity), ("V", severity), ("C", code), ("M", message))
    )
    body = fields.encode() + b"\0"
    return b"E" + struct.pack("!i", len(body) + 4) + body


def error_fields(body: bytes) -> dict[str, str]:
    """What an ErrorResponse says: C is its code, M its message."""
    return {chr(field[0]): field[1:].decode("utf-8", "replace") for field in body.split(b"\0") if field}


READY: Final = b"Z\0\0\0\5I"
"""ReadyForQuery, outside of a transaction."""
TERMINATE: Final = b"X\0\0\0\4"


def text_of_parse(body: bytes) -> tuple[bytes, str]:
    """The name of the statement and its text, out of a Parse."""
    name, _, rest = body.partition(b"\0")
    return name, rest.partition(b"\0")[0].decode("utf-8", "replace")


def names_of_bind(body: bytes) -> tuple[bytes, bytes]:
    """Portal and statement, out of a Bind."""
    portal, _, rest = body.partition(b"\0")
    return portal, rest.partition(b"\0")[0]
