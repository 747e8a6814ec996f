"""Server-side apply: what an object becomes when one of several managers says what it wants of it.

    merged = apply(live, wanted, shape, manager, force)      pure; everything is JSON's values

A manager applies the fields that it has an opinion about, each time all of them. What it applied before and no longer
does goes away, unless somebody else answers for it as well. A field that another manager answers for and that would
change is a conflict; with `force` it changes hands. What managers answer for is kept in metadata.managedFields, of
objects that somebody has applied so: at the first time all that was there before belongs to "before-first-apply", as in
Kubernetes, and from then on the master notes of every change who made it (`cluster.api.managers`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, TypeAlias

from cluster.api.errors import ApiError, Conflict, FieldError
from cluster.api.field_sets import Path, fields_of, readable, step_of
from cluster.api.managers import APPLY, SCALE, UPDATE, Manager, Managers, changed_fields, entries_of, managers_of
from cluster.api.shapes import Shape

BEFORE = "before-first-apply"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""The annotation in which `kubectl apply` without --server-side remembers what it has applied."""
_KUBECTL = "kubectl"
_CLIENT_SIDE = Manager("kubectl-client-side-apply", UPDATE)
"""Who has that annotation, in Kubernetes. What belongs to its owner kubectl takes for its own, and what it then does
not apply is removed: so it has nothing besides, above all not what the cluster has put into the object."""
Complete: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""What becomes of an object when it is kept: defaults come in. Raises ApiError for what is no object."""


def as_it_is(data: dict[str, Any]) -> dict[str, Any]:
    """Of objects that have no defaults."""
    return data


_MAX_CAUSES = 100


def apply(
    live: dict[str, Any] | None,
    wanted: dict[str, Any],
    shape: Shape,
    name: str,
    *,
    force: bool,
    now: str,
    subresource: str = "",
    complete: Complete = as_it_is,
) -> dict[str, Any]:
    """The object after a manager of that name has applied what it wants; None: there is none yet.

    Through a subresource, only what can be written so is looked at. `now` is the time as JSON. Who says what is
    there already, but for defaults (`complete`), changes nothing. Raises Conflict, with a cause for each field that
    others answer for.
    """
    manager = Manager(name, APPLY, subresource)
    paths = frozenset(path for path in fields_of(wanted, shape) if manager.is_about(path, shape))
    if live is None:
        return _tracked(copy.deepcopy(wanted), {manager: paths}, {}, now)
    managers = managers_of(live)
    if not managers:
        managers = _in_the_beginning(live, paths, shape, manager, complete)
    had = managers.pop(manager, frozenset())
    merged = _merge_object(live, wanted, shape)
    changed = changed_fields(live, complete(merged), shape) & paths
    conflicts = [(other, sorted(owned & changed)) for other, owned in managers.items() if owned & changed]
    if conflicts and not force and not _may_take_over(live, shape, manager, conflicts, complete):
        raise _conflict(conflicts, live.get("apiVersion", "v1"))
    managers = {other: owned - changed for other, owned in managers.items()}
    others = frozenset[Path]().union(*managers.values())
    for path in sorted(_gone(had - paths, others | paths, shape), key=len, reverse=True):
        _remove(merged, path, shape)
    if manager == Manager(_KUBECTL, APPLY):
        _remember(merged, wanted)
    return _tracked(merged, {**managers, manager: paths}, live, now)


def _remember(merged: dict[str, Any], wanted: dict[str, Any]) -> None:
    """This is what `kubectl apply` without --server-side is to think that was applied last: so it goes on from here."""
    metadata = merged.get("metadata", {})
    annotations = metadata.get("annotations") or {}
    if LAST_APPLIED not in annotations:
        return
    said = copy.deepcopy(wanted)
    said.get("metadata", {}).get("annotations", {}).pop(LAST_APPLIED, None)
    text = json.dumps(said, sort_keys=True, separators=(",", ":")) + "\n"
    merged["metadata"] = {**metadata, "annotations": {**annotations, LAST_APPLIED: text}}


def _may_take_over(
    live: dict[str, Any],
    shape: Shape,
    manager: Manager,
    conflicts: list[tuple[Manager, list[Path]]],
    complete: Complete,
) -> bool:
    """Whether `kubectl apply` itself wrote what is there, before it began to apply by the server: then it is nobody's
    but kubectl's. What somebody has changed since is no longer as it was applied, and stays a conflict."""
    if manager.name != _KUBECTL or (found := _by_kubectl(live, shape, complete)) is None:
        return False
    return all(path in found[0] for _, paths in conflicts for path in paths)


def _in_the_beginning(
    live: dict[str, Any], paths: frozenset[Path], shape: Shape, manager: Manager, complete: Complete
) -> Managers:
    """Who answers for what is there when an object is applied by the server for the first time, to `paths`. If kubectl
    does so that has applied it itself before, it goes on with what it has applied then, and nobody has the defaults."""
    before = Manager(BEFORE, UPDATE, manager.subresource)
    there = frozenset(path for path in fields_of(live, shape) if before.is_about(path, shape))
    if manager.subresource == SCALE:
        return {before: there & paths}
    found = _by_kubectl(live, shape, complete) if manager == Manager(_KUBECTL, APPLY) else None
    if found is None:
        return {before: there}
    applied, kept = found
    noted = fields_of({"metadata": {"annotations": {LAST_APPLIED: ""}}}, shape) & there
    return {before: there - kept - noted, _CLIENT_SIDE: noted, manager: applied & there}


def _by_kubectl(
    live: dict[str, Any], shape: Shape, complete: Complete
) -> tuple[frozenset[Path], frozenset[Path]] | None:
    """What `kubectl apply` itself has written that is still so: without and with the defaults that came in. None: it
    did not write this object, or wrote something that is none."""
    try:
        last = json.loads((live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED, ""))
        if not isinstance(last, dict) or last.get("apiVersion") != live.get("apiVersion"):
            return None
        whole = complete(last)
    except (ValueError, RecursionError, ApiError):
        return None
    changed = changed_fields(live, whole, shape)
    return fields_of(last, shape) - changed, fields_of(whole, shape) - changed


def _tracked(data: dict[str, Any], managers: Managers, known: dict[str, Any], now: str) -> dict[str, Any]:
    """With managedFields that say this."""
    metadata = data.get("metadata")
    entries = entries_of(managers, known, now, data.get("apiVersion", "v1"))
    data["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), "managedFields": entries}
    return data


def _conflict(conflicts: list[tuple[Manager, list[Path]]], api_version: str) -> Conflict:
    shown = {other: _named(other, api_version) for other, _ in conflicts}
    causes = [
        FieldError(readable(path), f"conflict with {shown[other]}", "FieldManagerConflict")
        for other, paths in conflicts
        for path in paths
    ]
    if len(causes) == 1:
        return Conflict(f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].path}", causes=causes)
    lines = []
    for other, paths in sorted(conflicts, key=lambda each: shown[each[0]]):
        lines += [f"conflicts with {shown[other]}:", *(f"- {readable(path)}" for path in paths)]
    text = "\n".join(lines[:_MAX_CAUSES])
    return Conflict(f"Apply failed with {len(causes)} conflicts: {text}", causes=causes[:_MAX_CAUSES])


def _named(manager: Manager, api_version: str) -> str:
    through = f' with subresource "{manager.subresource}"' if manager.subresource else ""
    how = "" if manager.operation == APPLY else f" using {api_version}"
    return f"{json.dumps(manager.name)}{through}{how}"


def _gone(dropped: frozenset[Path], kept: frozenset[Path], shape: Shape) -> set[Path]:
    """What goes with paths that their manager no longer applies: these, and the fields around them of which nobody
    answers for anything any more, with the defaults that are left there: a volume that is made of something else keeps
    nothing of what it was made of."""
    there = {path[:length] for path in kept for length in range(1, len(path) + 1)}
    gone = set()
    for path in dropped:
        if path not in there and not _is_key(path):
            gone.add(path)
        at, around = shape, []
        for length, step in enumerate(path[:-1], 1):
            kind, _, name = step.partition(":")
            if kind != "f":
                continue
            if length > 1 and at.has(name):
                around.append(path[:length])
            at = at.under(name)
        gone.update(above for above in around if above not in there)
    return gone


def _is_key(path: Path) -> bool:
    """Whether it is a field by which an item of a list is known."""
    return len(path) > 1 and path[-2].startswith("k:") and path[-1][2:] in json.loads(path[-2][2:])


# --- values


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
        return next((index for index, item in enumerate(items) if json.dumps(item) == rest), None)
    return next(
        (index for index, item in enumerate(items) if isinstance(item, dict) and step_of(item, shape) == step), None
    )
