"""All that the scheduler knows and decides, without any I/O: news comes in, bindings to write come out.

    news of a pod     without a node -> the queue;  with a node -> the snapshot;  gone or finished -> out of both
    news of a node    -> the snapshot; what it may help -> remembered until the next decision
    decide            moves pods that were helped, pops the queue, decides, assumes
    bound / unbound   what became of a write

Time is an argument (monotonic seconds), dice are handed in, so that a test, a replay and a what-if can run it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from cluster.api.meta import from_time, is_terminating, key_of
from cluster.api.pods import is_finished
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.assumed import Assumed, AssumedPod
from cluster.scheduler.cycle import Cycle, Dice, Placement
from cluster.scheduler.facts import PlacedPod, facts_of, placed_pod
from cluster.scheduler.filters import Refusal
from cluster.scheduler.podclass import PodClasses
from cluster.scheduler.queue import ClusterEvent, SchedulingQueue, Waiting
from cluster.scheduler.settings import DEFAULT_SCHEDULER, SchedulerSettings
from cluster.scheduler.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Binding:
    """A pod and the node it shall go to; assumed from now on."""

    waiting: Waiting
    placement: Placement


@dataclass(frozen=True, slots=True)
class Decisions:
    """What came of one round, in the order of the queue."""

    bindings: list[Binding]
    refusals: list[tuple[Waiting, Refusal]]


class World:
    """The scheduler's picture of the cluster and its decisions."""

    def __init__(self, settings: SchedulerSettings, dice: Dice) -> None:
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue(
            backoff_initial_s=settings.backoff_initial_s,
            backoff_max_s=settings.backoff_max_s,
            unschedulable_flush_s=settings.unschedulable_flush_s,
        )
        self.assumed = Assumed(settings.assume_ttl_s)
        self._settings = settings
        self._classes = PodClasses()
        self._cycle = Cycle(self.snapshot, settings.weights, dice)
        self._helped: set[str] = set()

    @property
    def tie_seed(self) -> int:
        """The seed of the draws that decide between equally good nodes."""
        return self._cycle.seed

    # -- news

    def node_changed(self, old: core.Node | None, new: core.Node | None) -> None:
        """News of a node. One that is being deleted gets no more pods."""
        if new is None or is_terminating(new):
            gone = new if new is not None else old
            assert gone is not None
            if self.snapshot.remove_node(gone.metadata.name):
                self._help(ClusterEvent.POD_GONE)
            return
        facts = facts_of(new)
        before = self.snapshot.set_node(new.metadata.name, facts)
        if before is None:
            self._help(ClusterEvent.NODE_ADDED)
            return
        if before.allocatable != facts.allocatable:
            self._help(ClusterEvent.NODE_ALLOCATABLE)
        if before.labels != facts.labels:
            self._help(ClusterEvent.NODE_LABELS)
        if before.taints != facts.taints:
            self._help(ClusterEvent.NODE_TAINTS)
        if before.unschedulable and not facts.unschedulable:
            self._help(ClusterEvent.NODE_SCHEDULABLE)
        if before.directories != facts.directories:
            self._help(ClusterEvent.NODE_DIRECTORIES)

    def namespace_changed(self, old: core.Namespace | None, new: core.Namespace | None) -> None:
        """News of a namespace: affinity to pods may select namespaces by their labels."""
        namespace = new if new is not None else old
        assert namespace is not None
        labels = dict(namespace.metadata.labels) if new is not None else None
        if self.snapshot.tallies.namespaces.set(namespace.metadata.name, labels):
            self._help(ClusterEvent.NAMESPACE_LABELS)

    def pod_changed(self, old: core.Pod | None, new: core.Pod | None) -> None:
        """News of a pod."""
        pod = new if new is not None else old
        assert pod is not None
        uid = pod.metadata.uid
        if new is None or is_finished(new):
            self.queue.remove(uid)
            self.assumed.forget(uid)
            self._leave(uid)
        elif new.spec.nodeName:
            self.queue.remove(uid)
            self.assumed.confirm(uid)
            self._place(placed_pod(new, self._classes.of(new, placed=True)), new.spec.nodeName)
        elif is_terminating(new) or not self._is_ours(new):
            self.queue.remove(uid)
        else:
            self.queue.add(self._waiting(new))

    def service_changed(self, old: core.Service | None, new: core.Service | None) -> None:
        """News of a service: its selector makes a spreading group."""
        if new is not None:
            self.snapshot.selectors.set_service(new)
        elif old is not None:
            self.snapshot.selectors.remove_service(old)

    def controller_changed(
        self, old: core.ReplicationController | None, new: core.ReplicationController | None
    ) -> None:
        """News of a controller: its selector makes a spreading group."""
        if new is not None:
            self.snapshot.selectors.set_controller(new)
        elif old is not None:
            self.snapshot.selectors.remove_controller(old)

    # -- decisions

    def decide(self, limit: int, now_s: float) -> Decisions:
        """Decides about the pods whose turn it is, at most so many; each sees the ones before it placed."""
        self._advance(now_s)
        decisions = Decisions([], [])
        for pod_class, run in groupby(self.queue.pop(limit), lambda waiting: waiting.pod.pod_class):
            together = list(run)
            outcomes = self._cycle.decide_many(pod_class, [waiting.pod for waiting in together])
            for waiting, outcome in zip(together, outcomes, strict=True):
                if isinstance(outcome, Placement):
                    self.assumed.assume(AssumedPod(waiting.uid, waiting.key, outcome.node))
                    decisions.bindings.append(Binding(waiting, outcome))
                else:
                    self.queue.refused(waiting.uid, outcome.filters, now_s)
                    decisions.refusals.append((waiting, outcome))
        if decisions.bindings:
            self._help(ClusterEvent.POD_ADDED)
        return decisions

    def has_work(self, now_s: float) -> bool:
        """Whether `decide` would find a pod to decide about."""
        self._advance(now_s)
        return self.queue.has_active

    def next_due_s(self) -> float | None:
        """When `decide` has something to do even if nothing is heard of until then."""
        due = [at for at in (self.queue.next_due_s(), self.assumed.next_expiry_s()) if at is not None]
        return min(due, default=None)

    def bound(self, uid: str, now_s: float) -> None:
        """The binding is written, or may be: the watch will show it, or it expires."""
        self.assumed.bound(uid, now_s)

    def unbound(self, uid: str, now_s: float) -> None:
        """The binding is not written: the pod waits for its back-off and gets another decision."""
        if self.assumed.forget(uid) is not None:
            self._leave(uid)
        self.queue.failed(uid, now_s)

    # -- inside

    def _advance(self, now_s: float) -> None:
        for late in self.assumed.expired(now_s):
            self._leave(late.uid)
            self.queue.failed(late.uid, now_s)
        self.queue.flush(now_s)
        if self._helped:
            helped, self._helped = frozenset(self._helped), set()
            self.queue.move(helped, self._cycle.refused_by, now_s)

    def _help(self, event: ClusterEvent) -> None:
        self._helped |= event.value

    def _place(self, pod: PlacedPod, node: str) -> None:
        before, where = self.snapshot.placed(pod.uid), self.snapshot.node_of(pod.uid)
        if before == pod and where == node:
            return  # most often our own binding, confirmed
        self.snapshot.place(pod, node)
        if before is None:
            self._help(ClusterEvent.POD_ADDED)
        elif where != node:
            self._help(ClusterEvent.POD_GONE)  # somebody else bound it: there is room where we thought it was
        else:
            self._help(ClusterEvent.POD_CHANGED)

    def _leave(self, uid: str) -> None:
        if self.snapshot.remove(uid) is not None:
            self._help(ClusterEvent.POD_GONE)

    def _is_ours(self, pod: core.Pod) -> bool:
        return (pod.spec.schedulerName or DEFAULT_SCHEDULER) == self._settings.scheduler_name

    def _waiting(self, pod: core.Pod) -> Waiting:
        return Waiting(
            key=key_of(pod),
            pod=placed_pod(pod, self._classes.of(pod)),
            priority=0,  # priority classes are not carried out yet; admission refuses the field
            created_s=from_time(pod.metadata.creationTimestamp),
        )
