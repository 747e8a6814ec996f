"""For how long a pod may be active: activeDeadlineSeconds, counted from when its node took it up.

It is the one thing in the specification of a pod that runs which a node carries out when it changes: the master lets it
be set, and become shorter. What was reckoned once stays as it is, whatever becomes of the calendar: a change moves the
deadline by the difference. Pure.
"""

from __future__ import annotations

from cluster.pb.v1 import core_pb2 as core
from node_agent.pod_state import NEVER, Limited, PodState


def active_deadline(spec: core.PodSpec, start_s: float, *, now: float, now_s: float) -> float:
    """When a pod is to be ended that was taken up at `start_s`, in seconds since 1970, as `now_s`; monotonic, as
    `now`."""
    return now + start_s + spec.activeDeadlineSeconds - now_s if spec.HasField("activeDeadlineSeconds") else NEVER


def limited(
    state: PodState, mine: core.PodSpec, wanted: core.PodSpec, start_s: float, *, now: float, now_s: float
) -> Limited | None:
    """What is to be told to the lifecycle of a pod whose specification was `mine` and is `wanted` now; None if nothing
    of this has changed. Times as above."""
    name = "activeDeadlineSeconds"
    if not wanted.HasField(name) or (
        mine.HasField(name) and mine.activeDeadlineSeconds == wanted.activeDeadlineSeconds
    ):
        return None
    if state.active_deadline < NEVER:
        return Limited(state.active_deadline + wanted.activeDeadlineSeconds - mine.activeDeadlineSeconds)
    return Limited(active_deadline(wanted, start_s, now=now, now_s=now_s))
