"""Formats of strings and numbers that a schema can ask for, Kubernetes'. Any other asks for nothing. Pure."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from typing import Final

Matcher = Callable[[str], bool]


def _by(pattern: str) -> Matcher:
    """All of the text is like that. Only patterns that can fit in one way stand here, so `re` takes linear time."""
    return lambda text: re.fullmatch(pattern, text, re.ASCII) is not None  # compiled when it is first asked for


def accepted_by(read: Callable[[str], object]) -> Matcher:
    """Whether a text can be read: what does so raises ValueError otherwise."""

    def matches(text: str) -> bool:
        try:
            read(text)
        except ValueError:
            return False
        return True

    return matches


def _cidr(text: str) -> object:
    if "/" not in text:
        raise ValueError(text)
    return ipaddress.ip_network(text, strict=False)


def _base64(text: str) -> object:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


_UUID = r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?%s[0-9a-fA-F]{3}-?%s[0-9a-fA-F]{3}-?[0-9a-fA-F]{12}"
_HEX = r"[0-9a-fA-F]"
_UNIT = r"(?:ns|us|µs|ms|s|m|hr?|d|wk?|(?:nano|micro|milli|sec|min|hour|day|week)[a-z]{0,9})"
"""Of a duration: hours, hour, hr, h."""

TEXTS: Final[dict[str, Matcher | None]] = {
    "date-time": None,
    "datetime": None,
    "email": None,
    "hostname": None,
    "uri": None,
    "ipv4": accepted_by(ipaddress.IPv4Address),
    "ipv6": accepted_by(ipaddress.IPv6Address),
    "cidr": accepted_by(_cidr),
    "mac": _by(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}"),
    "uuid": _by(_UUID % (_HEX, _HEX)),
    "uuid3": _by(_UUID % ("3", _HEX)),
    "uuid4": _by(_UUID % ("4", "[89abAB]")),
    "uuid5": _by(_UUID % ("5", "[89abAB]")),
    "bsonobjectid": _by(r"[0-9a-fA-F]{24}"),
    "byte": accepted_by(_base64),
    "date": None,
    "duration": _by(rf"[-+]?(\d+(\.\d+)?\s*{_UNIT}\s*)+|0"),
    "hexcolor": _by(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _by(r"rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)"),
    "ssn": _by(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "creditcard": _by(r"\d{13,19}"),
    "isbn": _by(r"(97[89][- ]?)?\d[- \d]{8,12}[\dX]"),
    "isbn10": _by(r"\d[- \d]{8,11}[\dX]"),
    "isbn13": _by(r"97[89][- \d]{10,13}\d"),
    "password": lambda text: True,
}
"""Of strings, by name; None: the library that carries out schemas knows it as Kubernetes does."""

NUMBERS: Final[dict[str, tuple[int, int]]] = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
"""Of whole numbers: the smallest and the largest."""

KNOWN = frozenset({*TEXTS, *NUMBERS, "float", "double"})
