"""Watches over the nodes: who is alive, who is marked unreachable, and whose pods have to move.

Three loops, and decisions that live elsewhere (`heartbeats`, `zones`, `taints`, `node_status`):

  listen   the stream of heartbeats; how long each node has been silent, by our own clock
  tick     every node_monitor_period: which nodes have fallen silent, what the breaker says to that, and to which
           nodes it grants an eviction now
  sync     one node at a time, on a change of the node or on behalf of the tick: conditions and taints in one atomic
           write, then its pods' Ready

Pods under NoExecute taints are driven away by `taint_eviction.py`. A node that comes back posts Ready=True itself;
that change takes the taints off.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from cluster.actor.backoff import Backoff
from cluster.actor.tasks import Tasks
from cluster.api.conditions import FALSE, TRUE, UNKNOWN, is_pod_ready
from cluster.api.errors import ApiError
from cluster.api.hollow import speaks_for
from cluster.api.meta import Key, from_time
from cluster.client import operations
from cluster.controllers.caches import NODE
from cluster.controllers.context import Context
from cluster.controllers.heartbeats import Freshness, Heartbeats
from cluster.controllers.node_status import silent_node, unready_pod
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.taints import is_marked_for_eviction, ready_status, same_taints, wanted_taints
from cluster.controllers.writes import cause, chunks, root_error
from cluster.controllers.zones import Breaker, BreakerRates, Turn, take_census
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core

ZONE_LABEL = "topology.kubernetes.io/zone"
WORKERS = 64
"""Their writes travel together: with a few, thousands of new nodes would wait for the disk one after another."""
RECONNECT_INITIAL_S, RECONNECT_MAX_S = 0.05, 1.0
FAILOVER_S = 4.0
"""When heartbeats are heard again, agents get this on top of their grace: those whose master was suspended need 3 s to
notice, and go to another one. (Nomad gives 300 s, for larger clusters.)"""
NEWCOMER_S = 60.0
"""A node that was created longer ago is no news when we see it for the first time: it is we who have just started."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _View:
    """What the tick needs to know of a node, so that it reads no messages."""

    ready: str
    zone: str
    marked: bool


class NodeLifecycle:
    """The actor. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        caches, profile = context.caches, context.profile
        self._client = context.client
        self._nodes = caches.nodes
        self._pods = caches.pods
        self._events = context.events
        self._clock = context.clock
        self._rng = context.rng
        self._period_s = profile.node_monitor_period_s
        self._heartbeats = Heartbeats(
            grace_s=profile.node_monitor_grace_s, startup_grace_s=profile.node_startup_grace_s
        )
        self._breaker = Breaker(
            BreakerRates(
                normal_per_s=profile.eviction_rate_per_s,
                secondary_per_s=profile.secondary_eviction_rate_per_s,
                large_zone_threshold=profile.large_zone_threshold,
                unhealthy_fraction=profile.unhealthy_zone_fraction,
            )
        )
        self._views: dict[str, _View] = {}
        self._granted: set[str] = set()
        self._silent: set[str] = set()  # As of the tick before.
        self._judging = False
        self._tasks = Tasks("node lifecycle", on_crash=context.on_crash)
        self._reconciler: Reconciler[str] = Reconciler(
            "node lifecycle", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        caches.nodes.add_handler(self._on_node)
        caches.pods.add_handler(self._on_pod)

    async def start(self) -> None:
        await self._reconciler.start()
        self._tasks.spawn(self._listen(), name="heartbeats")
        self._tasks.spawn(self._run_ticks(), name="node monitor")

    async def stop(self) -> None:
        await self._tasks.cancel_all()
        await self._reconciler.stop()

    # --- what wakes us

    def _add_all(self) -> None:
        for name in self._views:
            self._reconciler.queue.add(name)

    def _on_node(self, old: core.Node | None, new: core.Node | None) -> None:
        if new is None:
            assert old is not None
            name = old.metadata.name
            self._heartbeats.forget(name)
            self._views.pop(name, None)
            self._granted.discard(name)
            return
        name, now = new.metadata.name, self._clock.monotonic()
        self._heartbeats.track(name, new.metadata.uid, now)
        if old is not None and speaks_for(new.metadata.actor, name):
            self._heartbeats.sign_of_life(name, now)
        view = _View(ready_status(new), new.metadata.labels.get(ZONE_LABEL, ""), is_marked_for_eviction(new))
        self._views[name] = view
        self._tell(old, new, view.ready)
        self._reconciler.queue.add(name)

    def _tell(self, old: core.Node | None, new: core.Node, ready: str) -> None:
        """Records what has become of the node, for people."""
        name = new.metadata.name
        before = ready_status(old) if old is not None else ""
        if old is None:
            if self._clock.wall() - from_time(new.metadata.creationTimestamp) > NEWCOMER_S:
                return
            self._events.event(
                new, "Normal", "RegisteredNode", f"Node {name} event: Registered Node {name} in Controller"
            )
        if ready == TRUE and before != TRUE:
            self._events.event(new, "Normal", "NodeReady", f"Node {name} status is now: NodeReady")
        elif ready != TRUE and before == TRUE:
            self._events.event(new, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        # A report that was on its way when the node was given up must not stand.
        if new is not None and new.spec.nodeName:
            view = self._views.get(new.spec.nodeName)
            if view is not None and view.ready == UNKNOWN and is_pod_ready(new):
                self._reconciler.queue.add(new.spec.nodeName)

    # --- the loops

    async def _listen(self) -> None:
        backoff = Backoff(RECONNECT_INITIAL_S, RECONNECT_MAX_S, jitter=0.2, rng=self._rng)
        allowance_s = 0.0
        while True:
            try:
                async with self._client.watch_heartbeats() as batches:
                    self._heartbeats.stream_opened(self._clock.monotonic() + allowance_s)
                    allowance_s = FAILOVER_S
                    async for batch in batches:
                        backoff.reset()
                        self._heartbeats.batch(
                            [(beat.node, beat.sequence) for beat in batch.heartbeats], self._clock.monotonic()
                        )
            except ApiError as error:
                _log.info("the stream of heartbeats broke: %s", error)
            finally:
                self._heartbeats.stream_lost()
            await self._clock.sleep(backoff.next())

    async def _run_ticks(self) -> None:
        while True:
            await self._clock.sleep(self._period_s)
            self.tick(self._clock.monotonic())

    def tick(self, now: float) -> None:
        """One look at all nodes. `now`: monotonic seconds."""
        self._judging = self._heartbeats.tick(now)
        if not self._judging:
            return
        fresh = {
            name: self._heartbeats.freshness(name, now, was_ready=view.ready != "")
            for name, view in self._views.items()
        }
        census = take_census(
            (view.zone, view.ready == TRUE and fresh[name] is Freshness.FRESH) for name, view in self._views.items()
        )
        turn = self._breaker.observe(census, now)
        if turn is Turn.RECOVERED:
            _log.info("nodes are back: all timers start again")
            self._heartbeats.restart(now)
            return
        if turn is Turn.ALL_FAILED:
            _log.warning("no zone has a ready node: all evictions stop")
            self._granted.clear()
            for name, view in self._views.items():
                if view.marked:
                    self._reconciler.queue.add(name)
        for name, view in self._views.items():
            silent = fresh[name] is Freshness.SILENT
            if silent and (view.ready != UNKNOWN or name not in self._silent):
                self._reconciler.queue.add(name)
            failed = silent or (view.ready == FALSE and self._heartbeats.is_settled(now))
            granted = view.marked or name in self._granted
            if failed and not granted and self._breaker.may_evict(view.zone, now):
                self._granted.add(name)
                self._reconciler.queue.add(name)
        self._silent = {name for name in fresh if fresh[name] is Freshness.SILENT}

    # --- one node

    async def _sync(self, name: str) -> bool:
        node = self._nodes.indexer.get(Key("Node", "", name))
        if node is None:
            return True
        was_ready = ready_status(node) != ""
        fresh = self._heartbeats.freshness(name, self._clock.monotonic(), was_ready=was_ready)
        silent = self._judging and fresh is Freshness.SILENT
        target = await self._write_node(node, silent)
        if ready_status(target) == TRUE:
            self._granted.discard(name)
        return await self._unready_pods(target) if silent and ready_status(target) == UNKNOWN else True

    async def _write_node(self, node: core.Node, silent: bool) -> core.Node:
        """Conditions and taints as they shall be, in one atomic write; returns the node with these conditions."""
        wall_s = self._clock.wall()
        writes: list[wire.Operation] = []
        target = silent_node(node, wall_s) if silent else None
        if target is not None:
            writes.append(operations.update_status(target))
        else:
            target = node
        evict = not self._breaker.all_failed and (is_marked_for_eviction(node) or node.metadata.name in self._granted)
        taints = wanted_taints(target, evict=evict, now_s=wall_s)
        if not same_taints(taints, node.spec.taints):
            tainted = core.Node()
            tainted.CopyFrom(target)
            del tainted.spec.taints[:]
            tainted.spec.taints.extend(taints)
            if writes:
                # The operation before it in this write has checked the version, and has changed it.
                tainted.metadata.ClearField("resourceVersion")
            writes.append(operations.update(tainted))
        if writes:
            written = await self._client.write(writes, atomic=True, cause=cause(node, "node-lifecycle"))
            error = root_error(written)
            if error is not None:
                raise error
            now = written.outcomes[-1].unwrap()
            assert isinstance(now, core.Node)
            target = now  # with the revision that is the cause of what follows
        return target

    async def _unready_pods(self, node: core.Node) -> bool:
        """Takes the node's pods out of service. False if some of them have changed meanwhile."""
        wall_s = self._clock.wall()
        pods = [unready_pod(pod, wall_s) for pod in self._pods.indexer.by_index(NODE, node.metadata.name)]
        writes = [operations.update_status(pod) for pod in pods if pod is not None]
        done = True
        for some in chunks(writes):
            written = await self._client.write(some, cause=cause(node, "node-not-ready"))
            done = done and all(outcome.error is None for outcome in written.outcomes)
        return done
