"""A Scale, Kubernetes' small view of whatever has a number of things: how many there shall be, are, and which they are.

Of a replication controller these are fields of its own; of kinds that users define, the definition says by paths where
they stand. Pure.
"""

from __future__ import annotations

from typing import Any

from cluster.api.errors import Internal, Invalid
from cluster.api.json import to_json
from cluster.api.kinds import AnyObject
from cluster.api.labels import selector_from_map
from cluster.kubernetes import views
from cluster.kubernetes.resources import Resource
from cluster.pb.v1 import core_pb2 as core


def scale_of(obj: AnyObject, row: Resource) -> dict[str, Any]:
    """The Scale of an object. Raises Internal for one that does not say how many there shall be."""
    meta = obj.metadata
    shown = core.ObjectMeta(
        name=meta.name, namespace=meta.namespace, uid=meta.uid, resourceVersion=meta.resourceVersion
    )
    if meta.HasField("creationTimestamp"):
        shown.creationTimestamp.CopyFrom(meta.creationTimestamp)
    if isinstance(obj, core.ReplicationController):
        wanted, there = obj.spec.replicas, obj.status.replicas
        selector = str(selector_from_map(obj.spec.selector))
    else:
        wanted, there, selector = _by_paths(obj, row)
    status: dict[str, Any] = {"replicas": there}
    if selector or row.custom is None:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": to_json(shown),
        "spec": {"replicas": wanted},
        "status": status,
    }


def _by_paths(obj: AnyObject, row: Resource) -> tuple[int, int, str]:
    assert row.custom is not None
    paths = row.custom.scale
    assert paths is not None
    data = views.plain(obj, row)
    wanted = _at(data, paths.wanted)
    if not _is_number(wanted):
        raise Internal(f'the spec replicas field ".{".".join(paths.wanted)}" does not exist')
    there = _at(data, paths.there)
    selector = _at(data, paths.selector) if paths.selector else ""
    return wanted, there if _is_number(there) else 0, selector if isinstance(selector, str) else ""


def with_replicas(data: dict[str, Any], row: Resource, replicas: int) -> dict[str, Any]:
    """The object as JSON, with another number; `data` stays as it is. Raises Invalid if there is no place for it."""
    steps = _steps(row)
    changed = dict(data)
    place = changed
    for step in steps[:-1]:
        inner = place.get(step)
        if inner is not None and not isinstance(inner, dict):
            raise Invalid(f'.{".".join(steps)}: there is no place for it: "{step}" is not an object')
        place[step] = dict(inner or {})
        place = place[step]
    place[steps[-1]] = replicas
    return changed


def has_replicas(data: dict[str, Any], row: Resource) -> bool:
    """Whether the object, as JSON, says how many there shall be."""
    return _at(data, _steps(row)) is not None


def _steps(row: Resource) -> tuple[str, ...]:
    """Where it says so."""
    if row.custom is not None and row.custom.scale is not None:
        return row.custom.scale.wanted
    return ("spec", "replicas")


def _at(data: Any, steps: tuple[str, ...]) -> Any:
    for step in steps:
        if not isinstance(data, dict):
            return None
        data = data.get(step)
    return data


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
