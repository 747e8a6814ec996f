"""All that the scheduler knows and decides, without any I/O: news comes in, what is to be written comes out.

    news of a pod     without a node -> the queue;  with a node -> the snapshot;  gone or finished -> out of both
    news of a node    -> the snapshot; what it may help -> remembered until the next decision
    decide            a round of `cluster.scheduler.deciding`
    bound / unbound   what became of a binding;  spared: a pod that should make room was not told to go

Gated pods are not there at all, and pods of schedulers that are none of our profiles are only counted. Time is an
argument (monotonic seconds), dice are handed in, so that a test, a replay and a what-if can run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cluster.api.meta import from_time, is_terminating, key_of
from cluster.api.pods import SUCCEEDED, is_finished
from cluster.api.priorities import preempts, priority_of
from cluster.api.selectors import pod_selector_of
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.assumed import Assumed
from cluster.scheduler.budgets import Budget, Budgets
from cluster.scheduler.cycle import Dice
from cluster.scheduler.deciding import Decider, Decisions, Refused
from cluster.scheduler.facts import PlacedPod, facts_of, is_alike, placed_pod
from cluster.scheduler.gangs import Gangs
from cluster.scheduler.lots import GangKey, LotKey, State, Waiting
from cluster.scheduler.nominations import Nominations
from cluster.scheduler.patience import Patience, Stranger
from cluster.scheduler.plugin_health import PluginHealth
from cluster.scheduler.podclass import PodClass, PodClasses
from cluster.scheduler.preemption import Preemption
from cluster.scheduler.profiles import SchedulingProfile, shipped
from cluster.scheduler.queue import SchedulingQueue
from cluster.scheduler.records import Records, Stamp
from cluster.scheduler.refused import ANYTHING, ClusterEvent, events_of
from cluster.scheduler.settings import DEFAULT_SCHEDULER, SchedulerSettings
from cluster.scheduler.snapshot import Snapshot


class World:
    """The scheduler's picture of the cluster and its decisions."""

    def __init__(
        self, settings: SchedulerSettings, dice: Dice, profiles: Mapping[str, SchedulingProfile] | None = None
    ) -> None:
        """`profiles` by name; by default those that ship."""
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue(
            backoff_initial_s=settings.backoff_initial_s,
            backoff_max_s=settings.backoff_max_s,
            unschedulable_flush_s=settings.unschedulable_flush_s,
        )
        self.assumed = Assumed(settings.assume_ttl_s)
        self.gangs = Gangs()
        self.nominations = Nominations(self.snapshot)
        self.records = Records(settings.decisions_kept)
        self.profiles = profiles if profiles is not None else shipped()
        self.cycles = {name: profile.cycle(self.snapshot, dice) for name, profile in self.profiles.items()}
        self._preemption = Preemption(self.snapshot, Budgets(), self.nominations)
        self._decider = Decider(
            self.snapshot, self.queue, self.cycles, self.assumed, self.gangs, self.nominations, self._preemption,
            self.records,
        )  # fmt: skip
        self._classes = PodClasses()
        self._helped: set[str] = set()
        self._patience = Patience()
        self._plugins = PluginHealth(self.profiles)

    # -- news

    def node_changed(self, old: core.Node | None, new: core.Node | None) -> None:
        """News of a node. One that is being deleted gets no more pods."""
        if new is None or is_terminating(new):
            gone = new if new is not None else old
            assert gone is not None
            if self.snapshot.remove_node(gone.metadata.name):
                self._help(ClusterEvent.POD_GONE)
                for nomination in self.nominations.on(gone.metadata.name):
                    self._renounce(nomination.waiting.uid)
            return
        facts = facts_of(new)
        before = self.snapshot.set_node(new.metadata.name, facts)
        for event in events_of(before, facts):
            self._help(event)

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
            self._ended(uid, succeeded=new is not None and new.status.phase == SUCCEEDED)
        elif new.spec.nodeName:
            self._has_node(old, new)
        elif is_terminating(new) or new.spec.schedulingGates:
            self._wants_nothing(uid)
        elif self._profile_of(new) not in self.cycles:
            self._wants_nothing(uid)
            self._patience.stranger(Stranger(key_of(new), uid, new.spec.schedulerName))
        else:
            self._wants_node(new)

    def pods_changed(self, changes: Sequence[tuple[core.Pod | None, core.Pod | None]]) -> None:
        """News of many pods, in order. The same as one by one; pods that run somewhere, as in the whole state that is
        read at a start, are taken in by the class."""
        arrived: dict[PodClass, tuple[list[PlacedPod], list[int]]] = {}
        uids: set[str] = set()
        for old, new in changes:
            row = None if new is None else self._arrives(old, new)
            if row is None:
                if uids:
                    self._take_in(arrived)
                    uids.clear()
                self.pod_changed(old, new)
                continue
            assert new is not None
            uid = new.metadata.uid
            if uid in uids:
                self._take_in(arrived)
                uids.clear()
            uids.add(uid)
            pod_class = self._classes.of(new, placed=True)
            pods, rows = arrived.setdefault(pod_class, ([], []))
            pods.append(placed_pod(new, pod_class))
            rows.append(row)
        self._take_in(arrived)

    def _arrives(self, old: core.Pod | None, new: core.Pod) -> int | None:
        """The row of the live node on which a pod runs of which nothing was known; None: it is another kind of news."""
        if old is not None:
            return None
        spec, uid = new.spec, new.metadata.uid
        node = spec.nodeName
        if not node or spec.HasField("podGroup") or is_finished(new) or is_terminating(new):
            return None
        if uid in self.queue or self.snapshot.placed(uid) is not None:
            return None
        return self.snapshot.row_of(node)

    def _take_in(self, arrived: dict[PodClass, tuple[list[PlacedPod], list[int]]]) -> None:
        for pods, rows in arrived.values():
            self.snapshot.place_many(pods, rows)
        if arrived:
            self._help(ClusterEvent.POD_ADDED)
            arrived.clear()

    def budget_changed(self, old: core.PodDisruptionBudget | None, new: core.PodDisruptionBudget | None) -> None:
        """News of a disruption budget."""
        if new is not None:
            self._preemption.set_budget(
                Budget(
                    new.metadata.namespace,
                    new.metadata.name,
                    pod_selector_of(new.spec),
                    new.status.disruptionsAllowed,
                    frozenset(new.status.disruptedPods),
                )
            )
        elif old is not None:
            self._preemption.remove_budget(old.metadata.namespace, old.metadata.name)

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

    def decide(self, limit: int, now_s: float, stamp: Stamp | None = None) -> Decisions:
        """Decides about the pods whose turn it is, at most so many; each sees the ones before it placed."""
        self._advance(now_s)
        decisions = self._decider.round(limit, now_s, stamp or Stamp())
        decisions.refusals.extend(self._missing_members(now_s))
        decisions.strangers.extend(self._patience.overdue_strangers(now_s))
        decisions.broken.extend(self._plugins.newly_broken())
        return decisions

    def has_work(self, now_s: float) -> bool:
        """Whether `decide` would find something to do."""
        self._advance(now_s)
        word_s = self._patience.next_due_s()
        return self.queue.has_active or self.queue.has_dirty or (word_s is not None and word_s <= now_s)

    def next_due_s(self) -> float | None:
        """When `decide` has something to do even if nothing is heard of until then."""
        due = [self.queue.next_due_s(), self.assumed.next_expiry_s(), self._patience.next_due_s()]
        return min((at for at in due if at is not None), default=None)

    def bound(self, uid: str, now_s: float) -> None:
        """The binding is written, or may be: the watch will show it, or it expires."""
        self.assumed.bound(uid, now_s)

    def unbound(self, uids: Iterable[str], now_s: float) -> None:
        """Their bindings are not written: the pods wait for their back-off and get another decision."""
        failed = list(uids)
        gangs: dict[GangKey, None] = {}
        for uid in failed:
            if self.assumed.forget(uid) is not None:
                self._leave(uid)
            waiting = self.queue.get(uid)
            if waiting is not None and waiting.gang is not None:
                self.gangs.place(uid, placed=False)
                gangs[waiting.gang] = None
        for gang in gangs:
            self._need_changed(gang)
        self.queue.failed(failed, now_s)

    def spared(self, uids: Iterable[str]) -> None:
        """These pods were not told to go after all: those for whom they should have gone look anew."""
        for uid in uids:
            self._preemption.stays(uid)
            for preemptor in self.nominations.waiting_for(uid):
                self._renounce(preemptor)

    # -- inside: pods

    def _ended(self, uid: str, *, succeeded: bool) -> None:
        self._wants_nothing(uid, but_counts=succeeded)
        self.assumed.forget(uid)
        self._leave(uid)

    def _has_node(self, old: core.Pod | None, pod: core.Pod) -> None:
        uid, node = pod.metadata.uid, pod.spec.nodeName
        assumed = self.assumed.confirm(uid)
        self.queue.remove(uid)
        self._patience.forget(uid)
        self.nominations.drop(uid)
        # Most news are of two kinds: how the pod does, and our own binding.
        known = old is not None and (bool(old.spec.nodeName) or assumed is not None)
        if known and self.snapshot.node_of(uid) == node and is_alike(old, pod):
            return
        placed = placed_pod(pod, self._classes.of(pod, placed=True))
        self._place(placed, node)
        if placed.terminating:
            self._preemption.goes(placed)
        if pod.spec.HasField("podGroup"):
            self._join(pod, placed=not placed.terminating)

    def _place(self, pod: PlacedPod, node: str) -> None:
        before, where = self.snapshot.placed(pod.uid), self.snapshot.node_of(pod.uid)
        self.snapshot.place(pod, node)
        if before == pod and where == node:
            return  # most often our own binding, confirmed
        if before is None:
            self._help(ClusterEvent.POD_ADDED)
        elif where != node:
            self._help(ClusterEvent.POD_GONE)  # somebody else bound it: there is room where we thought it was
        else:
            self._help(ClusterEvent.POD_CHANGED)

    def _wants_node(self, pod: core.Pod) -> None:
        waiting = self._waiting(pod)
        need = 1
        if waiting.gang is not None:
            self._join(pod, placed=waiting.uid in self.assumed)
            need = self.gangs.need(waiting.gang)
            self._patience.gathers(waiting.gang, self.gangs.timeout_s(waiting.gang))
        self.queue.add(waiting, need)

    def _wants_nothing(self, uid: str, *, but_counts: bool = False) -> None:
        waiting = self.queue.get(uid)
        if waiting is not None:
            self.queue.remove(uid)
            if self.nominations.drop(uid) is not None and waiting.gang is not None:
                for other in self.queue.waiting_of(waiting.gang):  # without it the others' places are void
                    self._renounce(other.uid)
        self._patience.forget(uid)
        if but_counts:
            return
        gang = self.gangs.remove(uid)
        if gang is not None:
            self._need_changed(gang)

    def _join(self, pod: core.Pod, *, placed: bool) -> None:
        group = pod.spec.podGroup
        key = GangKey(pod.metadata.namespace, group.name)
        self.gangs.put(key, pod.metadata.uid, group.minMember, float(group.scheduleTimeoutSeconds), placed=placed)
        self._need_changed(key)

    def _need_changed(self, gang: GangKey) -> None:
        for uid in self.queue.set_need(gang, self.gangs.need(gang)):
            self.nominations.drop(uid)

    def _leave(self, uid: str) -> None:
        pod = self.snapshot.placed(uid)
        if pod is None:
            return
        self.snapshot.remove(uid)
        self._help(ClusterEvent.POD_GONE)
        self._preemption.goes(pod)
        for preemptor in self.nominations.gone(uid):
            self.queue.ready(preemptor)

    def _renounce(self, uid: str) -> None:
        if self.nominations.drop(uid) is not None:
            self.queue.renounce(uid)

    def _profile_of(self, pod: core.Pod) -> str:
        return pod.spec.schedulerName or DEFAULT_SCHEDULER

    def _waiting(self, pod: core.Pod) -> Waiting:
        pod_class = self._classes.of(pod)
        spec = pod.spec
        return Waiting(
            key=key_of(pod),
            pod=placed_pod(pod, pod_class),
            lot=LotKey(pod_class, self._profile_of(pod), priority_of(pod), preempts(pod)),
            created_s=from_time(pod.metadata.creationTimestamp),
            gang=GangKey(pod.metadata.namespace, spec.podGroup.name) if spec.HasField("podGroup") else None,
        )

    # -- inside: time

    def _advance(self, now_s: float) -> None:
        late = self.assumed.expired(now_s)
        if late:
            self.unbound([pod.uid for pod in late], now_s)
        self._patience.begin(now_s)
        self.queue.flush(now_s)
        if self._plugins.recover(now_s):
            self.snapshot.distrust()
            self._helped.add(ANYTHING)
        if self._helped:
            helped, self._helped = self._helped, set()
            self.queue.help(helped)

    def _missing_members(self, now_s: float) -> list[Refused]:
        """Gangs that were not complete in time say so, and go on waiting."""
        told = []
        for gang in self._patience.overdue_gangs(now_s):
            waiting = self.queue.waiting_of(gang)
            if not waiting:
                continue
            self._patience.gathers(gang, self.gangs.timeout_s(gang))
            if self.queue.state(waiting[0].uid) is State.GATHERING:
                there, least = self.gangs.size(gang)
                told.append(Refused(waiting, f"pod group {gang.name} has {there} of {least} members"))
        self._patience.begin(now_s)
        return told

    def _help(self, event: ClusterEvent) -> None:
        self._helped |= event.value
