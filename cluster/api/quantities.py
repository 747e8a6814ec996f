"""Quantities: amounts of cpu, memory and other resources as people write them, and as sums need them.

"100m" is a tenth, "64Mi" is 64 * 2^20, "1.5" is "1500m", "2e3" is two thousand. Kubernetes' grammar, and its canonical
form: no fraction, the largest suffix of the family (binary, decimal, exponent) that keeps the number whole. Exact
decimal arithmetic; rounding, where an integer is wanted, always goes up, so that a request is never made smaller.

Worked: canonical("1.5Gi") == "1536Mi", canonical("1000m") == "1", canonical("0.5") == "500m",
canonical("100000") == "100k", canonical("1024") == "1024".
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal
from functools import lru_cache

from cluster.pb.v1 import core_pb2 as core

MAX = Decimal(2**63 - 1)
"""The largest magnitude that a quantity may have."""
_MAX_LENGTH = 64
"""Characters; beyond that nobody means a number."""
_NANO = Decimal("1e-9")
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY_SUFFIX = {exponent: suffix for suffix, exponent in _BINARY.items()}
_quantity = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]{1,3})|(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]))?"
)
# Enough digits for every product here to be exact: 64 characters times 2^60, down to 10^-64.
_exact = Context(prec=200)


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Decimal, str]:
    """The value, and the family of its suffix: "binary", "decimal" or "exponent"."""
    match = _quantity.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise ValueError(
            f'"{text[:_MAX_LENGTH]}" is not a quantity: a number with an optional suffix'
            " (n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or e3), such as 100m, 1.5 or 64Mi"
        )
    number, exponent, suffix = Decimal(match.group(1)), match.group(2), match.group(3)
    if exponent is not None:
        value, family = _exact.scaleb(number, int(exponent[1:])), "exponent"
    elif suffix in _BINARY:
        value, family = _exact.multiply(number, Decimal(1 << _BINARY[suffix])), "binary"
    else:
        value, family = _exact.scaleb(number, _DECIMAL[suffix or ""]), "decimal"
    if abs(value) > MAX:
        raise ValueError(f'"{text}" is more than 2^63-1, the largest quantity')
    # Finer than a billionth is rounded away from zero, as Kubernetes does.
    return value.quantize(_NANO, rounding=ROUND_UP, context=_exact), family


def parse_quantity(text: str) -> Decimal:
    """The exact value (to a billionth, rounded away from zero). Raises ValueError with a sentence for people."""
    return _parse(text)[0]


def milli(q: core.Quantity) -> int:
    """In thousandths, rounded up: cpu "250m" is 250. Raises ValueError."""
    return _milli(q.string)


def whole(q: core.Quantity) -> int:
    """In whole units (bytes, pieces), rounded up. Raises ValueError."""
    return _whole(q.string)


@lru_cache(maxsize=4096)
def _milli(text: str) -> int:
    return int(_exact.scaleb(parse_quantity(text), 3).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=4096)
def _whole(text: str) -> int:
    return int(parse_quantity(text).to_integral_value(ROUND_CEILING))


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """The one way to write this quantity within the family of its suffix. Raises ValueError."""
    value, family = _parse(text)
    if value == 0:
        return "0"
    if family == "binary" and abs(value) >= 1024:
        # Ki and above know no fractions: round up.
        return _format_binary(int(value.to_integral_value(ROUND_UP)))
    return _format_decimal(value, exponent_form=family == "exponent")


def quantity(value: str | int) -> core.Quantity:
    """A Quantity in canonical form. Raises ValueError."""
    return core.Quantity(string=canonical(str(value)))


def format_milli(value: int) -> str:
    """An amount in thousandths as text: 250 is "250m", 2000 is "2"."""
    return str(value // 1000) if value % 1000 == 0 else f"{value}m"


def format_bytes(value: int) -> str:
    """A number of bytes as text, exactly, with the largest binary suffix that keeps it whole: 67108864 is "64Mi"."""
    return _format_binary(value)


def _format_binary(value: int) -> str:
    exponent = 0
    while value and value % 1024 == 0 and exponent < 60:
        value //= 1024
        exponent += 10
    return f"{value}{_BINARY_SUFFIX.get(exponent, '')}"


def _format_decimal(value: Decimal, *, exponent_form: bool) -> str:
    exponent = -9
    number = int(_exact.scaleb(value, 9))
    while number % 1000 == 0 and exponent < 18:
        number //= 1000
        exponent += 3
    if not exponent_form:
        return f"{number}{_DECIMAL_SUFFIX[exponent]}"
    return f"{number}e{exponent}" if exponent else str(number)
