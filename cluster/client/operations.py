"""Builders of write operations: the words of a `ClusterClient.write`."""

from __future__ import annotations

import json
from typing import Any

from cluster.api.kinds import AnyObject, put_in
from cluster.api.meta import Key
from cluster.pb.v1 import cluster_pb2 as wire


def create(obj: AnyObject) -> wire.Operation:
    """Create an object; metadata.generateName instead of a name lets the master choose one."""
    operation = wire.Operation()
    put_in(operation.create.object, obj)
    return operation


def update(obj: AnyObject) -> wire.Operation:
    """Replace spec and metadata; with metadata.resourceVersion set, only if that is still the version."""
    operation = wire.Operation()
    put_in(operation.update.object, obj)
    return operation


def update_status(obj: AnyObject) -> wire.Operation:
    """Replace the status; with metadata.resourceVersion set, only if that is still the version."""
    operation = wire.Operation()
    put_in(operation.update_status.object, obj)
    return operation


def patch(
    key: Key, merge_patch: dict[str, Any], *, uid: str = "", version: str = "", status: bool = False
) -> wire.Operation:
    """Apply a JSON merge patch (RFC 7386), for example {"spec": {"unschedulable": True}}."""
    operation = wire.PatchOperation(
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        merge_patch=json.dumps(merge_patch).encode(),
        preconditions=_preconditions(uid, version),
    )
    if status:
        operation.status = True
    return wire.Operation(patch=operation)


def bind(key: Key, node_name: str, *, uid: str = "", version: str = "") -> wire.Operation:
    """Place a pod on a node."""
    return wire.Operation(
        bind=wire.BindOperation(
            namespace=key.namespace, name=key.name, node_name=node_name, preconditions=_preconditions(uid, version)
        )
    )


def delete(
    key: Key, *, uid: str = "", version: str = "", grace_period_s: int | None = None, propagation: str = ""
) -> wire.Operation:
    """Delete an object; for pods, after a grace period (None: the pod's own)."""
    operation = wire.DeleteOperation(
        kind=key.kind, namespace=key.namespace, name=key.name, preconditions=_preconditions(uid, version)
    )
    if grace_period_s is not None:
        operation.grace_period_seconds = grace_period_s
    if propagation:
        operation.propagation_policy = propagation
    return wire.Operation(delete=operation)


def evict(key: Key, *, uid: str = "", version: str = "", grace_period_s: int | None = None) -> wire.Operation:
    """Delete a pod as far as its disruption budget allows, after a grace period (None: the pod's own).

    The outcome is TooManyRequests while the budget allows none; its causes name the budget.
    """
    operation = wire.EvictOperation(namespace=key.namespace, name=key.name, preconditions=_preconditions(uid, version))
    if grace_period_s is not None:
        operation.grace_period_seconds = grace_period_s
    return wire.Operation(evict=operation)


def by_manager(operation: wire.Operation, name: str, *, subresource: str = "", applied: bool = False) -> wire.Operation:
    """The operation, in whose name it changes fields, for metadata.managedFields; see FieldManager in cluster.proto."""
    operation.manager.name = name
    if subresource:
        operation.manager.subresource = subresource
    if applied:
        operation.manager.applied = True
    return operation


def _preconditions(uid: str, version: str) -> wire.Preconditions | None:
    if not uid and not version:
        return None
    return wire.Preconditions(uid=uid or None, resource_version=version or None)
