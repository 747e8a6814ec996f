"""JSON that is kept as it is: the schemas of definitions, and what objects of kinds that users define hold.

Nobody's descriptor says what stands there, so it is kept as text, in one form: keys in order, no spaces. Then equal
values are equal bytes, and a write that changes nothing is seen to change nothing. Numbers stay what they are: 1 is no
1.0. What no JSON can hold, or what the JSON of other programs cannot (whole numbers of more than 64 bits, numbers
without end), is refused when it is read. Pure.

    pack({"b": 1.0, "a": [1, None]})    b'{"a":[1,null],"b":1.0}'
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 64
"""Levels of nesting; no object of ours has more than a dozen, and the schema of a pod has thirty."""
LEAST, MOST = -(2**63), 2**64 - 1
"""Of a whole number: what 64 bits hold, with or without a sign."""


def pack(value: Any) -> bytes:
    """The value as it is kept. It must be one that `misfit` finds nothing in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def unpack(raw: bytes) -> Any:
    """The value that was packed."""
    return json.loads(raw)


def problem_of(raw: bytes) -> str:
    """What is wrong with text that somebody wants to have kept as JSON; empty: nothing."""
    try:
        found = misfit(unpack(raw))
    except (ValueError, RecursionError) as error:
        return f"it is not JSON: {error}"[:200]
    if found is None:
        return ""
    where, why = found
    return f"{'.'.join(map(str, where))[:100] or 'it'}: {why}"


def misfit(value: Any) -> tuple[tuple[str | int, ...], str] | None:
    """The first thing in a value that cannot be kept: where it stands, and what is wrong with it; None: nothing.

    Level by level, so that the depth of the data is not the depth of the stack.
    """
    level: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    for _ in range(MAX_DEPTH + 1):
        below: list[tuple[tuple[str | int, ...], Any]] = []
        for where, item in level:
            if isinstance(item, dict):
                for key, inner in item.items():
                    if not isinstance(key, str):
                        return where, f"the key {key!s:.80} must be a string"
                    if not _is_unicode(key):
                        return where, "a key holds half of a surrogate pair"
                    if inner.__class__ in _SIMPLE:
                        if wrong := _wrong(inner):
                            return (*where, key), wrong
                    else:
                        below.append(((*where, key), inner))
            elif isinstance(item, list):
                for index, inner in enumerate(item):
                    if inner.__class__ in _SIMPLE:
                        if wrong := _wrong(inner):
                            return (*where, index), wrong
                    else:
                        below.append(((*where, index), inner))
            elif wrong := _wrong(item):
                return where, wrong
        if not below:
            return None
        level = below
    return level[0][0][:1], f"it is nested more than {MAX_DEPTH} levels deep"


_SIMPLE = frozenset({str, int, float, bool, type(None)})


def _wrong(value: Any) -> str:
    if isinstance(value, str):
        return "" if _is_unicode(value) else "holds half of a surrogate pair"
    if isinstance(value, float):
        return "" if math.isfinite(value) else "must be a number that has an end"
    if isinstance(value, int):  # booleans are whole numbers, too
        return "" if LEAST <= value <= MOST else "must be a whole number of 64 bits"
    return "" if value is None else f"{type(value).__name__} is not JSON"


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
