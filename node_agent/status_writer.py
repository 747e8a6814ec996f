"""Statuses on their way to the master: many pods, one write per tick.

The newest status of each pod waits here until it is written; an older one that was not written yet is forgotten. The
first change is written at once, what comes while that write is under way, or within the tick, goes together in the
next. When the master is away, everything is kept and tried again: nothing is lost, and nothing grows beyond one status
per pod.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from cluster.actor.backoff import Backoff
from cluster.actor.clock import Clock
from cluster.actor.tasks import Tasks
from cluster.api.errors import ApiError, Conflict, DeadlineExceeded, NotFound, Overloaded, Unavailable
from cluster.api.meta import key_of
from cluster.client import operations
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.telemetry.log import get_logger

_CAUSE = core.Cause(reason="observed")
BATCH_LIMIT = 200
"""Pods in one write."""
RETRY_INITIAL_S, RETRY_MAX_S = 0.1, 2.0
WRITE_TIMEOUT_S = 10.0
_TRY_AGAIN = (Unavailable, DeadlineExceeded, Overloaded)

log = get_logger("node_agent.status")


@dataclass(slots=True)
class _Waiting:
    make: Callable[[], core.Pod]
    """The pod's identity, and the status to be written: as it is when it is written."""
    remove: bool = False


class StatusWriter:
    """Writes pods' statuses in batches, and removes the pods that are over."""

    def __init__(
        self, client: ClusterClient, *, clock: Clock, rng: random.Random, tick_s: float, limit: int = BATCH_LIMIT
    ) -> None:
        """`limit`: pods in one write."""
        self._client, self._clock, self._tick_s, self._limit = client, clock, tick_s, limit
        self._waiting: dict[str, _Waiting] = {}  # by uid: at most one per pod of this node
        self._in_flight: dict[str, _Waiting] = {}
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = Tasks("status writer")
        self._backoff = Backoff(RETRY_INITIAL_S, RETRY_MAX_S, jitter=0.2, rng=rng)
        self.on_written: Callable[[int], None] = lambda count: None
        """Called with the number of operations after each write."""

    async def start(self) -> None:
        """Begins to write."""
        self._tasks.spawn(self._run(), name="write statuses")

    async def stop(self) -> None:
        """Ends; what was not written is lost. Call `flush` before. Twice is fine."""
        await self._tasks.cancel_all()

    async def flush(self, timeout_s: float) -> bool:
        """Waits until everything is written; False if that did not happen in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def is_pending(self, uid: str) -> bool:
        """A status of this pod has not been acknowledged yet."""
        return uid in self._waiting or uid in self._in_flight

    def put(self, pod: core.Pod, status: core.PodStatus) -> None:
        """This is the pod's status now."""
        metadata = core.ObjectMeta(name=pod.metadata.name, namespace=pod.metadata.namespace, uid=pod.metadata.uid)
        report = core.Pod(metadata=metadata, status=status)
        self.put_later(pod.metadata.uid, lambda: report)

    def put_later(self, uid: str, make: Callable[[], core.Pod], *, remove: bool = False) -> None:
        """The pod's status has changed, and `make` makes the report when it is to be written: identity and status.
        `remove`: it has ended for good, and the object can go afterwards."""
        before = self._waiting.get(uid)
        self._waiting[uid] = _Waiting(make, remove or (before is not None and before.remove))
        self._idle.clear()
        self._work.set()

    def remove(self, pod: core.Pod) -> None:
        """The pod has ended for good: after its status has been written, the object can go."""
        self.put(pod, pod.status)
        self._waiting[pod.metadata.uid].remove = True

    def drop(self, uid: str) -> None:
        """The pod is no longer there: nothing is to be written about it any more."""
        self._waiting.pop(uid, None)

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            pause_s = self._tick_s
            while self._waiting:
                if not await self._write_batch():
                    pause_s = self._backoff.next()
                    self._work.set()
                    break
                self._backoff.reset()
            else:
                self._idle.set()
            await self._clock.sleep(pause_s)

    async def _write_batch(self) -> bool:
        """Writes what waits, at most BATCH_LIMIT pods. False if it has to be tried again later."""
        batch = {uid: self._waiting.pop(uid) for uid in list(islice(self._waiting, self._limit))}
        self._in_flight = batch
        steps: list[tuple[str, wire.Operation]] = []
        for uid, item in batch.items():
            report = item.make()
            steps.append((uid, operations.update_status(report)))
            if item.remove:
                steps.append((uid, operations.delete(key_of(report), uid=uid, grace_period_s=0)))
        again: list[str] = []
        try:
            outcome = await self._client.write(
                [operation for _, operation in steps], cause=_CAUSE, timeout_s=WRITE_TIMEOUT_S
            )
        except _TRY_AGAIN as error:
            log.info("statuses not written; trying again", pods=len(batch), error=str(error))
            again = list(batch)
        except ApiError as error:
            log.error("statuses refused", pods=len(batch), error=str(error))
        else:
            self.on_written(len(steps))
            for (uid, _), one in zip(steps, outcome.outcomes, strict=True):
                if isinstance(one.error, _TRY_AGAIN):
                    again.append(uid)
                elif one.error is not None and not isinstance(one.error, NotFound | Conflict):
                    log.error("status refused", pod=uid, error=str(one.error))
        finally:
            self._in_flight = {}
        for uid in again:
            # Unless there is a newer one by now. That the pod is over stays true.
            newer = self._waiting.setdefault(uid, batch[uid])
            newer.remove = newer.remove or batch[uid].remove
        return not again
