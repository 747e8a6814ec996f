"""What all pods of one specification share: what they claim of a node, and how reports of the plain ones look. Pure.

A thousand replicas differ in name, address and times only. So what follows from a specification is worked out once, by
the very functions that a real agent uses, and a report of a pod is a copy of the shape's with those three filled in.

A shape is plain if nothing happens to its pods by themselves, once they run: no probe that takes its time, no hook, no
init container, no end. That is not a list of features: the lifecycle is played for a pod that stands for all, and if it
comes to rest with everything Running and Ready, and nothing due, it is plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from weakref import WeakValueDictionary

from cluster.api import hollow
from cluster.api.conditions import set_condition
from cluster.api.fit import Claim
from cluster.api.meta import to_time
from cluster.api.pods import RUNNING
from cluster.pb.v1 import core_pb2 as core
from node_agent.hollow.play import Script, container_id, play
from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_state import NEVER, Admitted, Note, PodState, Started
from node_agent.restart_policy import CrashBackoff
from node_agent.status import initial_state, make_status

CONDITIONS = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
"""In the order in which a pod gets them."""
_STAND_IN = "0"
"""Uid and address of the pod that stands for all."""


class Shape:
    """See the head of this file."""

    __slots__ = ("__weakref__", "claim", "notes", "problem", "running", "script", "spec", "starting")

    def __init__(self, pod: core.Pod, backoff: CrashBackoff, host_ip: str) -> None:
        """Of the pods that have this one's specification; what is said of its node is left out."""
        self.spec = core.PodSpec()
        self.spec.CopyFrom(pod.spec)
        self.spec.ClearField("nodeName")
        self.claim = Claim.of(pod)
        self.problem = ""
        """What is wrong with its annotations."""
        annotations = pod.metadata.annotations
        run_s, exit_code = None, 0
        try:
            run_s, exit_code = hollow.seconds_of(annotations), hollow.exit_code_of(annotations)
        except ValueError as error:
            self.problem = str(error)
        containers = {each.name: each for each in (*self.spec.initContainers, *self.spec.containers)}
        self.script = Script(containers, run_s, exit_code)
        self.starting: tuple[PodState, core.PodStatus] | None = None
        """State and report of a pod that was taken up and does not run yet; None: the shape is not plain."""
        self.running: tuple[PodState, core.PodStatus] | None = None
        """The same of one that runs."""
        self.notes: list[Note] = []
        """What people are told when a plain pod starts to run."""
        if not self.problem and not self.spec.dependsOn and not self.spec.HasField("activeDeadlineSeconds"):
            self._try_plain(backoff, host_ip)

    @property
    def is_plain(self) -> bool:
        """Nothing happens to its pods by themselves once they run."""
        return self.running is not None

    def _try_plain(self, backoff: CrashBackoff, host_ip: str) -> None:
        pod = core.Pod(metadata=core.ObjectMeta(uid=_STAND_IN), spec=self.spec)
        set_condition(pod.status, "PodScheduled", "True", 0.0)
        taken = play(_fresh(pod, backoff), Admitted(), self.script, now=0.0, now_s=0.0, delay=lambda: 1.0)
        starting = make_status(pod, taken.state, pod_ip=_STAND_IN, host_ip=host_ip, start_time_s=0.0, now_s=0.0)
        state, notes = taken.state, list(taken.notes)
        for later in taken.later:
            if not isinstance(later.event, Started):
                return
            played = play(state, later.event, self.script, now=0.0, now_s=0.0, delay=lambda: 0.0)
            if played.later:
                return
            state = played.state
            notes += played.notes
        pod.status.CopyFrom(starting)
        running = make_status(pod, state, pod_ip=_STAND_IN, host_ip=host_ip, start_time_s=0.0, now_s=0.0)
        says = [(condition.type, condition.status) for condition in running.conditions]
        is_well = running.phase == RUNNING and says == [(type, "True") for type in CONDITIONS]
        if is_well and next_deadline(state) == NEVER:
            self.starting, self.running, self.notes = (taken.state, starting), (state, running), notes

    def plain_state(self, uid: str, namespace: str, name: str, started_s: float, started_mono_s: float) -> PodState:
        """Where the lifecycle of a plain pod is: taken up, and, unless `started_s` is 0, running since then;
        `started_mono_s` is the same moment, monotonic."""
        stand_in = self.running if started_s else self.starting
        assert stand_in is not None, "this shape is not plain"
        state = stand_in[0]
        containers = state.containers
        if started_s:
            containers = tuple(
                replace(
                    c,
                    started_at_s=started_s,
                    started_mono_s=started_mono_s,
                    container_id=container_id(uid, c.name, c.run),
                )
                for c in containers
            )
        return replace(state, uid=uid, namespace=namespace, name=name, containers=containers)

    def plain_report(self, uid: str, ip: str, scheduled_s: float, start_s: float, started_s: float) -> core.PodStatus:
        """The status of a plain pod. All times in seconds since 1970: when it was bound, taken up, and seemed to
        start (0: not yet)."""
        stand_in = self.running if started_s else self.starting
        assert stand_in is not None, "this shape is not plain"
        status = core.PodStatus()
        status.CopyFrom(stand_in[1])
        status.podIP = ip
        status.podIPs[0].ip = ip
        start = to_time(start_s)
        status.startTime.CopyFrom(start)
        ready = to_time(started_s) if started_s else start
        for condition, time in zip(status.conditions, (to_time(scheduled_s), start, ready, ready), strict=True):
            condition.lastTransitionTime.CopyFrom(time)
        if started_s:
            for container in status.containerStatuses:
                container.state.running.startedAt.CopyFrom(ready)
                container.containerID = container_id(uid, container.name, 0)
        return status


def _fresh(pod: core.Pod, backoff: CrashBackoff) -> PodState:
    return initial_state(pod, backoff, has_images=True)


class Shapes:
    """The shapes of the pods that there are: forgotten with the last of them."""

    def __init__(self, backoff: CrashBackoff, host_ip: str) -> None:
        self.backoff = backoff
        self.host_ip = host_ip
        self._known: WeakValueDictionary[tuple[bytes, str | None, str | None], Shape] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Shape]:
        return iter(list(self._known.values()))

    def of(self, pod: core.Pod) -> Shape:
        """The shape of a pod."""
        spec = core.PodSpec()
        spec.CopyFrom(pod.spec)
        spec.ClearField("nodeName")
        annotations = pod.metadata.annotations
        key = (
            spec.SerializeToString(deterministic=True),
            annotations.get(hollow.RUN_SECONDS),
            annotations.get(hollow.EXIT_CODE),
        )
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(pod, self.backoff, self.host_ip)
        return shape
