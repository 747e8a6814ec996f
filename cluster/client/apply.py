"""Declarative writes: make the cluster's objects what the manifests say, without undoing what others decided.

The rule is Kubernetes' three-way merge. What was applied last is kept in an annotation; so a field that the manifest no
longer has is removed, a field that only others ever set is left alone, and a field that the manifest has is set. Lists
are compared as a whole. All manifests are checked before anything is written, and written all or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.api.defaults import apply_defaults
from cluster.api.diff import LAST_APPLIED
from cluster.api.errors import Aborted, AlreadyExists, ApiError, Conflict, FieldError, Invalid, NotFound
from cluster.api.json import custom_from_json, object_from_json, object_to_json
from cluster.api.kinds import AnyObject, kind_of
from cluster.api.manifest import Manifest
from cluster.api.meta import Key, key_of
from cluster.api.validation import validate
from cluster.client import operations
from cluster.client.definitions import find_definitions
from cluster.client.interface import ClusterClient, OperationOutcome
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

_ATTEMPTS = 4
_CAUSE = core.Cause(reason="apply")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one manifest."""

    object: AnyObject
    verb: str
    """created, configured, unchanged."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What would become of one manifest, if it were applied."""

    manifest: Manifest
    key: Key
    verb: str
    """created, configured, unchanged; refused."""
    before: AnyObject | None
    """As it is now; None: there is none."""
    after: AnyObject | None
    """As it would be; None: it is refused."""
    error: ApiError | None = None
    """Why it is refused."""


@dataclass(frozen=True, slots=True)
class _Step:
    """On the way from what is to what a manifest says."""

    operation: wire.Operation
    verb: str
    live: AnyObject | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a manifest asks for."""

    data: dict[str, Any]
    resource: str
    """Of a kind that users define: its definition."""

    def read(self, data: dict[str, Any]) -> AnyObject:
        """An object of its kind."""
        return custom_from_json(data, self.resource) if self.resource else object_from_json(data)


def prepare(manifests: Sequence[Manifest], namespace: str) -> list[_Wanted]:
    """The manifests as JSON objects with their namespace set and working directories resolved, all of them checked.

    A container's workingDir that begins with "." is relative to the manifest's own directory, so that a manifest can
    lie beside the program that it runs. Raises Invalid with every problem of every manifest.
    """
    problems: list[FieldError] = []
    prepared = []
    for manifest in manifests:
        where = f"{manifest.source}:{manifest.line}"
        obj = deepcopy_object(manifest.object)
        kind, custom = kind_of(obj), isinstance(obj, core.CustomObject)
        if kind.namespaced and not custom and not obj.metadata.namespace:
            obj.metadata.namespace = namespace
        _resolve_working_dirs(obj, manifest.source)
        if not obj.metadata.name:
            problems.append(FieldError(f"{where}: metadata.name", "apply needs a name", "FieldValueRequired"))
            continue
        data = object_to_json(obj)
        if not custom:  # of others, only the definition says whether the status is a part
            data.pop("status", None)
        prepared.append(_Wanted(data, obj.resource if isinstance(obj, core.CustomObject) else ""))
        complete = deepcopy_object(obj)
        apply_defaults(complete)
        problems += [
            FieldError(f"{where}: {data['kind']} {obj.metadata.name}: {e.path}", e.message, e.reason)
            for e in validate(complete)
        ]
    if problems:
        raise Invalid(
            f"{len(problems)} problem{'s' if len(problems) > 1 else ''}; nothing was written", causes=problems
        )
    return prepared


async def apply_manifests(
    client: ClusterClient, manifests: Sequence[Manifest], *, namespace: str = "default", dry_run: bool = False
) -> list[Applied]:
    """Creates or changes the objects, all or none of them. Raises the error of the first one that was refused.

    Somebody else's change between reading and writing is answered by reading again, a few times.
    """
    desired = prepare(await find_definitions(client, manifests, namespace), namespace)
    for attempt in range(_ATTEMPTS):
        steps = [await _step(client, wanted) for wanted in desired]
        outcome = await client.write([step.operation for step in steps], atomic=True, cause=_CAUSE, dry_run=dry_run)
        errors = [(wanted.data, o.error) for wanted, o in zip(desired, outcome.outcomes, strict=True) if _is_cause(o)]
        if not errors:
            return [
                Applied(o.unwrap(), "unchanged" if o.unchanged else step.verb)
                for o, step in zip(outcome.outcomes, steps, strict=True)
            ]
        data, error = errors[0]
        assert error is not None
        if attempt + 1 < _ATTEMPTS and isinstance(error, Conflict | AlreadyExists | NotFound):
            continue
        name = f"{data['kind']} {data['metadata']['name']}"
        raise type(error)(f"{name}: {error.message}; nothing was written", causes=error.causes) from error
    raise AssertionError("unreachable")


async def plan_manifests(
    client: ClusterClient, manifests: Sequence[Manifest], *, namespace: str = "default"
) -> list[Planned]:
    """What `apply_manifests` would make of each manifest: the master is asked, and writes nothing.

    Each is judged for itself (after those before it), so that all refusals are told; one is enough for nothing to be
    applied. Raises Invalid with every problem of every manifest that can be found without the master.
    """
    manifests = await find_definitions(client, manifests, namespace)
    desired = prepare(manifests, namespace)
    steps = [await _step(client, wanted) for wanted in desired]
    written = await client.write([step.operation for step in steps], cause=_CAUSE, dry_run=True)
    planned = []
    for manifest, wanted, step, outcome in zip(manifests, desired, steps, written.outcomes, strict=True):
        key = key_of(wanted.read(wanted.data))
        verb = "refused" if outcome.error is not None else "unchanged" if outcome.unchanged else step.verb
        planned.append(Planned(manifest, key, verb, step.live, outcome.object, outcome.error))
    return planned


def _is_cause(outcome: OperationOutcome) -> bool:
    """The operation failed by itself, not because another one did."""
    return outcome.error is not None and not isinstance(outcome.error, Aborted)


async def _step(client: ClusterClient, wanted: _Wanted) -> _Step:
    """The operation that makes the live object what the manifest says."""
    data, obj = wanted.data, wanted.read(wanted.data)
    key = key_of(obj)
    try:
        live = await client.get(type(obj), key.name, key.namespace)
    except NotFound:
        created = deepcopy(data)
        created["metadata"].setdefault("annotations", {})[LAST_APPLIED] = _compact(data)
        return _Step(operations.create(wanted.read(created)), "created", None)
    merge = three_way_patch(last_applied_of(live), data, object_to_json(live))
    patch = operations.patch(key_of(live), merge, uid=live.metadata.uid, version=live.metadata.resourceVersion)
    return _Step(patch, "configured", live)


def last_applied_of(live: AnyObject) -> dict[str, Any]:
    """What was applied last; nothing if the object was made another way."""
    try:
        data: dict[str, Any] = json.loads(live.metadata.annotations.get(LAST_APPLIED, "{}"))
        return data
    except ValueError:
        return {}


def three_way_patch(last: dict[str, Any], desired: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    """A merge patch (RFC 7386) from live to desired that also removes what last had and desired has not."""
    metadata = desired["metadata"]
    # It has annotations in any case, so of those that there are no more go than were applied.
    annotations = {**metadata.get("annotations", {}), LAST_APPLIED: _compact(desired)}
    patch = _diff(last, {**desired, "metadata": {**metadata, "annotations": annotations}}, live)
    for word in ("apiVersion", "kind"):
        patch.pop(word, None)
    return patch


def _diff(last: dict[str, Any], desired: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    for name in last:
        if name not in desired and name in live:
            patch[name] = None
    for name, value in desired.items():
        current = live.get(name)
        if isinstance(value, dict) and isinstance(current, dict):
            before = last.get(name)
            inner = _diff(before if isinstance(before, dict) else {}, value, current)
            if inner:
                patch[name] = inner
        elif value != current:
            patch[name] = value
    return patch


def _compact(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def deepcopy_object(obj: AnyObject) -> AnyObject:
    """A copy that may be changed."""
    copy = type(obj)()
    copy.CopyFrom(obj)  # type: ignore[arg-type]
    return copy


def _resolve_working_dirs(obj: AnyObject, source: str) -> None:
    if kind_of(obj).name == "Pod":
        spec = obj.spec  # type: ignore[union-attr]
    elif kind_of(obj).name == "ReplicationController":
        spec = obj.spec.template.spec  # type: ignore[union-attr]
    else:
        return
    base = Path.cwd() if source in ("-", "<stdin>") else Path(source).resolve().parent
    for container in spec.containers:  # type: ignore[union-attr]
        if container.workingDir.startswith("."):
            container.workingDir = str((base / container.workingDir).resolve())
