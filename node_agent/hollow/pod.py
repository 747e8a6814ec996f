"""One pod that is only played: three numbers while it does what most do, a whole lifecycle when it does not. Pure.

    plain     its shape is plain, and so was what it came with: when it was taken up, and since when it seems to run.
              State and report are worked out again from these when they are asked for
    active    something happens to it (it ends, it is deleted, it takes its time): it has the state of a real pod, and
              the report that was made last, whose transition times go on

A plain pod becomes active when it is needed, and stays so. Memory per plain pod: about half a kilobyte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cluster.api.fit import Rejection
from cluster.api.meta import from_time
from cluster.api.pods import PENDING
from cluster.pb.v1 import core_pb2 as core
from node_agent.adoption import adopt
from node_agent.hollow.play import Played, play
from node_agent.hollow.shape import Shape
from node_agent.pod_lifecycle import next_deadline
from node_agent.pod_state import NEVER, Phase, PodEvent, PodState
from node_agent.restart_policy import CrashBackoff
from node_agent.run_ids import RunId
from node_agent.runtime.interface import Adopted, Started
from node_agent.status import initial_state, make_status, start_time_of


class Active:
    """What a pod has that is not plain."""

    __slots__ = ("armed_at", "holds", "rejection", "state", "status", "told_grace_s")

    def __init__(self, state: PodState, status: bytes) -> None:
        self.state = state
        self.status = status
        """The report made last, encoded."""
        self.rejection: Rejection | None = None
        self.holds = True
        """It counts among what its node's pods hold."""
        self.armed_at = NEVER
        """When it is looked at next because of a deadline, monotonic."""
        self.told_grace_s: float | None = None
        """The grace period with which it was last told to end because it is deleted."""


class HollowPod:
    """See the head of this file. What it holds of its node is the node's business."""

    __slots__ = (
        "active",
        "host_ip",
        "ip",
        "name",
        "namespace",
        "reported",
        "scheduled_s",
        "shape",
        "start_s",
        "started_mono_s",
        "started_s",
        "uid",
    )

    def __init__(self, pod: core.Pod, shape: Shape, ip: str, host_ip: str, backoff: CrashBackoff, now_s: float) -> None:
        """Takes a pod up: `ip` is its address, empty if it is rejected."""
        meta = pod.metadata
        self.uid, self.namespace, self.name = meta.uid, meta.namespace, meta.name
        self.shape, self.ip, self.host_ip = shape, ip, host_ip
        self.start_s = start_time_of(pod) or now_s
        self.started_s = self.started_mono_s = self.scheduled_s = 0.0
        self.reported = 0
        """Tells whether a status is the one that was reported last."""
        self.active: Active | None = None
        if ip and shape.is_plain and _is_as_bound(pod):
            self.scheduled_s = from_time(pod.status.conditions[0].lastTransitionTime)
        else:
            self.active = Active(initial_state(pod, backoff, has_images=True), pod.status.SerializeToString())

    @property
    def is_over(self) -> bool:
        """Every container has ended for good, or none will ever run."""
        active = self.active
        if active is None:
            return False
        return active.rejection is not None or all(c.phase is Phase.ENDED for c in active.state.containers)

    def identity(self) -> core.ObjectMeta:
        """Which pod it is."""
        return core.ObjectMeta(name=self.name, namespace=self.namespace, uid=self.uid)

    # --- what happens

    def run_plain(self, now: float, now_s: float) -> None:
        """A plain pod seems to run from now on; `now` is monotonic, `now_s` in seconds since 1970."""
        assert self.active is None
        self.started_mono_s, self.started_s = now, now_s

    def activate(self) -> Active:
        """Its whole lifecycle, from now on."""
        if self.active is None:
            state = self.shape.plain_state(self.uid, self.namespace, self.name, self.started_s, self.started_mono_s)
            self.active = Active(state, self._plain_report().SerializeToString())
        return self.active

    def take_over(self, pod: core.Pod, now: float, now_s: float) -> list[PodEvent]:
        """Goes on with a pod that an earlier life of this process may have played: what was said to run seems to run
        on. Returns what has happened meanwhile."""
        active = self.active
        assert active is not None, "a plain pod has no past"
        known = {each.name: each for each in (*pod.status.initContainerStatuses, *pod.status.containerStatuses)}
        runs = {
            RunId(self.uid, c.name, c.run): Adopted(Started(0, 0, c.started_at_s), None)
            for c in active.state.containers
            if c.phase is Phase.RUNNING and c.ended is None
        }
        state, adoptions = adopt(active.state, runs, same_boot=False, now=now, now_s=now_s)
        containers = (
            replace(c, ready=known[c.name].ready) if c.phase is Phase.RUNNING and c.ended is None else c
            for c in state.containers
        )
        active.state = replace(state, containers=tuple(containers))
        return [event for adoption in adoptions for event in adoption.events]

    def play(self, event: PodEvent, *, now: float, now_s: float, delay: Callable[[], float]) -> Played:
        """What comes of an event; the pod must be active. See `node_agent.hollow.play`."""
        active = self.active
        assert active is not None
        played = play(active.state, event, self.shape.script, now=now, now_s=now_s, delay=delay)
        active.state = played.state
        return played

    def next_look(self) -> float | None:
        """When it has to be looked at because of a deadline, monotonic, if nobody does so by then already."""
        active = self.active
        if active is None:
            return None
        due = next_deadline(active.state)
        if due >= active.armed_at:
            return None
        active.armed_at = due
        return due

    # --- reports

    def report(self, now_s: float) -> core.Pod:
        """Identity and status as they are now: to be written, and to be told from what others write."""
        active = self.active
        if active is None:
            status = self._plain_report()
        else:
            before = core.Pod(metadata=self.identity(), spec=self.shape.spec)
            before.status.ParseFromString(active.status)
            status = make_status(
                before,
                active.state,
                pod_ip=self.ip,
                host_ip=self.host_ip,
                start_time_s=self.start_s,
                now_s=now_s,
                rejection=active.rejection,
            )
            active.status = status.SerializeToString(deterministic=True)
        self.reported = _digest(status)
        return core.Pod(metadata=self.identity(), status=status)

    def is_reported(self, status: core.PodStatus) -> bool:
        """The status is the one that was reported last."""
        return _digest(status) == self.reported

    def _plain_report(self) -> core.PodStatus:
        return self.shape.plain_report(self.uid, self.ip, self.scheduled_s, self.start_s, self.started_s)


def _digest(status: core.PodStatus) -> int:
    return hash(status.SerializeToString(deterministic=True))


def _is_as_bound(pod: core.Pod) -> bool:
    """Nobody has said anything of it yet but that it is bound."""
    status = pod.status
    if status.phase != PENDING or status.containerStatuses or status.podIP or len(status.conditions) != 1:
        return False
    condition = status.conditions[0]
    return (
        condition.type == "PodScheduled" and condition.status == "True" and not (condition.reason or condition.message)
    )
