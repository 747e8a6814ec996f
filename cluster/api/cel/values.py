"""An object, as rules see it: plain values of the types that `types.py` says, under the names of `names.py`.

    {"spec": {"a-b": 1, "share": 2, "since": "2026-01-01T00:00:00Z"}}      share: a number, since: a date-time
    {"spec": {"a__dash__b": 1, "share": 2.0, "since": Timestamp(...)}}

Only what a rule looks at is made. What the schema does not know cannot be looked at, and counts where objects are
compared. Values are valid when they come here; a text that its format still does not make anything of (a date of the
year 0) stays a text, and the rule fails.

Lists that are sets or maps are compared without their order, and joined as Kubernetes does: for those, functions are
told in JSON what is one ("shapes"), since a value does not say it. Pure.
"""

from __future__ import annotations

import base64
import datetime
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from google.protobuf import duration_pb2, timestamp_pb2

from cluster.api.cel.library import native, same
from cluster.api.cel.names import escape
from cluster.api.cel.types import seen
from cluster.api.raw_json import pack, unpack
from cluster.api.structural import INT_OR_STRING, LIST_MAP_KEYS, LIST_TYPE, Json, Schema

Fields = dict[str, Any] | None
"""What of an object is looked at, by the names of rules; None: all of it."""


def fields_of(paths: Iterable[tuple[str, ...]]) -> Fields:
    """Which fields lead to these places."""
    found: dict[str, Any] = {}
    for path in paths:
        if not path:
            return None
        found.setdefault(path[0], []).append(path[1:])
    return {name: fields_of(rest) for name, rest in found.items()}


def convert(value: Json, schema: Schema | None, fields: Fields = None, *, is_object: bool | None = None) -> Any:
    """A value as rules see it. `is_object`: as in `types.seen`."""
    if value is None or schema is None:
        return value
    schema = seen(schema, is_object)
    if schema.get(INT_OR_STRING):
        return value
    if isinstance(value, dict):
        return _object(value, schema, fields)
    if isinstance(value, list):
        items = schema.get("items")
        return [convert(item, items) for item in value]
    kind = schema.get("type")
    if kind == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind == "integer" and isinstance(value, float):
        return int(value)
    if kind == "string" and isinstance(value, str) and schema.get("format") in _READ:
        try:
            return _READ[schema["format"]](value)
        except (ValueError, OverflowError):
            return value
    return value


def _object(value: dict[str, Json], schema: Schema, fields: Fields) -> dict[str, Any]:
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        return {key: convert(item, others) for key, item in value.items()}
    properties = schema.get("properties") or {}
    found: dict[str, Any] = {}
    for key, item in value.items():
        inner = properties.get(key)
        called = escape(key) if inner is not None else key
        if called is None:
            called = key
        if fields is None:
            found[called] = convert(item, inner)
        elif called in fields:
            found[called] = convert(item, inner, fields[called])
    return found


def nodes(value: Json, fields: Fields, limit: int) -> int:
    """Of how many values that is made which will be converted; more than `limit` are not counted."""
    count, left = 0, [(value, fields)]
    while left and count <= limit:
        value, fields = left.pop()
        count += 1
        if isinstance(value, dict):
            if fields is None:
                left += [(item, None) for item in value.values()]
            else:
                left += [
                    (item, fields[escape(key) or key]) for key, item in value.items() if (escape(key) or key) in fields
                ]
        elif isinstance(value, list):
            left += [(item, None) for item in value]
    return count


# --- formats

_UNITS = {
    **dict.fromkeys(("ns", "nano", "nanos", "nanosecond", "nanoseconds"), 1),
    **dict.fromkeys(("us", "µs", "micro", "micros", "microsecond", "microseconds"), 1_000),
    **dict.fromkeys(("ms", "milli", "millis", "millisecond", "milliseconds"), 1_000_000),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1_000_000_000),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60_000_000_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000_000_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000_000_000),
    **dict.fromkeys(("w", "wk", "week", "weeks"), 604_800_000_000_000),
}
_span = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ]{1,12})\s*")


def duration(text: str) -> duration_pb2.Duration:
    """What a text of the format "duration" says. Raises ValueError."""
    sign = -1 if text.startswith("-") else 1
    rest, total = text.lstrip("+-").strip(), 0
    if rest == "0":
        return duration_pb2.Duration()
    at = 0
    while at < len(rest):
        found = _span.match(rest, at)
        if found is None or found[2] not in _UNITS:
            raise ValueError(f"{text!r} is no duration")
        whole, _, part = found[1].partition(".")
        unit = _UNITS[found[2]]
        total += int(whole) * unit + (int(part) * unit // 10 ** len(part) if part else 0)
        at = found.end()
    seconds, nanos = divmod(total, 1_000_000_000)
    return duration_pb2.Duration(seconds=sign * seconds, nanos=sign * nanos)


def _timestamp(text: str) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromJsonString(text.replace("t", "T").replace("z", "Z").replace(" ", "T"))
    return stamp


def _date(text: str) -> timestamp_pb2.Timestamp:
    day = datetime.date.fromisoformat(text)
    return _timestamp(f"{day.isoformat()}T00:00:00Z")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_READ: dict[str, Any] = {"duration": duration, "date-time": _timestamp, "date": _date, "byte": _bytes}

# --- lists that are sets or maps


def shape(schema: Schema) -> str:
    """What is known of the sets and maps in a value, in JSON, for `equal` and `joined`; "": there are none."""
    found = _shape(schema)
    return pack(found).decode() if found else ""


def _shape(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        return {}
    schema = seen(schema)
    found: dict[str, Any] = {}
    if schema.get(LIST_TYPE) == "map":
        found["keys"] = [escape(key) or key for key in schema.get(LIST_MAP_KEYS) or ()]
    elif schema.get(LIST_TYPE) == "set":
        found["set"] = True
    for word in ("items", "additionalProperties"):
        if inner := _shape(schema.get(word)):
            found[word] = inner
    fields = {escape(name) or name: _shape(inner) for name, inner in (schema.get("properties") or {}).items()}
    if fields := {name: inner for name, inner in fields.items() if inner}:
        found["fields"] = fields
    return found


@lru_cache(256)
def _known(text: str) -> dict[str, Any]:
    found = unpack(text.encode())
    assert isinstance(found, dict)
    return found


def _mark(item: Any, keys: list[str] | None) -> str:
    """What tells an item from others."""
    return repr(item) if keys is None else repr([item.get(key) if isinstance(item, dict) else None for key in keys])


def _equal(a: Any, b: Any, known: dict[str, Any]) -> bool:
    if not known:
        return same(a, b)
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return False
        inner = known.get("items", {})
        if "keys" in known or "set" in known:
            keys = known.get("keys")
            of = {_mark(item, keys): item for item in b}
            marks = [_mark(item, keys) for item in a]
            return all(m in of and _equal(item, of[m], inner) for m, item in zip(marks, a, strict=True))
        return all(_equal(x, y, inner) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return False
        fields, others = known.get("fields", {}), known.get("additionalProperties", {})
        return all(_equal(a[key], b[key], fields.get(key, others)) for key in a)
    return same(a, b)


def equal(a: Any, b: Any, known: str) -> bool:
    """Whether two values are equal, where the order in sets and maps is no matter."""
    return _equal(a, b, _known(known))


def joined(a: list[Any], b: list[Any], known: str) -> list[Any]:
    """Two sets or two maps as one: what is in both stands where it stood in the first, as it is in the second."""
    keys = _known(known).get("keys")
    found = {_mark(item, keys): item for item in a}
    found.update((_mark(item, keys), item) for item in b)
    return [native(item) for item in found.values()]
