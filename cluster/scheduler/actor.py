"""The scheduler as a running thing: informers feed the world, its decisions become writes.

    informers -> World (sync, on the loop) -> bindings  -> one write for all              -> bound / unbound
                                           -> gangs     -> one atomic write each          -> bound / unbound
                                           -> evictions -> the condition and the deletion -> (the watch) / spared
                                           -> refusals  -> Reporter

At most `binds_in_flight` writes are under way at once.

A write carries the bindings of one round, each with its own result, and as its cause the revision that the snapshot
was true as of. While all writes are in flight, pods gather in the queue and the next round is fuller: batches are small
when there is little to do and large when there is much.

A write whose fate is unknown (the master went away) is sent again: a pod is bound only once, so the worst answer is
Conflict, and the watch tells who is where.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from typing import Any

from cluster.actor.clock import Clock
from cluster.actor.supervisor import ChildSpec, Restart
from cluster.actor.tasks import Tasks
from cluster.api.conditions import get_condition
from cluster.api.errors import ApiError, DeadlineExceeded, NotFound, Unavailable
from cluster.client import operations
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient, OperationOutcome
from cluster.config.profiles import Profile
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.configuration import load_settings, profiles_of
from cluster.scheduler.deciding import Refused
from cluster.scheduler.evicting import Evicting
from cluster.scheduler.patience import Stranger
from cluster.scheduler.records import Stamp
from cluster.scheduler.reporter import Reporter
from cluster.scheduler.service import Desk
from cluster.scheduler.settings import SchedulerSettings
from cluster.scheduler.together import Binding
from cluster.scheduler.world import World

_log = logging.getLogger("podium.scheduler")

SYNC_TIMEOUT_S = 60.0
RESEND_S = 0.2
HOLD_S = 0.4
"""So long each batch of reports waits while pods wait to be bound: of each kind 250 a second, a small share of what the
master takes."""


def build_scheduler(
    client: ClusterClient,
    profile: Profile,
    clock: Clock,
    rng: random.Random,
    settings: SchedulerSettings | None = None,
    desk: Desk | None = None,
) -> list[ChildSpec]:
    """What to supervise in order to have a scheduler. Each restart begins with nothing but the cluster's state.

    `desk`: where it leaves its world, while it works, for those who ask.
    """
    chosen, shown = settings or load_settings(profile), desk or Desk()
    return [ChildSpec("scheduler", lambda: Scheduler(client, chosen, clock, rng, shown), Restart.ALWAYS)]


class Scheduler:
    """Places pods. `start`, then `run` until it is cancelled, then `stop`."""

    def __init__(
        self,
        client: ClusterClient,
        settings: SchedulerSettings,
        clock: Clock,
        rng: random.Random,
        desk: Desk | None = None,
    ) -> None:
        self._client = client
        self._desk = desk or Desk()
        self._settings = settings
        self._clock = clock
        self._world = World(settings, rng, profiles_of(settings))
        self._reporter = Reporter(client, clock, repeat_event_s=settings.repeat_event_s, hold_s=self._hold_s)
        self._tasks = Tasks("scheduler")
        self._wake = asyncio.Event()
        self._free_writes = asyncio.Semaphore(settings.binds_in_flight)
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at_s = 0.0
        self._pods: Informer[core.Pod] = Informer(client, core.Pod, clock=clock, rng=rng)
        self._nodes: Informer[core.Node] = Informer(client, core.Node, clock=clock, rng=rng)
        self._services: Informer[core.Service] = Informer(client, core.Service, clock=clock, rng=rng)
        self._controllers: Informer[core.ReplicationController] = Informer(
            client, core.ReplicationController, clock=clock, rng=rng
        )
        self._namespaces: Informer[core.Namespace] = Informer(client, core.Namespace, clock=clock, rng=rng)
        self._budgets: Informer[core.PodDisruptionBudget] = Informer(
            client, core.PodDisruptionBudget, clock=clock, rng=rng
        )
        self._evicting = Evicting(client, clock, self._world, self._pods, self._reporter, settings.assume_ttl_s)

    @property
    def world(self) -> World:
        """What it knows; for tests and for those who explain."""
        return self._world

    async def start(self) -> None:
        """Begins to listen. Returns when the state of the cluster is known. Raises DeadlineExceeded."""
        self._nodes.add_handler(self._on_node)
        self._services.add_handler(self._world.service_changed)
        self._controllers.add_handler(self._world.controller_changed)
        self._namespaces.add_handler(self._world.namespace_changed)
        self._budgets.add_handler(self._world.budget_changed)
        self._pods.add_batch_handler(self._on_pods)
        for informer in self._informers():
            await informer.start()
        for informer in self._informers():
            await informer.wait_synced(SYNC_TIMEOUT_S)
        await self._reporter.start()
        self._desk.world = self._world

    async def run(self) -> None:
        """Decides and writes for as long as it is let."""
        while True:
            self._set_alarm()
            await self._wake.wait()
            self._wake.clear()
            while self._world.has_work(self._clock.monotonic()):
                await self._free_writes.acquire()
                self._free_writes.release()
                self._round()
                await asyncio.sleep(0)  # let the news in, and the writes out

    async def stop(self) -> None:
        """Ends everything; writes under way may or may not happen. Twice is fine."""
        if self._desk.world is self._world:
            self._desk.world = None
        for informer in self._informers():
            await informer.stop()
        await self._tasks.cancel_all()
        await self._reporter.stop()

    def _informers(self) -> Sequence[Informer[Any]]:
        # Pods last: what they are judged by is known when they come.
        return (self._nodes, self._services, self._controllers, self._namespaces, self._budgets, self._pods)

    # -- news

    def _on_pods(self, changes: Sequence[tuple[core.Pod | None, core.Pod | None]]) -> None:
        self._world.pods_changed(changes)
        for old, new in changes:
            if new is None and old is not None:
                self._reporter.gone(old.metadata.uid)
        self._wake.set()

    def _on_node(self, old: core.Node | None, new: core.Node | None) -> None:
        self._world.node_changed(old, new)
        self._wake.set()

    # -- decisions

    def _round(self) -> None:
        """One round of decisions; what has to be written is on its way afterwards."""
        now_s = self._clock.monotonic()
        revision = max(self._pods.revision, self._nodes.revision)
        decisions = self._world.decide(self._settings.bind_batch, now_s, Stamp(revision, self._clock.wall()))
        for refused in decisions.refusals:
            self._report(refused)
        cause = core.Cause(revision=revision, reason="schedule")
        if decisions.evictions:
            evictions = decisions.evictions
            self._spawn(self._evicting.evict(evictions, cause), f"make {len(evictions)} pods go")
        if decisions.bindings:
            bindings = decisions.bindings
            self._spawn(self._bind(bindings, cause, atomic=False), f"bind {len(bindings)} pods")
        for gang in decisions.gangs:
            self._spawn(self._bind(gang, cause, atomic=True), f"bind a group of {len(gang)} pods")
        for stranger in decisions.strangers:
            self._report_stranger(stranger)
        for problem in decisions.broken:
            _log.warning("%s", problem)

    def _report(self, refused: Refused) -> None:
        for waiting in refused.waiting:
            pod = self._pods.indexer.get(waiting.key)
            if pod is not None and pod.metadata.uid == waiting.uid:
                self._reporter.unschedulable(pod, refused.message, refused.node)

    def _report_stranger(self, stranger: Stranger) -> None:
        pod = self._pods.indexer.get(stranger.key)
        if pod is None or pod.metadata.uid != stranger.uid or pod.spec.nodeName:
            return
        if get_condition(pod.status, "PodScheduled") is None:  # else its scheduler is there, and has spoken
            here = ", ".join(sorted(self._world.profiles))
            words = f'no scheduler named "{stranger.scheduler}" runs here, those that do are {here}'
            self._reporter.warn(pod, "FailedScheduling", words)

    def _hold_s(self) -> float:
        return HOLD_S if self._free_writes.locked() or self._world.queue.has_active else 0.0

    # -- writes

    def _spawn(self, write: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.spawn(self._when_free(write), name=name)

    async def _when_free(self, write: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._free_writes:
                await write
        finally:
            write.close()  # if it was cancelled before it began
            self._wake.set()

    async def _bind(self, bindings: Sequence[Binding], cause: core.Cause, *, atomic: bool) -> None:
        settled, sent_at_s = False, self._clock.wall()
        try:
            outcomes, unsure = await self._write(bindings, cause, atomic=atomic)
            self._settle(bindings, outcomes, unsure, sent_at_s)
            settled = True
        finally:
            if not settled:  # cancelled
                self._world.unbound([binding.waiting.uid for binding in bindings], self._clock.monotonic())

    async def _write(
        self, bindings: Sequence[Binding], cause: core.Cause, *, atomic: bool
    ) -> tuple[Sequence[OperationOutcome | ApiError], bool]:
        """The outcome of each binding, and whether an earlier sending may have had effect."""
        writes = [operations.bind(b.waiting.key, b.placement.node, uid=b.waiting.uid) for b in bindings]
        give_up_at_s = self._clock.monotonic() + self._settings.assume_ttl_s
        unsure = False
        while True:
            try:
                return (await self._client.write(writes, atomic=atomic, cause=cause)).outcomes, unsure
            except (Unavailable, DeadlineExceeded) as error:
                unsure = True
                if self._clock.monotonic() >= give_up_at_s:
                    _log.warning("%d bindings were given up: %s", len(bindings), error)
                    return [error] * len(bindings), False
                await self._clock.sleep(RESEND_S)
            except ApiError as error:
                _log.warning("%d bindings were refused: %s", len(bindings), error)
                return [error] * len(bindings), unsure

    def _settle(
        self,
        bindings: Sequence[Binding],
        outcomes: Sequence[OperationOutcome | ApiError],
        unsure: bool,
        sent_at_s: float,
    ) -> None:
        now_s = self._clock.monotonic()
        failed = []
        for binding, outcome in zip(bindings, outcomes, strict=True):
            uid = binding.waiting.uid
            error = outcome if isinstance(outcome, ApiError) else outcome.error
            if error is None:
                assert isinstance(outcome, OperationOutcome)
                self._world.bound(uid, now_s)
                if isinstance(outcome.object, core.Pod):
                    self._reporter.scheduled(outcome.object, binding.placement.node, sent_at_s)
            elif unsure and not isinstance(error, NotFound):
                # Bound already, perhaps by the first sending: the watch will tell, or it expires.
                self._world.bound(uid, now_s)
            else:
                _log.info("pod %s was not bound to %s: %s", binding.waiting.key, binding.placement.node, error)
                failed.append(uid)
        if failed:
            self._world.unbound(failed, now_s)

    # -- time

    def _set_alarm(self) -> None:
        """Wakes the loop when the world has something to do by itself."""
        due_s = self._world.next_due_s()
        if due_s is None or (self._alarm is not None and not self._alarm.done() and self._alarm_at_s <= due_s):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at_s = due_s
        self._alarm = self._tasks.spawn(self._sound_alarm(due_s), name="scheduler alarm")

    async def _sound_alarm(self, at_s: float) -> None:
        await self._clock.sleep(max(0.0, at_s - self._clock.monotonic()))
        self._wake.set()
