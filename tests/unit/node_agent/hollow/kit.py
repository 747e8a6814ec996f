"""A stage without a master: what hollow nodes would write, remember and say, in time that a test lets pass."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from cluster.api.conditions import set_condition
from cluster.api.quantities import quantity
from cluster.pb.v1 import core_pb2 as core
from node_agent.hollow.node import HollowNode
from node_agent.hollow.pod import HollowPod
from node_agent.hollow.shape import Shapes
from node_agent.pod_state import DependenciesChanged, Note, PodEvent
from node_agent.restart_policy import CrashBackoff
from tests.unit.node_agent.kit import make_pod

BACKOFF = CrashBackoff(initial_s=10, max_s=300, reset_s=600)
HOST = "127.7.0.250"
CIDR = "240.0.0.0/25"
WALL_S = 1_700_000_000.0
BOUND_S = 1_699_999_990.0
ROOM = {"cpu": 4000, "memory": 1 << 34, "pods": 10, "gpu": 2}


def bound(name: str = "web", *, uid: str = "", node: str = "h-1", **wishes: Any) -> core.Pod:
    """A pod as its node first sees it: bound, and nothing else."""
    pod = make_pod(name, uid=uid or f"uid-{name}", node=node, **wishes)
    pod.status.phase, pod.status.qosClass = "Pending", "BestEffort"
    set_condition(pod.status, "PodScheduled", "True", BOUND_S)
    return pod


def asking(pod: core.Pod, **requests: str) -> core.Pod:
    """The same pod, which asks for something."""
    for name, value in requests.items():
        pod.spec.containers[0].resources.requests[name].CopyFrom(quantity(value))
    return pod


class FakeStage:
    """Implements `node_agent.hollow.node.Stage`."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.shapes = Shapes(BACKOFF, HOST)
        self.delay_s = delay_s
        self.reports: list[core.Pod] = []
        """What was reported, in order: at once, unless it is held."""
        self.removed: list[str] = []
        self.notes: list[tuple[str, str]] = []
        self.waiting: dict[str, Callable[[tuple[str, ...]], None]] = {}
        self.held = False
        """Reports are on their way, and not there yet."""
        self._pending: dict[str, HollowPod] = {}
        self._now = 1000.0
        self._agenda: list[tuple[float, int, HollowNode, HollowPod, PodEvent | None]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return WALL_S + self._now - 1000.0

    def start_delay(self) -> float:
        return self.delay_s

    def report(self, pod: HollowPod, *, remove: bool = False) -> None:
        self._pending[pod.uid] = pod
        if remove:
            self.removed.append(pod.uid)
        if not self.held:
            self.flush()

    def flush(self) -> None:
        """Reports arrive."""
        pending, self._pending = self._pending, {}
        self.reports += [pod.report(self.wall()) for pod in pending.values()]

    def is_reporting(self, uid: str) -> bool:
        return uid in self._pending

    def forget(self, pod: HollowPod) -> None:
        self._pending.pop(pod.uid, None)

    def later(self, at: float, node: HollowNode, pod: HollowPod, event: PodEvent | None) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), node, pod, event))

    def note(self, pod: HollowPod, note: Note) -> None:
        self.notes.append((note.reason, note.message))

    def wait_for_dependencies(self, node: HollowNode, pod: HollowPod, names: Sequence[str]) -> None:
        self.waiting[pod.uid] = lambda missing: node.due(pod, DependenciesChanged(missing))

    def let_pass(self, seconds: float) -> None:
        """Time passes, and what is due happens."""
        end = self._now + seconds
        while self._agenda and self._agenda[0][0] <= end:
            at, _, node, pod, event = heapq.heappop(self._agenda)
            self._now = max(self._now, at)
            node.due(pod, event)
        self._now = end

    @property
    def status(self) -> core.PodStatus:
        """The last that was reported."""
        return self.reports[-1].status


class Scene:
    """A node on a stage, and its watch."""

    def __init__(self, delay_s: float = 0.0, *, cidr: str = CIDR) -> None:
        self.stage = FakeStage(delay_s)
        self.node = HollowNode("h-1", self.stage, ROOM, {"disk": "ssd"})
        self.node.set_addresses(cidr)

    def tell(self, *pods: core.Pod, deleted: bool = False) -> None:
        """The watch says that these are so now, or gone."""
        for pod in pods:
            if deleted:
                self.node.removed(pod.metadata.uid)
            else:
                self.node.changed(pod)

    def delete(self, pod: core.Pod, grace_s: int = 30) -> core.Pod:
        """The pod as it is after a delete, told to its node."""
        doomed = core.Pod()
        doomed.CopyFrom(pod)
        doomed.metadata.deletionTimestamp.seconds = int(self.stage.wall()) + grace_s
        doomed.metadata.deletionGracePeriodSeconds = grace_s
        self.tell(doomed)
        return doomed

    def reported(self, pod: core.Pod) -> core.Pod:
        """The pod with the status that was reported last."""
        after = core.Pod()
        after.CopyFrom(pod)
        after.status.CopyFrom(
            next(each.status for each in reversed(self.stage.reports) if each.metadata.uid == pod.metadata.uid)
        )
        return after


def ready(status: core.PodStatus) -> str:
    """What the condition Ready says."""
    return next((condition.status for condition in status.conditions if condition.type == "Ready"), "")
