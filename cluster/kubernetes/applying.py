"""Server-side apply: what an object becomes when one of several managers says what it wants of it.

    merged = apply(live, wanted, shape, manager, force)      pure; everything is JSON's values

A manager applies the fields that it has an opinion about, each time all of them. What it applied before and no longer
does goes away, unless somebody else answers for it as well. A field that another manager answers for and that would
change is a conflict; with `force` it changes hands. What managers answer for is kept in metadata.managedFields, of
objects that somebody has applied so: at the first time all that was there before belongs to "before-first-apply", as in
Kubernetes, and from then on every change through this API notes who made it (`noted`).

Changes through gRPC (controllers, podium apply) are not noted: who applied a field before still answers for it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.api.errors import Conflict, FieldError
from cluster.kubernetes.fields import Path, fields_of, from_fields_v1, readable, step_of, to_fields_v1
from cluster.kubernetes.shapes import Shape

BEFORE = "before-first-apply"
_MAX_CAUSES = 100


@dataclass(frozen=True, slots=True)
class Manager:
    """Who answers for fields, and how it came to."""

    name: str
    operation: str
    """Apply, or Update."""
    subresource: str = ""


Managers = dict[Manager, frozenset[Path]]


def managers_of(data: Mapping[str, Any]) -> Managers:
    """What metadata.managedFields say; nothing if the object is not tracked."""
    found: Managers = {}
    for entry in data.get("metadata", {}).get("managedFields") or ():
        manager = Manager(entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", ""))
        found[manager] = found.get(manager, frozenset()) | from_fields_v1(entry.get("fieldsV1"))
    return found


def apply(
    live: dict[str, Any] | None, wanted: dict[str, Any], shape: Shape, name: str, *, force: bool, now: str
) -> dict[str, Any]:
    """The object after a manager of that name has applied what it wants; None: there is none yet.

    `now` is the time as JSON. Raises Conflict, with a cause for each field that others answer for.
    """
    manager = Manager(name, "Apply")
    paths = fields_of(wanted, shape)
    if live is None:
        return _tracked(copy.deepcopy(wanted), {manager: paths}, {}, now)
    managers = managers_of(live)
    if not managers:
        managers = {Manager(BEFORE, "Update"): fields_of(live, shape)}
    before = managers.pop(manager, frozenset())
    merged = _merge_object(live, wanted, shape)
    changed = _changed(live, merged, shape) & paths
    conflicts = [(other, sorted(owned & changed)) for other, owned in managers.items() if owned & changed]
    if conflicts and not force:
        raise _conflict(conflicts)
    managers = {other: owned - changed for other, owned in managers.items()}
    others = frozenset[Path]().union(*managers.values())
    for path in sorted(before - paths, key=len, reverse=True):
        is_key = len(path) > 1 and path[-2].startswith("k:") and path[-1][2:] in json.loads(path[-2][2:])
        if path not in others and not is_key and not any(_is_below(other, path) for other in others | paths):
            _remove(merged, path, shape)
    return _tracked(merged, {**managers, manager: paths}, managers_of(live), now, live)


def noted(live: dict[str, Any] | None, data: dict[str, Any], shape: Shape, name: str, *, now: str) -> dict[str, Any]:
    """The object after an update by a manager of that name, with what it has changed under its name, if the object is
    tracked. An update that says nothing of managedFields leaves them; one that empties them ends the tracking."""
    metadata = data.get("metadata")
    if live is None or not isinstance(metadata, dict):
        return data
    managers = managers_of(live)
    given = metadata.get("managedFields")
    if not managers or (given is not None and not any(given)):
        return {**data, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
    there = fields_of(data, shape)
    changed = _changed(live, data, shape) & there
    updater = Manager(name, "Update")
    after = {manager: (owned - changed) & there for manager, owned in managers.items()}
    if changed:
        after[updater] = after.get(updater, frozenset()) | changed
    return _tracked(dict(data), after, managers, now, live)


def _tracked(
    data: dict[str, Any], managers: Managers, before: Managers, now: str, live: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """With managedFields; those of a manager whose fields are the same keep their time."""
    times = {
        Manager(entry.get("manager", ""), entry.get("operation", ""), entry.get("subresource", "")): entry.get("time")
        for entry in (live or {}).get("metadata", {}).get("managedFields") or ()
    }
    entries = []
    for manager, paths in sorted(managers.items(), key=lambda pair: (pair[0].operation, pair[0].name)):
        if not paths:
            continue
        entry: dict[str, Any] = {"manager": manager.name, "operation": manager.operation}
        entry["apiVersion"] = data.get("apiVersion", "v1")
        time = times.get(manager) if before.get(manager) == paths else None
        entry |= {"time": time or now, "fieldsType": "FieldsV1", "fieldsV1": to_fields_v1(paths)}
        if manager.subresource:
            entry["subresource"] = manager.subresource
        entries.append(entry)
    metadata = data.get("metadata")
    data["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "managedFields": entries}
    return data


def _conflict(conflicts: list[tuple[Manager, list[Path]]]) -> Conflict:
    causes = [
        FieldError(readable(path), _conflict_with(other), "FieldManagerConflict")
        for other, paths in conflicts
        for path in paths
    ]
    count = len(causes)
    shown = "; ".join(f"{cause.message}: {cause.path}" for cause in causes[:10])
    plural = "conflict" if count == 1 else "conflicts"
    return Conflict(f"Apply failed with {count} {plural}: {shown}", causes=causes[:_MAX_CAUSES])


def _conflict_with(manager: Manager) -> str:
    how = "" if manager.operation == "Apply" else " using v1"
    return f'conflict with "{manager.name}"{how}'


def _is_below(path: Path, above: Path) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


# --- values


def _changed(old: Any, new: Any, shape: Shape) -> frozenset[Path]:
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
            paths.update((*path, f"v:{_json(item)}") for item in new if item not in known)
            return
    paths.add(path)


def _merge_object(live: Any, wanted: dict[str, Any], shape: Shape) -> dict[str, Any]:
    merged = dict(live) if isinstance(live, dict) else {}
    for key, value in wanted.items():
        merged[key] = _merge(merged.get(key), value, shape.under(key))
    return merged


def _merge(live: Any, wanted: Any, shape: Shape) -> Any:
    if isinstance(wanted, dict) and not shape.is_atomic:
        return _merge_object(live, wanted, shape)
    if isinstance(wanted, list) and isinstance(live, list):
        if shape.keys:
            items = {step_of(item, shape): item for item in live if isinstance(item, dict)}
            named = [step_of(item, shape) for item in wanted if isinstance(item, dict)]
            chosen = [_merge_object(items.get(step), item, shape) for step, item in zip(named, wanted, strict=False)]
            # In the order of who applies; what only others have comes after.
            return chosen + [item for step, item in items.items() if step not in named]
        if shape.is_set:
            return live + [item for item in wanted if item not in live]
    return wanted


def _remove(data: Any, path: Path, shape: Shape) -> None:
    """Takes a field, an item or a value out, if it is there."""
    place = data
    for step in path[:-1]:
        kind, _, rest = step.partition(":")
        if kind == "f":
            if not isinstance(place, dict) or rest not in place:
                return
            shape = shape.under(rest)
            place[rest] = copy.copy(place[rest])  # what is shared with the object as it was stays as it is
            place = place[rest]
        else:
            index = _index(place, step, shape)
            if index is None:
                return
            place[index] = copy.copy(place[index])
            place = place[index]
    kind, _, rest = path[-1].partition(":")
    if kind == "f":
        if isinstance(place, dict):
            place.pop(rest, None)
    elif isinstance(place, list):
        index = _index(place, path[-1], shape)
        if index is not None:
            del place[index]


def _index(items: Any, step: str, shape: Shape) -> int | None:
    if not isinstance(items, list):
        return None
    kind, _, rest = step.partition(":")
    if kind == "v":
        return next((index for index, item in enumerate(items) if _json(item) == rest), None)
    return next(
        (index for index, item in enumerate(items) if isinstance(item, dict) and step_of(item, shape) == step), None
    )


def _json(value: Any) -> str:
    return json.dumps(value)
