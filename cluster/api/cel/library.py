"""Functions of Kubernetes' that the library for CEL has not: of lists, patterns, quantities and versions.

They get and return plain values. What Kubernetes has types for is a text here, in the one form that equal values have:
quantity("1Gi") is "1073741824", so that == is right without more. (Which functions may be called on what, the compiler
knows: `functions.py`.) A ValueError says why there is no answer; the rule fails with it. Each takes time in proportion
to what it is given, and patterns are RE2's. Pure.
"""

from __future__ import annotations

import datetime
import re
from decimal import Context, Decimal
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import Any, cast

from google.protobuf import duration_pb2, timestamp_pb2

from cluster.api.formats import accepted_by
from cluster.api.patterns import check_length, compile_pattern
from cluster.api.quantities import parse_quantity

MAX_INSTRUCTIONS, MAX_INSTRUCTIONS_FOUND = 20_000, 2_000
"""Of a pattern that is said in a rule, once it is compiled, and of one that a rule finds in an object; a usual one has
fifty."""
_INT64 = 2**63
_exact = Context(prec=60)


# --- lists


def native(value: Any) -> Any:
    """A value that was given to a function, as the library for CEL takes it back."""
    if isinstance(value, list):
        return [native(item) for item in value]
    if isinstance(value, dict):
        return {key: native(item) for key, item in value.items()}
    if isinstance(value, datetime.datetime):
        stamp = timestamp_pb2.Timestamp()
        stamp.FromDatetime(value)
        return stamp
    if isinstance(value, datetime.timedelta):
        span = duration_pb2.Duration()
        span.FromTimedelta(value)
        return span
    return value


def is_sorted(items: list[Any]) -> bool:
    """No item is smaller than the one before it."""
    return all(a <= b for a, b in pairwise(items))


def total(items: list[Any]) -> Any:
    """The sum of numbers or durations; 0 of nothing."""
    if items and isinstance(items[0], datetime.timedelta):
        return native(sum(items, datetime.timedelta()))
    found = sum(items)
    if isinstance(found, int) and not -_INT64 <= found < _INT64:
        raise ValueError("integer overflow")
    return found


def total_double(items: list[Any]) -> float:
    """The sum of numbers that are doubles; 0.0 of nothing."""
    return float(sum(items))


def smallest(items: list[Any]) -> Any:
    """The smallest item. Raises ValueError if there is none."""
    if not items:
        raise ValueError("min called on empty list")
    return native(min(items))


def largest(items: list[Any]) -> Any:
    """The largest item. Raises ValueError if there is none."""
    if not items:
        raise ValueError("max called on empty list")
    return native(max(items))


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal as CEL sees it: true is not 1, and 1 is 1.0."""
    if isinstance(a, bool) is not isinstance(b, bool):
        return False
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def index_of(where: list[Any] | str, what: Any, start: int = 0) -> int:
    """Where something is first found; -1: nowhere."""
    if isinstance(where, str):
        return where.find(what, start)
    return next((index for index, item in enumerate(where) if same(item, what)), -1)


def last_index_of(where: list[Any] | str, what: Any, until: int | None = None) -> int:
    """Where something is found last; -1: nowhere."""
    if isinstance(where, str):
        return where.rfind(what) if until is None else where.rfind(what, 0, until + len(what))
    return next((index for index in range(len(where) - 1, -1, -1) if same(where[index], what)), -1)


def insert(entries: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    """A map with one more entry: what transformMap is made of."""
    if key in entries:
        raise ValueError(f"insert failed: key {key} already exists")
    return {native(k): native(v) for k, v in {**entries, key: value}.items()}


# --- patterns


@lru_cache(256)
def pattern(text: str, limit: int = MAX_INSTRUCTIONS) -> Any:
    """A pattern, compiled. Raises ValueError if it is none, or has more than so many instructions."""
    check_length(text)
    try:
        compiled = compile_pattern(text)
    except ValueError as error:
        raise ValueError(f"invalid regular expression: {error}") from error
    if compiled.programsize > limit:
        raise ValueError(f"a pattern of more than {limit} instructions once compiled")
    return compiled


def instructions_of(text: str) -> int:
    """How large a pattern is once it is compiled; of what is none, how large it might be."""
    try:
        return int(pattern(text).programsize)
    except ValueError:
        return MAX_INSTRUCTIONS


def matches(text: str, wanted: str, limit: int = MAX_INSTRUCTIONS) -> bool:
    """Whether a pattern is found in a text."""
    return pattern(wanted, limit).search(text) is not None


def find(text: str, wanted: str, limit: int = MAX_INSTRUCTIONS) -> str:
    """The first text that a pattern fits; "": none."""
    found = pattern(wanted, limit).search(text)
    return cast(str, found.group()) if found is not None else ""


def find_all(text: str, wanted: str, many: int = -1, limit: int = MAX_INSTRUCTIONS) -> list[str]:
    """All texts that a pattern fits, from the left, not more than `many`; -1: all."""
    found: list[str] = []
    for each in pattern(wanted, limit).finditer(text) if many else ():
        found.append(each.group())
        if len(found) == many:
            break
    return found


def matches_found(text: str, wanted: str) -> bool:
    """As `matches`, with a pattern that is no constant."""
    return matches(text, wanted, MAX_INSTRUCTIONS_FOUND)


def find_found(text: str, wanted: str) -> str:
    """As `find`, with a pattern that is no constant."""
    return find(text, wanted, MAX_INSTRUCTIONS_FOUND)


def find_all_found(text: str, wanted: str, many: int = -1) -> list[str]:
    """As `find_all`, with a pattern that is no constant."""
    return find_all(text, wanted, many, MAX_INSTRUCTIONS_FOUND)


# --- quantities


def quantity(text: str) -> str:
    """The amount that a text says, exactly. Raises ValueError."""
    return _amount(parse_quantity(text))


def _amount(value: Decimal) -> str:
    return f"{value.normalize(_exact) if value else Decimal(0):f}"


is_quantity = accepted_by(parse_quantity)


def sign(amount: str) -> int:
    """1, 0 or -1."""
    return (Decimal(amount) > 0) - (Decimal(amount) < 0)


def is_integer(amount: str) -> bool:
    """Whether `as_integer` has an answer."""
    return "." not in amount and -_INT64 <= int(amount) < _INT64


def as_integer(amount: str) -> int:
    """The amount as a whole number. Raises ValueError if it is none, or too large."""
    if not is_integer(amount):
        raise ValueError("cannot convert value to integer")
    return int(amount)


def as_float(amount: str) -> float:
    """The amount, roughly."""
    return float(amount)


def plus(amount: str, more: str | int) -> str:
    """The sum with another amount, or with a whole number."""
    return _amount(_exact.add(Decimal(amount), Decimal(more)))


def minus(amount: str, less: str | int) -> str:
    """The difference to another amount, or to a whole number."""
    return _amount(_exact.subtract(Decimal(amount), Decimal(less)))


# --- versions

_NUMBER, _WORD = r"(0|[1-9]\d*)", r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_semver = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_WORD}(?:\.{_WORD})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?", re.ASCII
)
_loose = re.compile(r"v?0*(\d+)(?:\.0*(\d+))?(?:\.0*(\d+))?([-+].*)?", re.ASCII)
_MAX_SEMVER = 512


def semver(text: str, normalize: bool = False) -> str:
    """The version that a text says, without what is after a +, which does not count. Raises ValueError.

    `normalize`: v1.2 and 01.02.0 say 1.2.0.
    """
    if normalize and (loose := _loose.fullmatch(text[:_MAX_SEMVER])):
        text = f"{loose[1]}.{loose[2] or 0}.{loose[3] or 0}{loose[4] or ''}"
    found = _semver.fullmatch(text) if len(text) <= _MAX_SEMVER else None
    if found is None or any(int(number) >= 2 * _INT64 for number in found.groups()[:3]):
        raise ValueError(f'"{text[:80]}" is no semantic version')
    return text.partition("+")[0]


def is_semver(text: str, normalize: bool = False) -> bool:
    """Whether it says a version."""
    try:
        semver(text, normalize)
    except ValueError:
        return False
    return True


def major(version: str) -> int:
    """The first number."""
    return int(version.partition("-")[0].split(".")[0])


def minor(version: str) -> int:
    """The second number."""
    return int(version.partition("-")[0].split(".")[1])


def patch(version: str) -> int:
    """The third number."""
    return int(version.partition("-")[0].split(".")[2])


def _rank(version: str) -> tuple[Any, ...]:
    plain, _, before = version.partition("-")
    return tuple(map(int, plain.split("."))), before


def _compared_versions(a: str, b: str) -> int:
    (numbers, before), (others, also) = _rank(a), _rank(b)
    if numbers != others:
        return 1 if numbers > others else -1
    if not before or not also:
        return bool(also) - bool(before)  # a version comes after what was released before it
    for word, other in zip_longest(before.split("."), also.split(".")):
        if word == other:
            continue
        if word is None or other is None:
            return -1 if word is None else 1
        if word.isdigit() and other.isdigit():
            return 1 if int(word) > int(other) else -1
        if word.isdigit() or other.isdigit():
            return -1 if word.isdigit() else 1
        return 1 if word > other else -1
    return 0


def compare(a: str, b: str) -> int:
    """1, 0 or -1: two amounts, or two versions."""
    if a.count(".") > 1 or b.count(".") > 1:
        return _compared_versions(a, b)
    return (Decimal(a) > Decimal(b)) - (Decimal(a) < Decimal(b))


def is_less(a: str, b: str) -> bool:
    """The first of two amounts or versions is less."""
    return compare(a, b) < 0


def is_greater(a: str, b: str) -> bool:
    """The first of two amounts or versions is more."""
    return compare(a, b) > 0
