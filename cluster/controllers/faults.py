"""Removes faults at their end, so that nothing goes wrong for longer than somebody meant it to.

Those who carry faults out look at the end themselves; this is what makes them disappear. It removes exactly the fault
that it means (by its uid): one that was deleted and made anew meanwhile has an end of its own.
"""

from __future__ import annotations

from cluster.api.meta import Key, from_time, is_terminating, key_of
from cluster.client import operations
from cluster.controllers.context import Context
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.writes import cause
from cluster.pb.v1 import core_pb2 as core

WORKERS = 1


class FaultController:
    """The actor; its keys are those of faults. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._clock = context.clock
        self._faults = context.caches.faults
        self._reconciler: Reconciler[Key] = Reconciler(
            "faults", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        context.caches.faults.add_handler(self._on_fault)

    async def start(self) -> None:
        await self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    def _add_all(self) -> None:
        for fault in self._faults.indexer.list():
            self._reconciler.queue.add(key_of(fault))

    def _on_fault(self, old: core.Fault | None, new: core.Fault | None) -> None:
        if new is not None:
            self._reconciler.queue.add(key_of(new))

    async def _sync(self, key: Key) -> bool:
        fault = self._faults.indexer.get(key)
        if fault is None or is_terminating(fault):
            return True
        left_s = from_time(fault.status.endsAt) - self._clock.wall()
        if left_s > 0:
            self._reconciler.queue.add_after(key, left_s)
            return True
        written = await self._client.write(
            [operations.delete(key, uid=fault.metadata.uid)], cause=cause(fault, "fault-ended")
        )
        written.outcomes[0].unwrap()
        return True
