"""Conditions: what a status says about one aspect of an object, since when, and why.

All kinds' conditions have type, status ("True", "False", "Unknown"), reason, message and lastTransitionTime, so these
functions take any status. The one rule that is easy to get wrong lives here: lastTransitionTime moves only when the
status changes, never when only the reason or the message does.
"""

from __future__ import annotations

from typing import Any, Protocol

from cluster.api.meta import to_time
from cluster.pb.v1 import core_pb2 as core

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


class HasConditions(Protocol):
    """A status with a repeated field `conditions`: of a pod, a node, a replication controller."""

    @property
    def conditions(self) -> Any: ...


def get_condition(status: HasConditions, type: str) -> Any | None:
    """The condition of that type (the status' own message, not a copy), or None."""
    for condition in status.conditions:
        if condition.type == type:
            return condition
    return None


def set_condition(
    status: HasConditions, type: str, value: str, now_s: float, reason: str = "", message: str = ""
) -> bool:
    """Sets the condition, adding it at the end if it is new. True if anything changed.

    `now_s` (seconds since 1970) becomes lastTransitionTime if the condition is new or its status changes.
    """
    condition = get_condition(status, type)
    if condition is None:
        condition = status.conditions.add(type=type)
    elif (condition.status, condition.reason, condition.message) == (value, reason, message):
        return False
    if condition.status != value:
        condition.status = value
        condition.lastTransitionTime.CopyFrom(to_time(now_s))
    for field, text in (("reason", reason), ("message", message)):
        if text:
            setattr(condition, field, text)
        else:
            condition.ClearField(field)
    return True


def is_condition_true(status: HasConditions, type: str) -> bool:
    """Whether the condition is there and its status is "True"."""
    condition = get_condition(status, type)
    return condition is not None and condition.status == TRUE


def is_pod_ready(pod: core.Pod) -> bool:
    """The pod says that it is ready to serve. (Whether it is being deleted is another question.)"""
    return is_condition_true(pod.status, "Ready")


def is_node_ready(node: core.Node) -> bool:
    """The node says that it can run pods, and was heard of lately."""
    return is_condition_true(node.status, "Ready")
