"""Who answers for which fields of an object: metadata.managedFields, as Kubernetes keeps it.

    managers = managers_of(data)                                   what it says now
    entries = noted(live, new, shape, manager, now=...)            what it says after a write that makes new of live

It is kept of objects that somebody has applied by the server (`cluster.kubernetes.applying`), and from then on every
write of them notes who made it: who changes a field answers for it alone, and a field that is gone is nobody's.

    one applies replicas 2           one Apply: f:spec f:replicas
    kubectl scale to 3               kubectl Update, subresource scale: f:spec f:replicas
    one applies replicas 2 again     Conflict with "kubectl" with subresource "scale" using v1: .spec.replicas

Where the paths come from is in `field_sets.py`. All works on JSON's values. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from cluster.api.field_sets import Path, fields_of, from_fields_v1, step_of, to_fields_v1
from cluster.api.problems import Report
from cluster.api.shapes import Shape

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATERS = 10
"""Entries of updates; if there are more, the oldest become one, under the name `ANCIENT`."""
ANCIENT = "ancient-changes"
MAX_NAME_BYTES = 128

STATUS, SCALE = "status", "scale"


@dataclass(frozen=True, slots=True)
class Manager:
    """Who answers for fields, and how it came to."""

    name: str
    operation: str
    """Apply, or Update."""
    subresource: str = ""
    """Through which it was written; empty: the object itself."""

    def is_about(self, path: Path, shape: Shape) -> bool:
        """Whether it can be written so: what is written apart (a status) through its subresource alone."""
        name = path[0].removeprefix("f:")
        return name == STATUS if self.subresource == STATUS else name not in shape.apart


Managers: TypeAlias = dict[Manager, frozenset[Path]]


def check_name(report: Report, path: str, name: str) -> None:
    """Reports a name of a manager that is too long or cannot be printed."""
    if len(name.encode()) > MAX_NAME_BYTES:
        report.too_long(path, MAX_NAME_BYTES)
        return
    for position, char in enumerate(name):
        if not char.isprintable():
            report.invalid(path, name, f"invalid character U+{ord(char):04X} (at position {position})")


def managers_of(data: Mapping[str, Any]) -> Managers:
    """What metadata.managedFields say; nothing if the object is not tracked."""
    found: Managers = {}
    for entry in _entries(data):
        manager = _manager(entry)
        found[manager] = found.get(manager, frozenset()) | from_fields_v1(entry.get("fieldsV1"))
    return found


def noted(
    live: Mapping[str, Any], new: Mapping[str, Any], shape: Shape, manager: Manager, *, now: str
) -> list[dict[str, Any]]:
    """What managedFields are to say when an update by that manager makes `new` of `live`. Empty: it is not tracked.

    Who says nothing of managedFields leaves them as they are; one entry that is empty ends the tracking, as in
    Kubernetes. `now` is the time as JSON.
    """
    if [dict(entry) for entry in _entries(new)] == [{}]:
        return []
    before = managers_of(new) or managers_of(live)
    if not before:
        return []
    there = fields_of(new, shape)
    changed = frozenset(path for path in changed_fields(live, new, shape) & there if manager.is_about(path, shape))
    after = {each: (owned - changed) & there for each, owned in before.items()}
    if changed:
        after[manager] = after.get(manager, frozenset()) | changed
    return entries_of(after, new if managers_of(new) else live, now, new.get("apiVersion", "v1"))


def entries_of(managers: Managers, known: Mapping[str, Any], now: str, api_version: str) -> list[dict[str, Any]]:
    """managedFields that say this. Entries that `known` has already, word for word, keep their time."""
    before = managers_of(known)
    times = {_manager(entry): entry.get("time") or "" for entry in _entries(known)}
    dated = [
        (times.get(manager) or now if before.get(manager) == paths else now, manager, paths)
        for manager, paths in managers.items()
        if paths
    ]
    dated = _capped(dated)
    dated.sort(key=lambda each: (each[1].operation, each[0], each[1].name, each[1].subresource))
    entries = []
    for time, manager, paths in dated:
        entry: dict[str, Any] = {"manager": manager.name, "operation": manager.operation, "apiVersion": api_version}
        entry |= {"time": time, "fieldsType": "FieldsV1", "fieldsV1": to_fields_v1(paths)}
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    return entries


_Dated: TypeAlias = tuple[str, Manager, frozenset[Path]]


def _capped(dated: list[_Dated]) -> list[_Dated]:
    """With at most so many updaters: those who have not changed anything for longest become one."""
    updates = sorted((each for each in dated if each[1].operation == UPDATE), key=lambda each: each[0], reverse=True)
    if len(updates) <= MAX_UPDATERS:
        return dated
    old = updates[MAX_UPDATERS - 1 :]
    rest = [each for each in dated if each not in old]
    for subresource in sorted({each[1].subresource for each in old}):
        those = [each for each in old if each[1].subresource == subresource]
        paths = frozenset[Path]().union(*(each[2] for each in those))
        rest.append((max(each[0] for each in those), Manager(ANCIENT, UPDATE, subresource), paths))
    return rest


def _entries(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    metadata = data.get("metadata")
    found = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    return [entry for entry in found or () if isinstance(entry, dict)]


def _manager(entry: Mapping[str, Any]) -> Manager:
    return Manager(entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", ""))


# --- what is another value


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any], shape: Shape) -> frozenset[Path]:
    """The paths of all that is in both or in the new one, and is not the same."""
    paths: set[Path] = set()
    for key, value in new.items():
        _compare(old.get(key, _ABSENT), value, shape.under(key), (f"f:{key}",), paths)
    return frozenset(paths)


class _Absent:
    """There is nothing."""


_ABSENT = _Absent()


def _compare(old: Any, new: Any, shape: Shape, path: Path, paths: set[Path]) -> None:
    if old == new:
        return
    if isinstance(new, dict) and not shape.is_atomic:
        before = old if isinstance(old, dict) else {}
        if not new:
            paths.add(path)
        for key, value in new.items():
            _compare(before.get(key, _ABSENT), value, shape.under(key), (*path, f"f:{key}"), paths)
        return
    if isinstance(new, list):
        if shape.keys and all(isinstance(item, dict) for item in new):
            items = (
                {step_of(item, shape): item for item in old if isinstance(item, dict)} if isinstance(old, list) else {}
            )
            for item in new:
                step = step_of(item, shape)
                if step not in items:
                    paths.add((*path, step))
                before = items.get(step, {})
                for key, value in item.items():
                    place = (*path, step, f"f:{key}")
                    _compare(before.get(key, _ABSENT), value, shape.under(key), place, paths)
            return
        if shape.is_set:
            known = old if isinstance(old, list) else []
            paths.update((*path, f"v:{json.dumps(item)}") for item in new if item not in known)
            return
    paths.add(path)
