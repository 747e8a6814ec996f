"""Simulated nodes: all of them are this one actor, which says that they live and does with their pods what `hollow.py`
decides.

Each node reports under its own identity, so that a simulated agent may do what a real one may. Whatever is heard of a
pod, it is looked at when its time has come, and what is true then counts. A node that is down is silent: it neither
beats nor does anything about its pods, as if its machine had lost its power.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.actor.clock import Clock
from cluster.actor.tasks import OnCrash, Tasks
from cluster.api.errors import Conflict, NotFound
from cluster.api.fit import Claim, Held, Rejection, admit
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key, is_terminating, key_of
from cluster.api.pod_addresses import PodAddresses
from cluster.api.pods import amount, is_finished
from cluster.client import operations
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.client.workqueue import QueueClosed, WorkQueue
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.simulation import hollow
from cluster.simulation.hollow import Pace

SYNC_TIMEOUT_S = 60.0
WRITE_LIMIT = 500
"""Reports in one write of a node."""
TOGETHER = 5_000
"""Pods that are looked at before any of it is written."""
NODES_TOGETHER = 1_000
"""Nodes that write at the same time; the master takes twice as many requests before it refuses any."""
PODS_LIMIT = 1_000_000
"""More than any cluster has."""
_OBSERVED = core.Cause(reason="observed")
_NODE = "node"


@dataclass(slots=True)
class _Book:
    """What the pods of a node hold of it, by uid."""

    addresses: PodAddresses | None
    """None: the node has none to give, and its pods are behind no service."""
    held: Held = field(default_factory=Held)
    """What they hold together."""
    claims: dict[str, Claim] = field(default_factory=dict)

    def hold(self, uid: str, claim: Claim) -> None:
        """The pod has been taken up."""
        self.claims[uid] = claim
        self.held.add(claim)

    def let_go(self, uid: str) -> None:
        """The pod holds no resources; nothing happens if it held none."""
        claim = self.claims.pop(uid, None)
        if claim is not None:
            self.held.remove(claim)

    def release(self, uid: str) -> None:
        """The pod has ended."""
        self.let_go(uid)
        if self.addresses is not None:
            self.addresses.release(uid)


class Agents:
    """See the head of this file."""

    def __init__(
        self,
        connect: Callable[[str], ClusterClient],
        *,
        clock: Clock,
        heartbeat_interval_s: float,
        pace: Pace,
        unread: Iterable[str],
        on_crash: OnCrash,
    ) -> None:
        """`connect` makes a client of an identity. `unread` are kinds of which it is not known what there is."""
        self._connect = connect
        self._clock = clock
        self._interval_s = heartbeat_interval_s
        self._pace = pace
        self._unread = frozenset(unread)
        self._alive: dict[str, None] = {}
        self._clients: dict[str, ClusterClient] = {}
        self._client = connect("admin")
        self._pods: Informer[core.Pod] = Informer(self._client, core.Pod, indexes={_NODE: _node_of}, clock=clock)
        self._nodes: Informer[core.Node] = Informer(self._client, core.Node, clock=clock)
        self._configuration: dict[str, Informer[core.ConfigMap] | Informer[core.Secret]] = {
            "ConfigMap": Informer(self._client, core.ConfigMap, clock=clock),
            "Secret": Informer(self._client, core.Secret, clock=clock),
        }
        self._books: dict[str, _Book] = {}
        """Of each node that has taken up a pod; the others need none."""
        self._due_s: dict[Key, tuple[str, bool, float]] = {}
        """Of each pod that is to be looked at: its uid, whether it is being deleted, and when; one entry for a pod."""
        self._unprepared: dict[Key, None] = {}
        self._queue: WorkQueue[Key] = WorkQueue("simulated nodes", limit=PODS_LIMIT, clock=clock)
        self._tasks = Tasks("simulated nodes", on_crash=on_crash)
        self._sequence = 0

    @property
    def is_busy(self) -> bool:
        """Something will happen to a pod by the passing of time alone."""
        return not self._queue.is_idle

    async def start(self, alive: Iterable[str]) -> None:
        """Begins to beat for these nodes, and to look after their pods. Returns when they are known."""
        self._alive.update(dict.fromkeys(alive))
        self._pods.add_handler(self._on_pod)
        for informer in self._configuration.values():
            informer.add_handler(self._on_configuration)
        informers: tuple[Informer[Any], ...] = (self._nodes, *self._configuration.values(), self._pods)
        for informer in informers:
            await informer.start()
        for informer in informers:
            await informer.wait_synced(SYNC_TIMEOUT_S)
        self._tasks.spawn(self._beat(), name="heartbeats")
        self._tasks.spawn(self._work(), name="pods")

    async def stop(self) -> None:
        """Ends. Twice is fine."""
        await self._queue.close()
        await self._tasks.cancel_all()
        for informer in (self._pods, self._nodes, *self._configuration.values()):
            await informer.stop()

    def silence(self, node: str) -> None:
        """The node goes down: from now on nothing is heard of it."""
        self._alive.pop(node, None)

    async def register(self, node: core.Node) -> None:
        """A node joins the cluster, and is alive from now on; its status is what it says of itself. Raises ApiError."""
        name = node.metadata.name
        (made,) = (await self._client.write([operations.create(node)])).outcomes
        registered = core.Node()
        registered.CopyFrom(made.unwrap())  # type: ignore[arg-type]
        registered.status.CopyFrom(hollow.ready(node.status, self._clock.wall()))
        registered.metadata.ClearField("resourceVersion")
        (reported,) = (await self._of(name).write([operations.update_status(registered)], cause=_OBSERVED)).outcomes
        reported.unwrap()
        self._alive[name] = None

    # --- what is heard

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        if new is None:
            assert old is not None
            self._release(old)
            self._due_s.pop(key_of(old), None)
            self._unprepared.pop(key_of(old), None)
            return
        node = new.spec.nodeName
        if not node:
            return
        if is_finished(new):
            self._release(new)
        if node not in self._alive:
            return
        key, leaving = key_of(new), is_terminating(new)
        if hollow.is_unprepared(new):
            self._unprepared[key] = None
        wait_s = hollow.acts_in_s(new, self._pace)
        if wait_s is None:
            return
        waiting = self._due_s.get(key)
        if waiting is None or waiting[:2] != (new.metadata.uid, leaving):
            self._due_s[key] = (new.metadata.uid, leaving, self._clock.monotonic() + wait_s)
            self._queue.add_after(key, wait_s)

    def _on_configuration(self, old: AnyObject | None, new: AnyObject | None) -> None:
        if new is not None:
            for key in self._unprepared:
                self._queue.add(key)

    def _release(self, pod: core.Pod) -> None:
        book = self._books.get(pod.spec.nodeName)
        if book is not None:
            book.release(pod.metadata.uid)

    # --- what is done

    async def _beat(self) -> None:
        async with self._client.heartbeats() as line:
            while True:
                self._sequence += 1
                await line.beat([wire.NodeHeartbeat(node=node, sequence=self._sequence) for node in self._alive])
                await self._clock.sleep(self._interval_s)

    async def _work(self) -> None:
        while True:
            try:
                keys = [await self._queue.get()]
                while len(self._queue) and len(keys) < TOGETHER:
                    keys.append(await self._queue.get())
            except QueueClosed:
                return
            reports: dict[str, list[wire.Operation]] = {}
            for key in keys:
                pod = self._pods.indexer.get(key)
                if pod is not None and pod.spec.nodeName in self._alive:
                    report = self._look(key, pod)
                    if report is not None:
                        reports.setdefault(pod.spec.nodeName, []).append(report)
            await self._report_all(list(reports.items()))
            for key in keys:
                self._queue.done(key)

    def _look(self, key: Key, pod: core.Pod) -> wire.Operation | None:
        """What a pod's node reports now."""
        due = self._due_s.get(key)
        left_s = due[2] - self._clock.monotonic() if due is not None else 0.0
        if left_s > 0:
            self._queue.add_after(key, left_s)
            return None
        if is_terminating(pod):
            return operations.delete(key, uid=pod.metadata.uid, grace_period_s=0)
        if not hollow.is_new(pod) and key not in self._unprepared:
            return None
        return self._take_up(key, pod)

    def _take_up(self, key: Key, pod: core.Pod) -> wire.Operation:
        now_s, uid = self._clock.wall(), pod.metadata.uid
        node = self._nodes.indexer.get(Key("Node", "", pod.spec.nodeName))
        assert node is not None, f"{key} is bound to {pod.spec.nodeName}, which is alive and does not exist"
        book = self._book_of(node)
        book.let_go(uid)  # if it was taken up before, and waits for its configuration
        claim = Claim.of(pod)
        allocatable = {resource: amount(resource, value) for resource, value in node.status.allocatable.items()}
        rejection = admit(claim, book.held, allocatable, node.metadata.name, node.metadata.labels)
        pod_ip = ""
        if rejection is None and book.addresses is not None:
            pod_ip = book.addresses.allocate(uid, pod.status.podIP)
            if not pod_ip:
                rejection = Rejection("OutOfpods", f"Pod was rejected: no address is left in {node.spec.podCIDR}")
        if rejection is not None:
            return _status(pod, hollow.refused(pod, rejection, now_s))
        book.hold(uid, claim)
        host_ip = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
        missing = hollow.missing_configuration(pod, self._exists)
        if missing:
            self._unprepared[key] = None
            return _status(pod, hollow.unprepared(pod, missing, pod_ip=pod_ip, host_ip=host_ip, now_s=now_s))
        self._unprepared.pop(key, None)
        return _status(pod, hollow.running(pod, pod_ip=pod_ip, host_ip=host_ip, now_s=now_s))

    def _book_of(self, node: core.Node) -> _Book:
        """What is given out of a node; begun with the pods that it has taken up before."""
        name = node.metadata.name
        book = self._books.get(name)
        if book is None:
            book = self._books[name] = _Book(PodAddresses(node.spec.podCIDR) if node.spec.podCIDR else None)
            for pod in self._pods.indexer.by_index(_NODE, name):
                if not is_finished(pod) and not hollow.is_new(pod):
                    book.hold(pod.metadata.uid, Claim.of(pod))
                    if book.addresses is not None:
                        book.addresses.allocate(pod.metadata.uid, pod.status.podIP)
        return book

    def _exists(self, kind: str, namespace: str, name: str) -> bool:
        return kind in self._unread or Key(kind, namespace, name) in self._configuration[kind].indexer

    async def _report_all(self, reports: Sequence[tuple[str, list[wire.Operation]]]) -> None:
        """Many nodes at once, so that the master writes them together: what happens at one moment is one crowd of news,
        and not as many moments as there are nodes."""
        for start in range(0, len(reports), NODES_TOGETHER):
            some = reports[start : start + NODES_TOGETHER]
            for writing in [self._tasks.spawn(self._report(*report), name=f"report of {report[0]}") for report in some]:
                await writing

    async def _report(self, node: str, writes: list[wire.Operation]) -> None:
        for start in range(0, len(writes), WRITE_LIMIT):
            written = await self._of(node).write(writes[start : start + WRITE_LIMIT], cause=_OBSERVED)
            for outcome in written.outcomes:
                # Somebody else was faster: what that made true is heard of, and looked at again.
                if outcome.error is not None and not isinstance(outcome.error, (Conflict, NotFound)):
                    raise outcome.error

    def _of(self, node: str) -> ClusterClient:
        client = self._clients.get(node)
        if client is None:
            client = self._clients[node] = self._connect(f"node:{node}")
        return client


def _status(pod: core.Pod, status: core.PodStatus) -> wire.Operation:
    meta = core.ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace, uid=pod.metadata.uid)
    return operations.update_status(core.Pod(metadata=meta, status=status))


def _node_of(pod: core.Pod) -> Iterable[str]:
    return [pod.spec.nodeName] if pod.spec.nodeName else []
