"""One node that is only played: which pods it has, what they hold of it, which addresses they have. Pure.

It hears what its watch says of the pods bound to it, as a real agent does, and is as level-triggered:

    master says                 played here    what happens
    bound to us                 nothing        admit it (fit), give it an address, play it
    bound to us, being deleted  a pod          it is told to end; when nothing is left of it, the object is removed
    another status than ours    a pod          ours is written again: someone else spoke for us
    nothing                     a pod          it was removed by force: forgotten

What is to be written, remembered for later or said to people goes to a `Stage`, which all nodes of a process share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cluster.api.fit import Held, Rejection, admit
from cluster.api.meta import is_terminating
from cluster.api.pod_addresses import Block
from cluster.api.pods import CPU, MEMORY, PODS, is_finished
from cluster.api.quantities import format_bytes, format_milli
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from node_agent.active_limit import active_deadline, limited
from node_agent.cut_off import is_cut_off
from node_agent.heartbeat import make_heartbeat
from node_agent.hollow.play import Later, Played, resumed, started
from node_agent.hollow.pod import HollowPod
from node_agent.hollow.shape import Shapes
from node_agent.node_object import STORAGE
from node_agent.pod_state import (
    NEVER,
    Admitted,
    DependenciesChanged,
    FailAsked,
    Note,
    Phase,
    PodEvent,
    StopAsked,
    Ticked,
)


class Stage(Protocol):
    """What all nodes of a process share."""

    shapes: Shapes

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def wall(self) -> float:
        """Seconds since 1970."""
        ...

    def start_delay(self) -> float:
        """How long the next container takes to start, in seconds."""
        ...

    def report(self, pod: HollowPod, *, remove: bool = False) -> None:
        """The pod's status has changed; `remove`: it is over, and the object can go."""
        ...

    def is_reporting(self, uid: str) -> bool:
        """A report of this pod is on its way."""
        ...

    def forget(self, pod: HollowPod) -> None:
        """Nothing is to be written of it any more."""
        ...

    def later(self, at: float, node: HollowNode, pod: HollowPod, event: PodEvent | None) -> None:
        """At that time, monotonic, `node.due(pod, event)` is to be called."""
        ...

    def note(self, pod: HollowPod, note: Note) -> None:
        """Something that people want to see."""
        ...

    def wait_for_dependencies(self, node: HollowNode, pod: HollowPod, names: Sequence[str]) -> None:
        """`node.due(pod, DependenciesChanged(...))` is to be called whenever that changes, until there are none."""
        ...


class HollowNode:
    """See the head of this file."""

    __slots__ = (
        "_allocatable",
        "_beat",
        "_beat_is_old",
        "_block",
        "_held",
        "_stage",
        "_waiting",
        "labels",
        "name",
        "pods",
        "uid",
    )

    def __init__(self, name: str, stage: Stage, allocatable: Mapping[str, int], labels: Mapping[str, str]) -> None:
        """`allocatable` in the units of `cluster.api.pods.amount`."""
        self.name = name
        self.labels = labels
        """As the Node has them; until that is known, as they are registered."""
        self.uid = ""
        """Of the Node; empty while there is none."""
        self.pods: dict[str, HollowPod] = {}
        """By uid: those taken up, until the object is gone; admission bounds those that are not over."""
        self._stage, self._allocatable = stage, allocatable
        self._held = Held()
        self._block: Block | None = None
        self._waiting: dict[str, core.Pod] = {}  # by uid: pods that came before the node had addresses
        self._beat, self._beat_is_old = make_heartbeat(name, 0, {}), True

    def set_addresses(self, cidr: str) -> None:
        """The Node's podCIDR. Pods that have waited for it are taken up."""
        if cidr and (self._block is None or self._block.cidr != cidr):
            self._block = Block(cidr)
            for mine in self.pods.values():
                self._block.mark(mine.ip)
            waiting, self._waiting = self._waiting, {}
            for pod in waiting.values():
                self.changed(pod)

    def heartbeat(self, sequence: int) -> wire.NodeHeartbeat:
        """What the node says of itself: it seems to use what its pods have asked for."""
        if self._beat_is_old:
            held, self._beat_is_old = self._held, False
            usage = {
                CPU: format_milli(held.used(CPU)),
                MEMORY: format_bytes(held.used(MEMORY)),
                STORAGE: format_bytes(held.used(STORAGE)),
                PODS: str(held.pods),
            }
            self._beat = make_heartbeat(self.name, 0, usage)
        self._beat.sequence = sequence
        return self._beat

    # --- what the watch of its pods says

    def replace(self, pods: Sequence[core.Pod]) -> None:
        """These are all the pods that are bound to it."""
        there = {pod.metadata.uid for pod in pods}
        for uid in [uid for uid in (*self.pods, *self._waiting) if uid not in there]:
            self.removed(uid)
        for pod in pods:
            self.changed(pod)

    def changed(self, pod: core.Pod) -> None:
        """This is a pod that is bound to it now."""
        uid = pod.metadata.uid
        mine = self.pods.get(uid)
        if mine is None:
            if self._block is None:
                self._waiting[uid] = pod
            elif not is_finished(pod):
                self._take_up(pod)
            return
        self._limit(mine, pod)
        if is_terminating(pod):
            self._ask_to_stop(mine, pod)
        elif not mine.is_reported(pod.status) and not self._stage.is_reporting(uid):
            self._stage.report(mine)

    def removed(self, uid: str) -> None:
        """There is no such pod any more."""
        self._waiting.pop(uid, None)
        pod = self.pods.pop(uid, None)
        if pod is not None:
            self._stage.forget(pod)
            self._let_go(pod)
            if self._block is not None:
                self._block.give_back(pod.ip)

    # --- playing

    def due(self, pod: HollowPod, event: PodEvent | None) -> None:
        """What was to happen to a pod happens now (None: a plain one starts to run); nothing, if the pod is gone."""
        if self.pods.get(pod.uid) is not pod:
            return
        active = pod.active
        if event is not None:
            if active is not None and isinstance(event, Ticked):
                active.armed_at = NEVER
            self._play(pod, event)
        elif active is None:
            self._run_plain(pod)
        else:  # it is plain no more: somebody has asked it to end before it had started
            now_s = self._stage.wall()
            for c in active.state.containers:
                if c.phase is Phase.STARTING:
                    self._play(pod, started(pod.uid, c.name, c.run, now_s))

    def cut_off(self, silent_s: float) -> None:
        """Nobody has heard of the master for so long: ends those pods whose spec says that they must not run then."""
        for pod in list(self.pods.values()):
            spec = pod.shape.spec
            if is_cut_off(spec, silent_s) and not pod.is_over:
                active = pod.activate()
                if active.state.stop is None:
                    limit_s = spec.stopAfterDisconnectSeconds
                    why = f"The node agent has not reached the master for more than {limit_s} seconds"
                    self._play(pod, FailAsked("StoppedAfterDisconnect", why, active.state.grace_s))

    def _take_up(self, pod: core.Pod) -> None:
        stage, block = self._stage, self._block
        assert block is not None
        shape = stage.shapes.of(pod)
        rejection = admit(shape.claim, self._held, self._allocatable, self.name, self.labels)
        if shape.problem:
            rejection = Rejection("InvalidAnnotation", f"Pod was rejected: {shape.problem}")
        ip = "" if rejection else block.take(pod.status.podIP)
        if not rejection and not ip:
            rejection = Rejection("OutOfpods", f"Pod was rejected: no address is left in {block.cidr}")
        mine = HollowPod(pod, shape, ip, stage.shapes.host_ip, stage.shapes.backoff, stage.wall())
        self.pods[mine.uid] = mine
        if rejection is not None:
            active = mine.activate()
            active.rejection, active.holds = rejection, False
            stage.note(mine, Note("Warning", rejection.reason, rejection.message))
            stage.report(mine)
        else:
            self._hold(mine)
            if mine.active is None:
                self._begin_plain(mine)
            else:
                self._begin(mine, pod)
        if is_terminating(pod):
            self._ask_to_stop(mine, pod)

    def _begin_plain(self, mine: HollowPod) -> None:
        stage = self._stage
        delay_s = stage.start_delay()
        if delay_s <= 0:
            self._run_plain(mine)
            return
        stage.later(stage.now() + delay_s, self, mine, None)
        stage.report(mine)

    def _run_plain(self, pod: HollowPod) -> None:
        pod.run_plain(self._stage.now(), self._stage.wall())
        for note in pod.shape.notes:
            self._stage.note(pod, note)
        self._stage.report(pod)

    def _begin(self, mine: HollowPod, pod: core.Pod) -> None:
        stage, active = self._stage, mine.active
        assert active is not None
        for event in mine.take_over(pod, stage.now(), stage.wall()):
            self._play(mine, event)
        names = tuple(pod.spec.dependsOn)
        if names and all(c.phase is Phase.WAITING for c in active.state.containers):
            self._play(mine, DependenciesChanged(names))
            stage.wait_for_dependencies(self, mine, names)
        taken_over = list(resumed(active.state, mine.shape.script, stage.wall()))
        until = active_deadline(mine.shape.spec, mine.start_s, now=stage.now(), now_s=stage.wall())
        self._play(mine, Admitted(until))
        self._remember(mine, taken_over)

    def _limit(self, mine: HollowPod, pod: core.Pod) -> None:
        if mine.is_over or not pod.spec.HasField("activeDeadlineSeconds"):
            return
        stage, state, spec = self._stage, mine.activate().state, mine.shape.spec
        said = limited(state, spec, pod.spec, mine.start_s, now=stage.now(), now_s=stage.wall())
        if said is not None:
            mine.shape = stage.shapes.of(pod)
            self._play(mine, said)

    def _ask_to_stop(self, mine: HollowPod, pod: core.Pod) -> None:
        grace_s = float(pod.metadata.deletionGracePeriodSeconds)
        active = mine.activate()
        if active.told_grace_s != grace_s:
            active.told_grace_s = grace_s
            self._play(mine, StopAsked(grace_s, remove=True))

    def _play(self, pod: HollowPod, event: PodEvent) -> None:
        stage = self._stage
        played = pod.play(event, now=stage.now(), now_s=stage.wall(), delay=stage.start_delay)
        self._remember(pod, played.later)
        self._tell(pod, played)

    def _remember(self, pod: HollowPod, later: Sequence[Later]) -> None:
        stage = self._stage
        for each in later:
            stage.later(stage.now() + each.after_s, self, pod, each.event)
        look_at = pod.next_look()
        if look_at is not None:
            stage.later(look_at, self, pod, Ticked())

    def _tell(self, pod: HollowPod, played: Played) -> None:
        stage = self._stage
        for note in played.notes:
            stage.note(pod, note)
        if pod.is_over:
            self._let_go(pod)
        stage.report(pod, remove=played.finished is not None and played.finished.remove)

    # --- what its pods hold

    def _hold(self, pod: HollowPod) -> None:
        self._held.add(pod.shape.claim)
        self._beat_is_old = True

    def _let_go(self, pod: HollowPod) -> None:
        """Once, when it is over or gone."""
        active = pod.active
        if active is None:  # it is gone
            self._held.remove(pod.shape.claim)
        elif active.holds:
            active.holds = False
            self._held.remove(pod.shape.claim)
        self._beat_is_old = True
