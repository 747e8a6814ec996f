"""Which pods have to leave a node that carries NoExecute taints, and when.

The time a pod may stay (`taints.stay_s`) counts from when we first saw it under such a taint, by our own monotonic
clock. If the taints go before the time is up, the pod stays and its time is forgotten; another taint later starts anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.api.meta import is_terminating
from cluster.api.pods import is_finished
from cluster.controllers.taints import stay_s
from cluster.pb.v1 import core_pb2 as core


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about the pods of one node."""

    leave: list[core.Pod] = field(default_factory=list)
    reprieved: list[core.Pod] = field(default_factory=list)
    """Were waiting for their time to be up, and may stay now."""
    next_s: float | None = None
    """Seconds until the next one's time is up; None if nobody is waiting."""


class Evictions:
    """Remembers since when each pod (by uid) lives under NoExecute taints, and whose deletion was accepted."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._leaving: set[str] = set()

    def judge(self, taints: Sequence[core.Taint], pods: Iterable[core.Pod], now: float) -> Verdict:
        """`taints`: the NoExecute taints of a node; `pods`: all that are bound to it; `now`: monotonic seconds."""
        leave: list[core.Pod] = []
        reprieved: list[core.Pod] = []
        waits: list[float] = []
        for pod in pods:
            uid = pod.metadata.uid
            if uid in self._leaving:
                continue
            if is_terminating(pod) or is_finished(pod):
                self._since.pop(uid, None)
                continue
            stay = stay_s(pod, taints)
            if stay is None:
                if self._since.pop(uid, None) is not None and not taints:
                    reprieved.append(pod)
                continue
            left_s = self._since.setdefault(uid, now) + stay - now
            if left_s <= 0:
                leave.append(pod)
            else:
                waits.append(left_s)
        return Verdict(leave, reprieved, min(waits, default=None))

    def accepted(self, pod_uid: str) -> None:
        """The deletion of the pod was accepted, though the cache does not show it yet."""
        self._leaving.add(pod_uid)

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        self._since.pop(pod_uid, None)
        self._leaving.discard(pod_uid)
