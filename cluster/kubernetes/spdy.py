"""SPDY/3.1, as far as port-forward needs it: many streams in one connection, as a machine without I/O.

kubectl forwards ports by SPDY inside of a WebSocket: for each connection a stream for errors and one for data, each
with headers that say which. So frames are taken apart and put together here, and nobody else knows what they look like:

    control frame   80 03, type (2 bytes), flags (1), length (3), content
    data frame      stream (4 bytes, below 2^31), flags (1), length (3), content

    SYN_STREAM (1) opens a stream, SYN_REPLY (2) accepts it; FIN (flag 1) ends one direction; RST_STREAM (3) both
    PING (6) is sent back; SETTINGS (4), GOAWAY (7), HEADERS (8) and WINDOW_UPDATE (9) change nothing here

Headers are compressed by zlib with a dictionary of the protocol's, in one go for the whole connection. Flow control by
windows is not used by those who speak this. Pure.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_FRAME = 1024 * 1024
MAX_HEADERS = 16 * 1024
"""Bytes of one block of headers, uncompressed."""
MAX_STREAMS = 512
"""At the same time."""
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING = 1, 2, 3, 6
_IGNORED = (4, 7, 8, 9)
_FIN = 0x01
_CONTROL = 0x8003
REFUSED, CANCELLED = 3, 5
"""Why a stream is reset."""

_WORDS = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
]
_PAIRS = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in (*_WORDS, *_PAIRS)) + _REST.encode()
"""What both ends begin to compress headers with."""


class ProtocolError(Exception):
    """The other end does not speak SPDY/3.1, or asks for too much; the connection is of no use any more."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The other end has opened a stream."""

    stream: int
    headers: Mapping[str, str]
    """Names in small letters."""
    ended: bool
    """It will send nothing on it."""


@dataclass(frozen=True, slots=True)
class Data:
    """The other end has sent something on a stream."""

    stream: int
    content: bytes
    ended: bool
    """It was the last."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The other end has given a stream up."""

    stream: int


@dataclass(frozen=True, slots=True)
class Reply:
    """To be sent to the other end as it is."""

    content: bytes


Event = Opened | Data | Reset | Reply


class SpdyServer:
    """The end of a connection that streams are opened to. Bytes in, events out; what is to be sent are bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._open: set[int] = set()
        self._last = 0

    def receive(self, data: bytes) -> Iterator[Event]:
        """What these bytes say, together with those before. Raises ProtocolError."""
        self._buffer += data
        while len(self._buffer) >= 8:
            length = int.from_bytes(self._buffer[5:8], "big")
            if length > MAX_FRAME:
                raise ProtocolError(f"a frame of {length} bytes; the most is {MAX_FRAME}")
            if len(self._buffer) < 8 + length:
                return
            head, content = bytes(self._buffer[:8]), bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            flags = head[4]
            if head[0] & 0x80:
                version, kind = struct.unpack(">HH", head[:4])
                if version != _CONTROL:
                    raise ProtocolError("this is not SPDY/3.1")
                yield from self._control(kind, flags, content)
            else:
                stream = int.from_bytes(head[:4], "big")
                if stream in self._open:
                    yield Data(stream, content, bool(flags & _FIN))

    def _control(self, kind: int, flags: int, content: bytes) -> Iterator[Event]:
        if kind == _SYN_STREAM:
            if len(content) < 10:
                raise ProtocolError("a stream is opened by too few bytes")
            stream = int.from_bytes(content[:4], "big") & 0x7FFFFFFF
            if stream <= self._last or stream % 2 == 0:
                raise ProtocolError(f"stream {stream} is opened after stream {self._last}")
            headers = self._headers(content[10:])
            self._last = stream
            if len(self._open) >= MAX_STREAMS:
                yield Reply(_frame(_RST_STREAM, struct.pack(">II", stream, REFUSED)))
                return
            self._open.add(stream)
            yield Opened(stream, headers, bool(flags & _FIN))
        elif kind == _RST_STREAM:
            if len(content) < 8:
                raise ProtocolError("a stream is reset by too few bytes")
            stream = int.from_bytes(content[:4], "big")
            if stream in self._open:
                self._open.discard(stream)
                yield Reset(stream)
        elif kind == _PING:
            yield Reply(_frame(_PING, content[:4]))
        elif kind not in _IGNORED and kind != _SYN_REPLY:
            raise ProtocolError(f"a control frame of type {kind}")

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            text = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as error:
            raise ProtocolError(f"headers that cannot be read: {error}") from error
        if self._inflate.unconsumed_tail:
            raise ProtocolError(f"headers of more than {MAX_HEADERS} bytes")
        try:
            (count,) = struct.unpack_from(">I", text)
            place, headers = 4, {}
            for _ in range(count):
                words = []
                for _ in range(2):
                    (length,) = struct.unpack_from(">I", text, place)
                    words.append(text[place + 4 : place + 4 + length].decode())
                    place += 4 + length
                    if place > len(text):
                        raise ProtocolError("headers that end too soon")
                headers[words[0].lower()] = words[1]
        except (struct.error, UnicodeDecodeError) as error:
            raise ProtocolError("headers that make no sense") from error
        return headers

    # --- what is to be sent

    def accept(self, stream: int) -> bytes:
        """That a stream is welcome."""
        block = self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return _frame(_SYN_REPLY, struct.pack(">I", stream) + block)

    def data(self, stream: int, content: bytes, *, end: bool = False) -> bytes:
        """Content for a stream, in as many frames as it takes; with `end`, nothing follows."""
        frames = b""
        for start in range(0, max(len(content), 1), MAX_FRAME):
            part = content[start : start + MAX_FRAME]
            last = start + MAX_FRAME >= len(content)
            frames += struct.pack(">IB", stream, _FIN if end and last else 0) + len(part).to_bytes(3, "big") + part
        return frames

    def reset(self, stream: int) -> bytes:
        """That a stream is given up."""
        self._open.discard(stream)
        return _frame(_RST_STREAM, struct.pack(">II", stream, CANCELLED))

    def forget(self, stream: int) -> None:
        """Both directions of a stream have ended."""
        self._open.discard(stream)


def _frame(kind: int, content: bytes) -> bytes:
    return struct.pack(">HHB", _CONTROL, kind, 0) + len(content).to_bytes(3, "big") + content
