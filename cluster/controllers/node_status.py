"""What is written about a node that has fallen silent, and about its pods.

The node's own conditions were its agent's word. When the agent has not been heard of for too long, nobody knows: the
conditions become Unknown (Kubernetes: NodeStatusUnknown). Its pods may well be running, but nobody should send them
traffic: their Ready condition becomes False, which takes them out of all endpoints.
"""

from __future__ import annotations

from cluster.api.conditions import FALSE, UNKNOWN, get_condition, set_condition
from cluster.pb.v1 import core_pb2 as core

NODE_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def silent_node(node: core.Node, now_s: float) -> core.Node | None:
    """A copy of the node with its conditions Unknown, or None if they are so already. `now_s`: wall clock."""
    changed = False
    copy = core.Node()
    copy.CopyFrom(node)
    for type in NODE_CONDITIONS:
        condition = get_condition(copy.status, type)
        if condition is not None and condition.status == UNKNOWN:
            continue
        if condition is None:
            reason, message = "NodeStatusNeverUpdated", "The node agent never posted node status."
        else:
            reason, message = "NodeStatusUnknown", "The node agent stopped posting node status."
        changed |= set_condition(copy.status, type, UNKNOWN, now_s, reason, message)
    return copy if changed else None


def unready_pod(pod: core.Pod, now_s: float) -> core.Pod | None:
    """A copy of the pod that is not ready any more, or None if it is not ready anyway. `now_s`: wall clock."""
    condition = get_condition(pod.status, "Ready")
    if condition is None or condition.status == FALSE:
        return None
    copy = core.Pod()
    copy.CopyFrom(pod)
    # The agent's own reason and message, if any, no longer apply.
    set_condition(copy.status, "Ready", FALSE, now_s, "NodeNotReady", "The node of the pod is not heard of.")
    return copy
