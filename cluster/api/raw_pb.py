"""Protobuf's framing, for those who put messages together from bytes that exist already. Pure."""

from __future__ import annotations

_SMALL = tuple(bytes((n,)) for n in range(128))


def varint(n: int) -> bytes:
    """A non-negative number in protobuf's variable-length form."""
    if n < 128:
        return _SMALL[n]
    if n < 16384:  # nearly every object's length
        return bytes((n & 127 | 128, n >> 7))
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def tag(field: int, wire_type: int) -> bytes:
    """The key of a field: wire type 0 is a number, 2 is something with a length."""
    return varint(field << 3 | wire_type)


def delimited(field: int, payload: bytes) -> bytes:
    """A field that has a length: text, bytes or a message."""
    return tag(field, 2) + varint(len(payload)) + payload
