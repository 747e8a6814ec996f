"""Tells the world about placements: Scheduled, FailedScheduling and Preempted events, and the condition PodScheduled.

A pod that fits nowhere gets the condition PodScheduled=False with the message that Kubernetes would write, and with it
where it is nominated. Nothing here may hold up scheduling: events go through the recorder, conditions through a bounded
table, drained here and written in batches by a task of their own. What the pod's status says already is not written
again. A report may get lost (a full table, a conflict); the next look at the pod makes a new one.

While pods wait to be bound, reports step back (`hold_s`): each costs the master as much as a binding. Then so many are
written a second as take a small share of it; the rest follows when there is nothing better to do, or is dropped, the
oldest first, and counted (`dropped`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable

from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.conditions import get_condition, set_condition
from cluster.api.errors import ApiError
from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.client.events import EventRecorder
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import core_pb2 as core

_log = logging.getLogger("podium.scheduler")

PENDING_LIMIT = 10_000
"""Conditions that wait to be written. When full, the oldest is dropped: that pod is told when it is looked at next."""
EVENTS_LIMIT = 10_000
"""Events that wait to be made, and to be written: a crowd of pods is bound faster than people's news of it is written.
When full, the oldest is dropped."""
WRITE_BATCH = 100
RETRY_S = 1.0


class Reporter:
    """Writes events and conditions on behalf of the scheduler."""

    def __init__(
        self,
        client: ClusterClient,
        clock: Clock,
        *,
        repeat_event_s: float,
        hold_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._client = client
        self._clock = clock
        self._repeat_event_s = repeat_event_s
        self._hold_s = hold_s
        self._recorder = EventRecorder(client, "default-scheduler", clock=clock, limit=EVENTS_LIMIT, hold_s=hold_s)
        self._tasks = Tasks("scheduler reporter")
        self._work = asyncio.Event()
        self._pending: OrderedDict[Key, core.Pod] = OrderedDict()
        self._scheduled: deque[tuple[core.Pod, str, float]] = deque()
        """Pods that were bound, and where: what becomes an event is made when there is time for it."""
        self._news = asyncio.Event()
        self._said_at_s: dict[str, float] = {}
        self._overflowed = 0

    @property
    def dropped(self) -> int:
        """Events and conditions that were not written."""
        return self._recorder.dropped + self._overflowed

    async def start(self) -> None:
        """Begins to write."""
        await self._recorder.start()
        self._tasks.spawn(self._write_conditions(), name="scheduler conditions")
        self._tasks.spawn(self._tell_scheduled(), name="scheduler events")

    async def stop(self) -> None:
        """Writes the events that are left, for a moment, and ends. Twice is fine."""
        await self._tasks.cancel_all()
        self._record_scheduled(len(self._scheduled))
        await self._recorder.stop()

    def scheduled(self, pod: core.Pod, node: str, at_s: float) -> None:
        """A pod was bound; `pod` is what the binding returned, so that the event carries the binding's revision.
        `at_s`: when it was sent (seconds since 1970). Its node may have started the pod before the answer was here."""
        meta = pod.metadata
        self._said_at_s.pop(meta.uid, None)
        self._pending.pop(Key("Pod", meta.namespace, meta.name), None)
        self._scheduled.append((pod, node, at_s))
        if len(self._scheduled) > EVENTS_LIMIT:
            self._scheduled.popleft()
            self._overflowed += 1
        self._news.set()

    def unschedulable(self, pod: core.Pod, message: str, node: str = "") -> None:
        """A pod (as it was last seen) fits nowhere. `node`: where it is nominated; without a message, only that."""
        uid, now_s = pod.metadata.uid, self._clock.monotonic()
        if self._says_already(pod, message, node):
            if not message or now_s - self._said_at_s.setdefault(uid, now_s) < self._repeat_event_s:
                return
        else:
            self._enqueue(pod, message, node)
        if message:
            self._said_at_s[uid] = now_s
            self._recorder.event(pod, "Warning", "FailedScheduling", message)

    def warn(self, about: core.Pod, reason: str, message: str) -> None:
        """Something that does not become a condition of the pod."""
        self._recorder.event(about, "Warning", reason, message)

    def preempted(self, victim: core.Pod, preemptor: Key, node: str) -> None:
        """A pod has to make room."""
        words = f"Preempted by {preemptor.namespace}/{preemptor.name} on node {node}"
        self._recorder.event(victim, "Normal", "Preempted", words)

    def gone(self, uid: str) -> None:
        """A pod does not wait any more."""
        self._said_at_s.pop(uid, None)

    def _says_already(self, pod: core.Pod, message: str, node: str) -> bool:
        waiting = self._pending.get(Key("Pod", pod.metadata.namespace, pod.metadata.name))
        latest = waiting if waiting is not None and waiting.metadata.uid == pod.metadata.uid else pod
        if latest.status.nominatedNodeName != node:
            return False
        condition = get_condition(latest.status, "PodScheduled")
        return not message or (condition is not None and (condition.status, condition.message) == ("False", message))

    def _enqueue(self, pod: core.Pod, message: str, node: str) -> None:
        key = Key("Pod", pod.metadata.namespace, pod.metadata.name)
        waiting = self._pending.get(key)
        same = waiting is not None and waiting.metadata.resourceVersion == pod.metadata.resourceVersion
        changed = core.Pod()
        changed.CopyFrom(waiting if waiting is not None and same else pod)
        if message:
            set_condition(changed.status, "PodScheduled", "False", self._clock.wall(), "Unschedulable", message)
        if node:
            changed.status.nominatedNodeName = node
        else:
            changed.status.ClearField("nominatedNodeName")
        self._pending[key] = changed
        self._pending.move_to_end(key)
        if len(self._pending) > PENDING_LIMIT:
            self._pending.popitem(last=False)
            self._overflowed += 1
        self._work.set()

    def _record_scheduled(self, most: int) -> None:
        for _ in range(min(most, len(self._scheduled))):
            pod, node, at_s = self._scheduled.popleft()
            words = f"Successfully assigned {pod.metadata.namespace}/{pod.metadata.name} to {node}"
            self._recorder.event(pod, "Normal", "Scheduled", words, at_s=at_s)

    async def _tell_scheduled(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._scheduled:
                if (hold_s := self._hold_s()) > 0:
                    await self._clock.sleep(hold_s)
                self._record_scheduled(WRITE_BATCH)
                await asyncio.sleep(0)  # a crowd's events are not made in one go

    async def _write_conditions(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._pending:
                if (hold_s := self._hold_s()) > 0:
                    await self._clock.sleep(hold_s)
                batch = [self._pending.popitem(last=False)[1] for _ in range(min(WRITE_BATCH, len(self._pending)))]
                if not batch:
                    break  # all of them were bound meanwhile
                try:
                    # With the version that was seen: a status that has changed meanwhile is not overwritten. The change
                    # is news of the pod, and if it still waits, it is told again when it is looked at next.
                    written = await self._client.write(
                        [operations.update_status(pod) for pod in batch], cause=core.Cause(reason="unschedulable")
                    )
                except ApiError as error:
                    _log.info("%d conditions were not written: %s", len(batch), error)
                    self._overflowed += len(batch)
                    await self._clock.sleep(RETRY_S)
                else:
                    for pod, outcome in zip(batch, written.outcomes, strict=True):
                        if outcome.error is not None:
                            _log.debug("the condition of %s was not written: %s", key_of(pod), outcome.error)
