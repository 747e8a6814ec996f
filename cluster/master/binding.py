"""Binding: a pod gets its node, once. What is being deleted, has a node or waits at a gate does not. Pure."""

from __future__ import annotations

from cluster.api.conditions import set_condition
from cluster.api.errors import Conflict, Invalid, NotFound
from cluster.api.meta import Key, is_terminating
from cluster.api.pods import POD_SCHEDULED
from cluster.master.stage import Stage
from cluster.pb.v1 import core_pb2 as core


def bound(pod: core.Pod, node: str, stage: Stage) -> core.Pod:
    """The pod as it is on that node. Raises Conflict, Invalid, and NotFound for a node that is not there."""
    name = pod.metadata.name
    if is_terminating(pod):
        raise Conflict(f'pods "{name}" is being deleted, cannot be assigned to a host')
    if pod.spec.nodeName:
        raise Conflict(f'pods "{name}" is already assigned to node "{pod.spec.nodeName}"')
    if pod.spec.schedulingGates:
        held = ", ".join(gate.name for gate in pod.spec.schedulingGates)
        raise Conflict(f'pods "{name}" has non-empty .spec.schedulingGates: it cannot be bound while {held} is there')
    if not node:
        raise Invalid("node_name: is required to bind a pod")
    if stage.get(Key("Node", "", node)) is None:
        raise NotFound(f'nodes "{node}" not found')
    changed = core.Pod()
    changed.CopyFrom(pod)
    changed.spec.nodeName = node
    changed.status.ClearField("nominatedNodeName")  # it has a place now
    set_condition(changed.status, POD_SCHEDULED, "True", stage.now_s)
    return changed
