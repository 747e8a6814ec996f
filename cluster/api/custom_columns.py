"""The columns of kinds that users define, as their definitions say.

A column has a path into the object, and a type, which says what becomes of what is there: a text is shown as it is, and
anything else as JSON; numbers and truth are cells of that type, and empty where something else stands; a date is shown
as the time that has passed since. Without any columns, a definition has one: the age. `podium get` and Kubernetes' REST
API show the same. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from cluster.api.columns import Column, age
from cluster.api.custom_json import custom_to_json
from cluster.api.definitions import version_order
from cluster.api.jsonpath import JsonPath, parse
from cluster.api.kinds import DefinedKind
from cluster.api.times import parse_time
from cluster.pb.v1 import core_pb2 as core

_INVALID = "<invalid>"
_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_NAME = Column(
    "Name",
    lambda data, _: data.get("metadata", {}).get("name", ""),
    format="name",
    description="Name of the object: there is one of that name in its namespace.",
)
_AGE = core.CustomResourceColumnDefinition(
    name="Age",
    type="date",
    jsonPath=".metadata.creationTimestamp",
    description="When the object was created, by the clock of the server.",
)


def custom_columns(given: Iterable[core.CustomResourceColumnDefinition]) -> tuple[Column, ...]:
    """The name, and these. A column whose path is not understood is left out."""
    columns = [_NAME]
    for each in list(given) or [_AGE]:
        try:
            path = parse(each.jsonPath)
        except ValueError:
            continue
        columns.append(_column(each, path))
    return tuple(columns)


def shown_version(definition: core.CustomResourceDefinition) -> core.CustomResourceDefinitionVersion | None:
    """The version whose columns are shown to who asks for none: the first that clients are offered. None: no version is
    served."""
    served = (version for version in definition.spec.versions if version.served)
    return min(served, key=lambda version: version_order(version.name), default=None)


def terminal_columns(
    kind: DefinedKind, *, wide: bool
) -> tuple[list[str], Callable[[core.CustomObject, float], list[str]]]:
    """Headings, and what gives the cells of an object at a time (seconds since 1970), as kubectl would print them."""
    version = shown_version(kind.definition)
    columns = custom_columns(version.additionalPrinterColumns if version is not None else ())
    shown = [column for column in columns if wide or not column.priority]

    def cells(obj: core.CustomObject, now_s: float) -> list[str]:
        data = custom_to_json(obj)
        values = (column.cell(data if column.moment is None else column.moment(data), now_s) for column in shown)
        return [_text(value) or "" for value in values]

    return [column.name.upper() for column in shown], cells


def _column(given: core.CustomResourceColumnDefinition, path: JsonPath) -> Column:
    is_date = given.type == "date"
    read = _READ.get(given.type, _text)
    return Column(
        given.name,
        _since if is_date else lambda data, _: read(path.first(data)),
        given.priority,
        ages=is_date,
        type=given.type,
        format=given.format,
        description=given.description or f"Custom resource definition column (in JSONPath format): {given.jsonPath}",
        moment=(lambda data: _moment(path.first(data))) if is_date else None,
    )


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list | bool):
        return _json(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _truth(value: Any) -> Any:
    return value if isinstance(value, bool) else None


_READ: dict[str, Callable[[Any], Any]] = {"integer": _whole, "number": _number, "boolean": _truth}


def _moment(value: Any) -> Any:
    """Seconds since 1970; text that is to be shown instead; or None."""
    if not isinstance(value, str):
        return None
    try:
        seconds, nanos = parse_time(value)
    except ValueError:
        return _INVALID
    return seconds + (nanos or 0) / 1e9


def _since(moment: Any, now_s: float) -> Any:
    if not isinstance(moment, float):
        return moment
    return age(now_s - moment) if moment <= now_s + 1 else _INVALID
