"""Names in the form in which they travel: labels with their lengths before them, and a zero at the end (RFC 1035, 3.1).

    web.default.svc.cluster.local     03 web 07 default 03 svc 07 cluster 05 local 00

All tables have them in this form, in lower case: what a question says is a key as it comes, and a label may hold any
byte, even a dot, without being taken for two. A length is below 64 and so below every letter: lower() leaves it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Name: TypeAlias = bytes
"""A name as it travels, in lower case."""

ROOT: Name = b"\0"
MAX_LABEL, MAX_NAME = 63, 255
"""In bytes; of a name with its lengths."""


def to_name(text: str) -> Name:
    """The name that is written like this, with a dot at its end or without. Raises ValueError if there is none such."""
    parts = text.removesuffix(".").split(".") if text not in ("", ".") else []
    encoded = [part.encode() for part in parts]
    if not all(0 < len(part) <= MAX_LABEL for part in encoded):
        raise ValueError(f'"{text}" is not a name: each part of one has 1 to {MAX_LABEL} characters')
    name = b"".join(bytes((len(part),)) + part for part in encoded) + ROOT
    if len(name) > MAX_NAME:
        raise ValueError(f'"{text}" is not a name: it is longer than {MAX_NAME} bytes')
    return name.lower()


def to_text(name: Name) -> str:
    """As people write it, without a dot at the end; for logs and messages only: what is not printable is escaped."""
    parts = [
        "".join(chr(byte) if 32 < byte < 127 and byte not in b".\\" else f"\\{byte:03d}" for byte in label)
        for label in labels_of(name)
    ]
    return ".".join(parts) or "."


def below(label: str, name: Name) -> Name | None:
    """The name with one more label before it, which may not hold a dot; None if there can be no such name."""
    encoded = label.encode().lower()
    size = len(encoded)
    if not 0 < size <= MAX_LABEL or b"." in encoded or size + 1 + len(name) > MAX_NAME:
        return None
    return bytes((size,)) + encoded + name


def labels_of(name: Name) -> list[bytes]:
    """Its labels, without the root's."""
    labels, at = [], 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length])
        at += 1 + length
    return labels


def parent(name: Name) -> Name:
    """The name without its first label. Not to be asked of the root."""
    return name[1 + name[0] :]


def upwards(name: Name) -> Iterator[Name]:
    """The name, its parent, that one's ... and the root."""
    yield name
    while name != ROOT:
        name = parent(name)
        yield name


def reverse_name(address: str) -> Name:
    """Under which the name of an IPv4 address is looked up: 4.3.2.1.in-addr.arpa for 1.2.3.4. Raises ValueError."""
    return to_name(".".join(reversed(address.split("."))) + ".in-addr.arpa")


def dashed(address: str) -> str:
    """An address as one label: 127-28-16-1."""
    return address.replace(".", "-")


def undashed(label: bytes) -> str:
    """The address that such a label says; empty if it says none."""
    parts = label.split(b"-")
    if len(parts) != 4 or not all(_is_byte(part) for part in parts):
        return ""
    return ".".join(part.decode() for part in parts)


def _is_byte(digits: bytes) -> bool:
    """A number below 256, as it is written."""
    return digits.isdigit() and len(digits) <= 3 and int(digits) < 256 and str(int(digits)).encode() == digits
