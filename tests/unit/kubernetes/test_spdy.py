"""SPDY as a conversation: what a client sends, and what it is told."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kubernetes.spdy import (
    DICTIONARY,
    MAX_STREAMS,
    Data,
    Event,
    Opened,
    ProtocolError,
    Reply,
    Reset,
    SpdyServer,
)


class Client:
    """Just enough of the other end."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def control(self, kind: int, content: bytes, flags: int = 0) -> bytes:
        return struct.pack(">HHB", 0x8003, kind, flags) + len(content).to_bytes(3, "big") + content

    def open(self, stream: int, fin: bool = False, **headers: str) -> bytes:
        text = struct.pack(">I", len(headers))
        for name, value in headers.items():
            text += struct.pack(">I", len(name)) + name.encode() + struct.pack(">I", len(value)) + value.encode()
        block = self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        return self.control(1, struct.pack(">IIBB", stream, 0, 0, 0) + block, 1 if fin else 0)

    def data(self, stream: int, content: bytes, fin: bool = False) -> bytes:
        return struct.pack(">IB", stream, 1 if fin else 0) + len(content).to_bytes(3, "big") + content


def conversation() -> bytes:
    client = Client()
    return (
        client.open(1, True, streamtype="error", port="80", requestid="0")
        + client.open(3, Streamtype="data", port="80", requestid="0")
        + client.data(3, b"hello")
        + client.data(9, b"nobody opened that")
        + client.control(6, struct.pack(">I", 7))
        + client.control(4, b"")
        + client.data(3, b"", True)
        + client.control(2 + 1, struct.pack(">II", 3, 5))
    )


WHAT_IS_TOLD: list[Event] = [
    Opened(1, {"streamtype": "error", "port": "80", "requestid": "0"}, True),
    Opened(3, {"streamtype": "data", "port": "80", "requestid": "0"}, False),
    Data(3, b"hello", False),
    Reply(Client().control(6, struct.pack(">I", 7))),
    Data(3, b"", True),
    Reset(3),
]


def test_a_conversation() -> None:
    assert list(SpdyServer().receive(conversation())) == WHAT_IS_TOLD


@given(st.lists(st.integers(1, 400), max_size=20))
def test_wherever_it_is_cut(cuts: list[int]) -> None:
    server, text, told = SpdyServer(), conversation(), list[Event]()
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for start, end in pairwise(places):
        told += server.receive(text[start:end])
    assert told == WHAT_IS_TOLD


def test_what_is_sent() -> None:
    server = SpdyServer()
    assert server.data(3, b"x") == b"\0\0\0\3\0\0\0\1x"
    assert server.data(3, b"", end=True) == b"\0\0\0\3\1\0\0\0"
    assert server.reset(3)[:8] == b"\x80\x03\0\3\0\0\0\x08"
    inflate = zlib.decompressobj(zdict=DICTIONARY)
    for stream in (1, 3):
        frame = server.accept(stream)
        assert frame[:5] == b"\x80\x03\0\2\0"
        assert frame[8:12] == struct.pack(">I", stream)
        assert inflate.decompress(frame[12:]) == b"\0\0\0\0", "one stream of compressed headers"
    large = server.data(5, b"y" * (2**20 + 1), end=True)
    assert large[:8] == b"\0\0\0\5\0\x10\0\0"
    assert large[8 + 2**20 :] == b"\0\0\0\5\1\0\0\1y"


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\n\r\n" + b"x" * 10,
        b"\x80\x02\0\1\0\0\0\0",
        b"\x80\x03\0\1\0\0\0\x02ab",
        b"\x80\x03\0\x63\0\0\0\0",
        b"\x80\x03\0\1\0\0\0\x0e" + struct.pack(">IIBB", 1, 0, 0, 0) + b"abcd",
        b"\0\0\0\1\0\xff\xff\xff",
        Client().open(2, a="b"),
        Client().open(3, a="b") + Client().open(1, a="b"),
        Client().open(1, a="b" * 20_000),
        Client().open(1, a="\0" * 3_000_000),
    ],
)
def test_what_is_no_spdy_ends_it(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(SpdyServer().receive(text))


def test_streams_have_a_limit() -> None:
    client, server = Client(), SpdyServer()
    told = [event for n in range(MAX_STREAMS + 1) for event in server.receive(client.open(2 * n + 1, a="b"))]
    assert [type(event) for event in told] == [Opened] * MAX_STREAMS + [Reply]


@given(st.binary(max_size=300))
def test_whatever_comes_is_told_or_refused(text: bytes) -> None:
    server = SpdyServer()
    try:
        for event in server.receive(b"\x80\x03" + text):
            assert isinstance(event, Opened | Data | Reset | Reply)
    except ProtocolError:
        return
