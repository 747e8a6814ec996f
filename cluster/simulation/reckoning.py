"""From a snapshot and the log of what followed to a report. Pure.

    snapshot + log (every change, with its virtual time)  ->  what became of each pod, node and service  ->  report

The state at the end is what the log adds up to on top of the snapshot. Who replaces whom is nobody's to say in a
cluster: a controller makes a pod because one is missing. Here a new pod is said to replace the earliest pod of the same
owner that had left by then and that no other one replaces.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.api.conditions import get_condition, is_node_ready, is_pod_ready
from cluster.api.kinds import BY_NAME, AnyObject
from cluster.api.meta import is_terminating, key_of
from cluster.api.owners import controller_of
from cluster.api.pods import is_finished
from cluster.controllers.taints import is_marked_for_eviction
from cluster.pb.v1 import core_pb2 as core
from cluster.simulation.hollow import NODE_TAINTS, is_unprepared
from cluster.simulation.report import NodeStory, Outage, Pending, Placed, Removed, Restless, Stuck
from cluster.simulation.snapshot import LEFT_OUT, Snapshot
from cluster.store.version import Record

RESTLESS_S = 60.0
"""How far back it is looked for who did not become quiet."""
_BUSIEST = 5
_DIGITS = 3
"""Of a second: milliseconds are told."""
EVICTED, PREEMPTED, SCALED_DOWN, DELETED = "evicted", "preempted", "scaled down", "deleted"
_REASONS = {"taint-eviction": EVICTED, "scale-down": SCALED_DOWN}
"""Of a write's cause."""
_PREEMPTED = "Preempted"
"""The reason of the event."""
_MADE_ROOM = re.compile(r"Preempted by ([^/ ]+)/([^/ ]+) on node ")
_TOLD_OF = frozenset({"Pod", "Node", "Endpoints", "Service"})


@dataclass(slots=True)
class _Life:
    """What became of one pod, by uid."""

    pod: core.Pod
    """As it was last."""
    existed: bool
    node_before: str = ""
    ready_before: bool = False
    leaving_before: bool = False
    finished_before: bool = False
    created_s: float = 0.0
    bound_s: float | None = None
    ready_s: float | None = None
    left_s: float | None = None
    gone_s: float | None = None
    finished_s: float | None = None
    why: str = ""
    because: str = ""
    replaces: _Life | None = None
    replaced_by: _Life | None = None

    @property
    def is_there(self) -> bool:
        """It is neither gone, nor on its way out, nor finished."""
        return (
            self.gone_s is None and self.left_s is None and not is_terminating(self.pod) and not is_finished(self.pod)
        )

    @property
    def owner_uid(self) -> str:
        owner = controller_of(self.pod)
        return owner.uid if owner is not None else ""


@dataclass(slots=True)
class _NodeLife:
    """What became of one node. None: that did not happen."""

    node: core.Node
    is_new: bool
    joined_s: float | None = None
    failed_s: float | None = None
    evicted_s: float | None = None
    cordoned: bool | None = None


@dataclass(slots=True)
class _Backing:
    """How many ready endpoints a service has, and since when it has none."""

    ready: int
    had_some: bool
    """What never had any loses none."""
    empty_since_s: float | None = None
    """None: it has some, or began without any."""
    outages: list[tuple[float, float]] = field(default_factory=list)


class Reckoning:
    """See the head of this file. `began_s`: the wall time of the beginning, of the clock that the log was made by."""

    def __init__(self, snapshot: Snapshot, log: Sequence[Record], began_s: float) -> None:
        self._snapshot = snapshot
        self._log = log
        self._began_s = began_s
        self._lives = {pod.metadata.uid: _life_before(pod) for pod in snapshot.of(core.Pod)}
        self._nodes = {node.metadata.name: _NodeLife(node, is_new=False) for node in snapshot.of(core.Node)}
        self._services = {key_of(service)[1:]: service for service in snapshot.of(core.Service)}
        self._backing: dict[tuple[str, str], _Backing] = {}
        for endpoints in snapshot.of(core.Endpoints):
            ready = _ready_endpoints(endpoints)
            self._backing[key_of(endpoints)[1:]] = _Backing(ready, ready > 0)
        for record in log:
            if record.kind in _TOLD_OF:
                self._take(record)
            elif record.kind == "Event" and _PREEMPTED.encode() in record.data:
                self._take_event(record)
        self._pair()

    # --- what is told

    def nodes(self) -> tuple[NodeStory, ...]:
        """Nodes to which something happened, by name."""
        stories = (
            NodeStory(name, life.joined_s, life.failed_s, life.evicted_s, life.cordoned)
            for name, life in sorted(self._nodes.items())
        )
        return tuple(story for story in stories if story != NodeStory(story.name))

    def placed(self) -> tuple[Placed, ...]:
        """Pods that have found a node and are there at the end."""
        found = [
            Placed(
                life.pod.metadata.namespace,
                life.pod.metadata.name,
                life.pod.spec.nodeName,
                life.bound_s,
                life.ready_s,
                _owner(life.pod),
                life.replaces.pod.metadata.name if life.replaces is not None else "",
                life.existed,
            )
            for life in self._lives.values()
            if life.bound_s is not None and life.is_there
        ]
        return tuple(sorted(found, key=lambda placed: (placed.bound_s, placed.namespace, placed.pod)))

    def removed(self) -> tuple[Removed, ...]:
        """Pods of the snapshot that are gone, or on their way out, and were not before."""
        found = []
        for life in self._lives.values():
            if not life.existed or life.left_s is None:
                continue
            after = life.replaced_by
            found.append(
                Removed(
                    life.pod.metadata.namespace,
                    life.pod.metadata.name,
                    life.pod.spec.nodeName,
                    life.why,
                    life.because,
                    life.left_s,
                    life.gone_s,
                    _owner(life.pod),
                    after.pod.metadata.name if after is not None else "",
                    after.pod.spec.nodeName if after is not None else "",
                    after.ready_s if after is not None else None,
                )
            )
        return tuple(sorted(found, key=lambda removed: (removed.left_s, removed.namespace, removed.pod)))

    def passing(self) -> int:
        """How many pods were made, and are gone again or on their way out."""
        return sum(not life.existed and life.left_s is not None for life in self._lives.values())

    def pending(self) -> tuple[Pending, ...]:
        """Pods that are there at the end and have no node."""
        found = [
            Pending(
                life.pod.metadata.namespace,
                life.pod.metadata.name,
                _refusal(life.pod),
                life.created_s,
                _owner(life.pod),
                life.existed,
            )
            for life in self._lives.values()
            if life.is_there and not life.pod.spec.nodeName
        ]
        return tuple(sorted(found, key=lambda pending: (pending.since_s, pending.namespace, pending.pod)))

    def stuck(self) -> tuple[Stuck, ...]:
        """Pods that got a node and do not run there: refused by it, or waiting for their configuration."""
        groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for life in self._lives.values():
            pod, reason, message = life.pod, "", ""
            if life.gone_s is not None or life.left_s is not None:
                continue
            if life.finished_s is not None and pod.status.phase == "Failed":
                reason, message = pod.status.reason, pod.status.message
            elif life.is_there and is_unprepared(pod):
                waiting = next(s.state.waiting for s in pod.status.containerStatuses if s.state.waiting.reason)
                reason, message = waiting.reason, waiting.message
            if reason:
                owner = _owner(pod) or f"Pod/{pod.metadata.name}"
                groups.setdefault((pod.metadata.namespace, owner, reason), []).append((pod.metadata.name, message))
        return tuple(
            Stuck(namespace, owner, reason, pods[0][1], tuple(name for name, _ in pods))
            for (namespace, owner, reason), pods in sorted(groups.items())
        )

    def outages(self) -> tuple[Outage, ...]:
        """Times in which a service had no endpoint; of services that are there at the end."""
        found = []
        for (namespace, name), backing in sorted(self._backing.items()):
            if (namespace, name) not in self._services:
                continue
            spells: list[tuple[float, float | None]] = [*backing.outages]
            if backing.empty_since_s is not None:
                spells.append((backing.empty_since_s, None))
            found += [Outage(namespace, name, from_s, until_s) for from_s, until_s in spells]
        return tuple(sorted(found, key=lambda outage: (outage.from_s, outage.namespace, outage.service)))

    def restless(self) -> tuple[Restless, ...]:
        """Who made the most changes within the last minute."""
        if not self._log:
            return ()
        since_s = self._log[-1].time_s - RESTLESS_S
        counts: Counter[tuple[str, str]] = Counter()
        for record in reversed(self._log):
            if record.time_s < since_s:
                break
            if record.kind not in LEFT_OUT:
                obj = _parse(record)
                counts[_owner(obj) or f"{record.kind}/{record.name}", record.namespace] += 1
        busiest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_BUSIEST]
        return tuple(Restless(what, namespace, count) for (what, namespace), count in busiest)

    # --- reading the log

    def _take(self, record: Record) -> None:
        obj, at_s = _parse(record), max(0.0, round(record.time_s - self._began_s, _DIGITS))
        if isinstance(obj, core.Pod):
            self._take_pod(obj, record.deleted, at_s)
        elif isinstance(obj, core.Node):
            self._take_node(obj, record.deleted, at_s)
        elif isinstance(obj, core.Endpoints):
            self._take_endpoints(obj, record.deleted, at_s)
        elif isinstance(obj, core.Service):
            self._take_service(obj, record.deleted, at_s)

    def _take_pod(self, pod: core.Pod, deleted: bool, at_s: float) -> None:
        uid = pod.metadata.uid
        life = self._lives.get(uid)
        if life is None:
            life = self._lives[uid] = _Life(pod, existed=False, created_s=at_s)
        life.pod = pod
        if pod.spec.nodeName and not life.node_before and life.bound_s is None:
            life.bound_s = at_s
        if is_pod_ready(pod) and not life.ready_before and life.ready_s is None:
            life.ready_s = at_s
        if is_finished(pod) and not life.finished_before and life.finished_s is None:
            life.finished_s = at_s
        if (deleted or is_terminating(pod)) and life.left_s is None and not life.leaving_before:
            life.left_s = at_s
            life.why, life.because = _why(pod)
        if deleted:
            life.gone_s = at_s

    def _take_event(self, record: Record) -> None:
        """Many pods are told to make room in one write; for whom each of them does is said by an event."""
        event = _parse(record)
        assert isinstance(event, core.Event)
        life = self._lives.get(event.involvedObject.uid)
        words = _MADE_ROOM.match(event.message)
        if life is not None and words is not None and event.reason == _PREEMPTED:
            life.because = f"pods/{words[1]}/{words[2]}"

    def _take_node(self, node: core.Node, deleted: bool, at_s: float) -> None:
        name = node.metadata.name
        if deleted:
            self._nodes.pop(name, None)
            return
        life = self._nodes.get(name)
        if life is None:
            life = self._nodes[name] = _NodeLife(node, is_new=True)
        before, life.node = life.node, node
        if life.is_new and life.joined_s is None:
            if is_node_ready(node) and not any(taint.key.startswith(NODE_TAINTS) for taint in node.spec.taints):
                life.joined_s = at_s
            return
        if is_node_ready(before) and not is_node_ready(node):
            life.failed_s = at_s
        if is_marked_for_eviction(node) and not is_marked_for_eviction(before):
            life.evicted_s = at_s
        if node.spec.unschedulable != before.spec.unschedulable:
            life.cordoned = node.spec.unschedulable

    def _take_service(self, service: core.Service, deleted: bool, at_s: float) -> None:
        key = key_of(service)[1:]
        if deleted:
            self._services.pop(key, None)
            return
        if key not in self._services and len(service.spec.selector):
            self._backing[key] = _Backing(0, False, at_s)
        self._services[key] = service

    def _take_endpoints(self, endpoints: core.Endpoints, deleted: bool, at_s: float) -> None:
        backing = self._backing.setdefault(key_of(endpoints)[1:], _Backing(0, False))
        ready = 0 if deleted else _ready_endpoints(endpoints)
        if ready:
            if backing.empty_since_s is not None and backing.had_some:
                backing.outages.append((backing.empty_since_s, at_s))
            backing.empty_since_s, backing.had_some = None, True
        elif backing.ready:
            backing.empty_since_s = at_s
        backing.ready = ready

    # --- who replaces whom

    def _pair(self) -> None:
        left: dict[str, list[_Life]] = {}
        for life in self._lives.values():
            if life.existed and life.left_s is not None and life.why != SCALED_DOWN:
                left.setdefault(life.owner_uid, []).append(life)
        left.pop("", None)
        for lives in left.values():
            lives.sort(key=lambda life: (life.left_s or 0.0, key_of(life.pod)), reverse=True)
        newcomers = [life for life in self._lives.values() if not life.existed and life.is_there]
        newcomers.sort(key=lambda life: (life.created_s, key_of(life.pod)))
        for life in newcomers:
            waiting = left.get(life.owner_uid)
            if waiting and (waiting[-1].left_s or 0.0) <= life.created_s:
                life.replaces = waiting.pop()
                life.replaces.replaced_by = life


def _life_before(pod: core.Pod) -> _Life:
    return _Life(
        pod,
        existed=True,
        node_before=pod.spec.nodeName,
        ready_before=is_pod_ready(pod),
        leaving_before=is_terminating(pod),
        finished_before=is_finished(pod),
    )


def _parse(record: Record) -> AnyObject:
    return BY_NAME[record.kind].message.FromString(record.data)


def _owner(obj: AnyObject) -> str:
    owner = controller_of(obj)
    return f"{owner.kind}/{owner.name}" if owner is not None else ""


def _why(pod: core.Pod) -> tuple[str, str]:
    """Why a pod has to go, as the write says that told it to, and because of what."""
    actor, cause = pod.metadata.actor, pod.metadata.cause
    if actor == "scheduler":
        return PREEMPTED, cause.object
    return _REASONS.get(cause.reason, DELETED), cause.object


def _refusal(pod: core.Pod) -> str:
    condition = get_condition(pod.status, "PodScheduled")
    return str(condition.message) if condition is not None and condition.status == "False" else ""


def _ready_endpoints(endpoints: core.Endpoints) -> int:
    return sum(len(subset.addresses) for subset in endpoints.subsets)
