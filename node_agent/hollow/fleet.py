"""All nodes that one process plays, and what they share: one client, one list of what is due, one writer of reports.

What happens at one moment travels together: the heartbeats of hundreds of nodes, the reports of a tick of all of them,
and the news that they are watching for, each its own pods as a real agent does, over one stream.

Everything waits for the master as long as it takes, and goes on without it; what is due is due all the same. When it
stops, its nodes go (unless they are to be kept), and the garbage collector removes their pods. If it is killed, they
fall silent, all at once.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import random
from collections.abc import Sequence

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api import hollow
from cluster.client.events import EventRecorder
from cluster.client.interface import ClusterClient, EventType, WatchEvent
from cluster.client.listening import Listening
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger
from node_agent import node_object
from node_agent.dependencies import wait_for_dependencies
from node_agent.heartbeat import Heart
from node_agent.hollow.node import HollowNode
from node_agent.hollow.pod import HollowPod
from node_agent.hollow.registry import Registry
from node_agent.hollow.settings import HollowSettings
from node_agent.hollow.shape import Shapes
from node_agent.node_object import Machine
from node_agent.pod_state import WARNING, DependenciesChanged, Note, PodEvent
from node_agent.restart_policy import CrashBackoff
from node_agent.status_writer import StatusWriter

COMPONENT = "hollow"
NODES_PER_BEAT = 500
"""So many nodes' heartbeats travel in one message; the messages of a process are spread over the interval."""
REPORTS_PER_WRITE = 500
DUE_AT_ONCE = 500
"""After so many things that were due, others get their turn."""
FLUSH_TIMEOUT_S = 2.0
DISCONNECT_LOOK_S = 0.5

log = get_logger("node_agent.hollow")


class Fleet:
    """See the head of this file. Implements `node_agent.hollow.node.Stage`."""

    def __init__(
        self, settings: HollowSettings, client: ClusterClient, machine: Machine, *, clock: Clock, rng: random.Random
    ) -> None:
        """`rng` is for what nobody repeats; the dice of the play have a seed of their own (settings)."""
        self.settings, self.client = settings, client
        self.port = int(settings.listen.rpartition(":")[2])
        """Where the service NodeAgent is served; set it before `start` if the system chose it."""
        self._clock, self._rng, self._dice = clock, rng, random.Random(settings.seed)
        self._tasks = Tasks("hollow nodes")
        profile = settings.profile
        backoff = CrashBackoff(
            profile.crash_backoff_initial_s, profile.crash_backoff_max_s, profile.crash_backoff_reset_s
        )
        self.shapes = Shapes(backoff, settings.host)
        further = {node_object.STORAGE: settings.storage, **settings.resources}
        resources = node_object.capacity(machine, settings.cpu, settings.memory, settings.pods, further)
        allocatable = node_object.amounts(resources)
        self.nodes = {
            name: HollowNode(name, self, allocatable, settings.labels_of(number))
            for number in settings.numbers
            for name in [hollow.node_name(settings.prefix, number)]
        }
        """By name."""
        self.registry = Registry(
            client,
            self.nodes,
            host=settings.host,
            resources=resources,
            taints=settings.taints,
            machine=machine,
            clock=clock,
            rng=rng,
            port=lambda: self.port,
        )
        self.writer = StatusWriter(client, clock=clock, rng=rng, tick_s=settings.status_tick_s, limit=REPORTS_PER_WRITE)
        self._recorder = EventRecorder(client, COMPONENT, settings.prefix, clock=clock, rng=rng)
        self._hearts = self._make_hearts()
        self._watch_of_nodes = Listening(
            client,
            core.Node,
            self.registry,
            label_selector=hollow.selector_of(settings.prefix),
            clock=clock,
            rng=rng,
            tasks=self._tasks,
        )
        self._watches = [self._watch_of_pods(node) for node in self.nodes.values()]
        self._unsynced = set(self.nodes)
        self._synced = asyncio.Event()
        self._agenda: list[tuple[float, int, HollowNode, HollowPod, PodEvent | None]] = []
        """What is due, and when, as a heap; at most a few entries for each pod that is not plain or has not started."""
        self._order = itertools.count()
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = float("inf")
        self._stopping = self._leaving = False
        self.nodes_left = 0
        """After `stop`: how many of its nodes are still there."""
        self._ended = asyncio.Event()

    def _make_hearts(self) -> list[Heart]:
        nodes, interval_s = list(self.nodes.values()), self.settings.profile.heartbeat_interval_s
        parts = [nodes[start : start + NODES_PER_BEAT] for start in range(0, len(nodes), NODES_PER_BEAT)]

        def beats(part: Sequence[HollowNode], sequence: int) -> Sequence[wire.NodeHeartbeat]:
            return [node.heartbeat(sequence) for node in part]

        return [
            Heart(
                self.client,
                clock=self._clock,
                interval_s=interval_s,
                beats=functools.partial(beats, part),
                on_unknown=self._on_unknown,
                heard_at_s=self._clock.monotonic(),
                delay_s=interval_s * number / len(parts),
            )
            for number, part in enumerate(parts)
        ]

    def _watch_of_pods(self, node: HollowNode) -> Listening[core.Pod]:
        return Listening(
            self.client,
            core.Pod,
            _Pods(self, node),
            field_selector=f"spec.nodeName={node.name}",
            clock=self._clock,
            rng=self._rng,
            tasks=self._tasks,
        )

    # --- birth and death

    async def start(self) -> None:
        """Registers all nodes, and returns when their pods are known. Waits for the master as long as it takes. Raises
        TakenName."""
        await self.registry.register()
        for heart in self._hearts:
            await heart.start()
        await self.writer.start()
        await self._recorder.start()
        self._watch_of_nodes.start()
        for watch in self._watches:
            watch.start()
        self._tasks.spawn(self.registry.keep(), name="keep the nodes")
        self._tasks.spawn(self._watch_disconnect(), name="stop pods that must not be cut off for long")
        await self._synced.wait()
        log.info("playing", nodes=len(self.nodes), pods=self.pod_count)

    async def run(self) -> None:
        """Returns when it was stopped."""
        await self._ended.wait()

    def leave_nodes(self) -> None:
        """From now on `stop` leaves everything as it is."""
        self._leaving = True

    async def stop(self) -> None:
        """Removes the nodes, or leaves them. Twice is fine."""
        if self._stopping:
            return
        self._stopping = True
        self._watch_of_nodes.stop()
        for watch in self._watches:
            watch.stop()
        await self._tasks.cancel_all()
        if self._leaving or self.settings.keep:
            await self.writer.flush(FLUSH_TIMEOUT_S)
            self.nodes_left = sum(bool(node.uid) for node in self.nodes.values())
        else:
            self.nodes_left = await self.registry.remove()
        await self.writer.stop()
        await self._recorder.stop()
        for heart in self._hearts:
            await heart.stop()
        self._ended.set()

    @property
    def pod_count(self) -> int:
        """How many pods it plays."""
        return sum(len(node.pods) for node in self.nodes.values())

    def has_synced(self, node: HollowNode) -> None:
        """The pods of this node are known."""
        self._unsynced.discard(node.name)
        if not self._unsynced:
            self._synced.set()

    async def _on_unknown(self, nodes: Sequence[str]) -> None:
        self.registry.unknown(nodes)

    async def _watch_disconnect(self) -> None:
        while True:
            await self._clock.sleep(DISCONNECT_LOOK_S)
            limits_s = [limit for shape in self.shapes if (limit := shape.spec.stopAfterDisconnectSeconds)]
            silent_s = self._clock.monotonic() - max(heart.heard_at_s for heart in self._hearts)
            if limits_s and silent_s > min(limits_s):
                for node in self.nodes.values():
                    node.cut_off(silent_s)

    # --- what the nodes share (a Stage)

    def now(self) -> float:
        """See `Stage`."""
        return self._clock.monotonic()

    def wall(self) -> float:
        """See `Stage`."""
        return self._clock.wall()

    def start_delay(self) -> float:
        """See `Stage`."""
        least, most = self.settings.start_delay_s
        return least if least == most else self._dice.uniform(least, most)

    def report(self, pod: HollowPod, *, remove: bool = False) -> None:
        """See `Stage`."""
        self.writer.put_later(pod.uid, lambda: pod.report(self._clock.wall()), remove=remove)

    def is_reporting(self, uid: str) -> bool:
        """See `Stage`."""
        return self.writer.is_pending(uid)

    def forget(self, pod: HollowPod) -> None:
        """See `Stage`."""
        self.writer.drop(pod.uid)

    def note(self, pod: HollowPod, note: Note) -> None:
        """See `Stage`. What goes well is said if the settings want it: a hundred thousand pods would say it."""
        if note.type == WARNING or self.settings.events:
            about = core.ObjectReference(
                kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid, apiVersion="v1"
            )
            self._recorder.event(about, "Warning" if note.type == WARNING else "Normal", note.reason, note.message)

    def wait_for_dependencies(self, node: HollowNode, pod: HollowPod, names: Sequence[str]) -> None:
        """See `Stage`."""

        async def on_change(missing: tuple[str, ...]) -> None:
            node.due(pod, DependenciesChanged(missing))

        waiting = wait_for_dependencies(self.client, self._clock, pod.namespace, names, on_change)
        self._tasks.spawn(waiting, name=f"wait for dependencies of {pod.namespace}/{pod.name}")

    def later(self, at: float, node: HollowNode, pod: HollowPod, event: PodEvent | None) -> None:
        """See `Stage`."""
        heapq.heappush(self._agenda, (at, next(self._order), node, pod, event))
        if at < self._timer_at:
            self._arm(at)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._tasks.spawn(self._ring(at), name="what is due")

    async def _ring(self, at: float) -> None:
        while (left_s := at - self._clock.monotonic()) > 0:
            await self._clock.sleep(left_s)
        self._timer = None  # whatever is pushed from here on is seen below
        agenda = self._agenda
        done = 0
        while agenda and agenda[0][0] <= self._clock.monotonic():
            _, _, node, pod, event = heapq.heappop(agenda)
            try:
                node.due(pod, event)
            except Exception as error:  # a bug about one pod must not hold up all others
                log.error("a pod cannot be played on", pod=f"{pod.namespace}/{pod.name}", error=repr(error))
            done += 1
            if done % DUE_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._timer_at = float("inf")
        if agenda:
            self._arm(agenda[0][0])


class _Pods:
    """The pods of a node on their way to it."""

    __slots__ = ("_fleet", "_node")

    def __init__(self, fleet: Fleet, node: HollowNode) -> None:
        self._fleet, self._node = fleet, node

    def replace(self, objects: Sequence[core.Pod], revision: int) -> None:
        self._node.replace(objects)
        self._fleet.has_synced(self._node)

    def apply(self, events: Sequence[WatchEvent[core.Pod]], revision: int) -> None:
        node = self._node
        for event in events:
            pod = event.object
            assert pod is not None
            if event.type is EventType.DELETED:
                node.removed(pod.metadata.uid)
            else:
                node.changed(pod)
