"""Tells pods to go that make room for others: why (a condition), that (the deletion), and for whom (an event).

Both are written at once, the condition first, so that whoever sees the pod go sees why. The condition is written over
the status that was seen; if that was not the latest, it is tried again on the latest, a few times. Pods go gracefully,
with their own grace period, and only the very pod that was meant (uid). Disruption budgets were looked at when the
victims were chosen.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cluster.actor.clock import Clock
from cluster.api.conditions import set_condition
from cluster.api.errors import ApiError, Conflict, DeadlineExceeded, NotFound, Overloaded, Unavailable
from cluster.api.meta import Key
from cluster.client import operations
from cluster.client.informer import Informer
from cluster.client.interface import ClusterClient
from cluster.pb.v1 import cluster_pb2 as wire
from cluster.pb.v1 import core_pb2 as core
from cluster.scheduler.deciding import Eviction
from cluster.scheduler.reporter import Reporter
from cluster.scheduler.world import World

_log = logging.getLogger("podium.scheduler")

AT_ONCE = 500
"""So many pods are told to go by one write, with two operations each."""
RESEND_S = 0.2
MARKINGS, MARKING_PAUSE_S = 5, 0.05
"""So often a condition is tried again when somebody else was faster."""
CONDITION, REASON = "DisruptionTarget", "PreemptionByScheduler"
_LATER = (Unavailable, DeadlineExceeded, Overloaded)


class Evicting:
    """Writes the evictions that the world has decided on."""

    def __init__(
        self,
        client: ClusterClient,
        clock: Clock,
        world: World,
        pods: Informer[core.Pod],
        reporter: Reporter,
        give_up_s: float,
    ) -> None:
        self._client = client
        self._clock = clock
        self._world = world
        self._pods = pods
        self._reporter = reporter
        self._give_up_s = give_up_s

    async def evict(self, evictions: Sequence[Eviction], cause: core.Cause) -> None:
        """Tells all of them; those that cannot be told are spared, and the world knows it."""
        left = {eviction.victim.uid: eviction for eviction in evictions}
        try:
            for start in range(0, len(evictions), AT_ONCE):
                some = evictions[start : start + AT_ONCE]
                told = await self._tell(some, cause)
                for eviction in some:
                    if eviction.victim.uid in told:
                        del left[eviction.victim.uid]
        finally:
            self._world.spared(left)

    async def _tell(self, evictions: Sequence[Eviction], cause: core.Cause) -> set[str]:
        """The uids of those that go (or are gone)."""
        give_up_at_s = self._clock.monotonic() + self._give_up_s
        while True:
            writes: list[wire.Operation] = []
            owners: list[tuple[Eviction, bool]] = []
            for eviction in evictions:
                seen = self._pods.indexer.get(_key(eviction))
                if seen is not None and seen.metadata.uid == eviction.victim.uid:
                    writes.append(operations.update_status(self._marked(seen, eviction)))
                    owners.append((eviction, True))
                writes.append(operations.delete(_key(eviction), uid=eviction.victim.uid))
                owners.append((eviction, False))
            try:
                outcomes = (await self._client.write(writes, cause=cause)).outcomes
            except _LATER as error:
                if self._clock.monotonic() >= give_up_at_s:
                    _log.warning("%d pods were not told to make room: %s", len(evictions), error)
                    return set()
                await self._clock.sleep(RESEND_S)
                continue
            except ApiError as error:
                _log.warning("%d pods were not told to make room: %s", len(evictions), error)
                return set()
            break
        gone: set[str] = set()
        unmarked: dict[str, Eviction] = {}
        for (eviction, is_condition), outcome in zip(owners, outcomes, strict=True):
            uid = eviction.victim.uid
            if is_condition:
                if outcome.error is not None:
                    unmarked[uid] = eviction
            elif outcome.error is None or isinstance(outcome.error, NotFound):
                gone.add(uid)
                if isinstance(outcome.object, core.Pod):
                    self._reporter.preempted(outcome.object, eviction.preemptor, eviction.node)
            else:
                unmarked.pop(uid, None)
                _log.info("pod %s was not told to make room: %s", _key(eviction), outcome.error)
        await self._mark_late(list(unmarked.values()), cause)
        return gone

    async def _mark_late(self, evictions: Sequence[Eviction], cause: core.Cause) -> None:
        """Conditions over which somebody else has written: its node has news of such a pod just now."""
        for eviction in evictions:
            key = _key(eviction)
            for _ in range(MARKINGS):
                try:
                    latest = await self._client.get(core.Pod, key.name, key.namespace)
                    if latest.metadata.uid != eviction.victim.uid:
                        break
                    marking = operations.update_status(self._marked(latest, eviction))
                    (await self._client.write([marking], cause=cause)).outcomes[0].unwrap()
                    break
                except Conflict:
                    await self._clock.sleep(MARKING_PAUSE_S)
                except ApiError as error:
                    _log.info("why pod %s makes room was not written: %s", key, error)
                    break

    def _marked(self, pod: core.Pod, eviction: Eviction) -> core.Pod:
        changed = core.Pod()
        changed.CopyFrom(pod)
        words = f"{eviction.profile}: preempting to accommodate a higher priority pod"
        set_condition(changed.status, CONDITION, "True", self._clock.wall(), REASON, words)
        return changed


def _key(eviction: Eviction) -> Key:
    return Key("Pod", eviction.victim.pod_class.namespace, eviction.victim.name)
