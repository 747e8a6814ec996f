"""Wishes that a pod ends, and how they reach its worker: it is deleted, is to end by some time, the node stops, is
short of something, cut off.

What becomes of a wish is decided by the pod's lifecycle (`node_agent.pod_lifecycle`).
"""

from __future__ import annotations

import contextlib

from cluster.actor.actor import ActorStopped, Ref
from cluster.pb.v1 import core_pb2 as core
from node_agent.pod_state import FailAsked, Limited, PodEvent, StopAsked


def stop_of(pod: core.Pod) -> StopAsked:
    """The wish that a deleted pod expresses."""
    return StopAsked(float(pod.metadata.deletionGracePeriodSeconds), remove=True)


async def tell(worker: Ref[PodEvent], wish: StopAsked | FailAsked | Limited) -> None:
    """Nothing happens if the worker has just crashed, with all that it ran: its pod is taken up anew, and then it is
    seen again that it is to go."""
    with contextlib.suppress(ActorStopped):
        await worker.tell(wish)
