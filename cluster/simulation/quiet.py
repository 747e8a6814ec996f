"""When a simulated cluster counts as quiet: after nothing has changed for longer than whatever may still happen by the
passing of time alone. Pure.

Most of what runs in a cluster reacts: to a change, at once. What acts by the clock is here, each with the longest that
it may wait, as far as the state says that it is waiting at all:

    always                                a node's grace, the scheduler's back-off, the sweep of the garbage collector
    a node failed, its pods still there   its turn to be evicted, which comes at the rate of the timer profile
    pods under a taint NoExecute          as long as they tolerate it
    pods ready, and not yet available     minReadySeconds
    pods of a group, pending              as long as some of the group keep their places for the others
    pods that start or stop               asked of the simulated nodes themselves (`Agents.is_busy`)

Left out is what repeats itself in vain, as a pod that fits nowhere is tried again each minute; and the end of a fault
on purpose, which changes nothing here: simulated nodes and services have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cluster.api.meta import is_terminating
from cluster.api.pods import is_finished
from cluster.config.profiles import Profile
from cluster.controllers.garbage_collector import SWEEP_PERIOD_S
from cluster.controllers.taints import is_marked_for_eviction, no_execute, ready_status, stay_s
from cluster.pb.v1 import core_pb2 as core

MARGIN_S = 1.0
"""Retries, coalescing and the pauses between two looks are shorter."""


def least_s(profile: Profile) -> float:
    """How long nothing must have changed at least, whatever the state is."""
    return MARGIN_S + max(
        profile.node_monitor_grace_s + profile.node_monitor_period_s,
        profile.scheduler_backoff_max_s,
        # A node that is gone is asked for once more after the grace, at the next sweep.
        SWEEP_PERIOD_S + profile.node_monitor_grace_s,
    )


def patience_s(
    profile: Profile,
    nodes: Iterable[core.Node],
    pods_on: Callable[[str], Iterable[core.Pod]],
    controllers: Iterable[core.ReplicationController],
) -> float:
    """How long nothing must have changed. `pods_on(name)` are the pods bound to a node; "": those without one."""
    waits = [0.0]
    for node in nodes:
        if ready_status(node) == "":
            waits.append(profile.node_startup_grace_s)
        elif ready_status(node) != "True" and not is_marked_for_eviction(node):
            waits += (1 / profile.eviction_rate_per_s, 1 / profile.secondary_eviction_rate_per_s)
        taints = no_execute(node.spec.taints)
        if taints:
            staying = (pod for pod in pods_on(node.metadata.name) if not is_terminating(pod) and not is_finished(pod))
            waits += [stay for pod in staying if (stay := stay_s(pod, taints)) is not None]
    for controller in controllers:
        if controller.status.availableReplicas < controller.status.readyReplicas:
            waits.append(float(controller.spec.minReadySeconds))
    waits += [float(pod.spec.podGroup.scheduleTimeoutSeconds) for pod in pods_on("")]
    return max(least_s(profile), max(waits) + MARGIN_S)
