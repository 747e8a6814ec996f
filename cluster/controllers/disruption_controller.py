"""Keeps the status of every disruption budget true: how many of its pods may be evicted now.

What it should be is reckoned in `disruption.py`. The status is written for exactly the version that was reckoned with:
an eviction that the master lets through in between spends from the budget, which makes a new version, and the reckoning
is done again with it. So an allowance is never given out twice, however late this controller is.
"""

from __future__ import annotations

from cluster.api.disruption import covers
from cluster.api.kinds import AnyObject
from cluster.api.meta import Key, key_of
from cluster.client import operations
from cluster.controllers.caches import NAMESPACE
from cluster.controllers.context import Context
from cluster.controllers.disruption import Count, count
from cluster.controllers.reconciler import Reconciler
from cluster.controllers.writes import cause
from cluster.pb.v1 import core_pb2 as core

WORKERS = 2
COALESCE_S = 0.003
"""Pods become ready in crowds: what comes within this time is reckoned together."""


class DisruptionController:
    """The actor; its keys are those of budgets. `start` after the caches have synced."""

    def __init__(self, context: Context) -> None:
        caches = context.caches
        self._client = context.client
        self._events = context.events
        self._clock = context.clock
        self._budgets = caches.budgets
        self._pods = caches.pods
        self._controllers = caches.controllers
        # What made the next write necessary, per budget.
        self._causes: dict[Key, core.Cause] = {}
        self._reconciler: Reconciler[Key] = Reconciler(
            "disruption", self._sync, workers=WORKERS, context=context, resync=self._add_all
        )
        caches.budgets.add_handler(self._on_budget)
        caches.pods.add_handler(self._on_pod)
        caches.controllers.add_handler(self._on_controller)

    async def start(self) -> None:
        await self._reconciler.start()

    async def stop(self) -> None:
        await self._reconciler.stop()

    # --- what wakes us

    def _add_all(self) -> None:
        for budget in self._budgets.indexer.list():
            self._reconciler.queue.add(key_of(budget))

    def _wake(self, budget: core.PodDisruptionBudget, because: AnyObject) -> None:
        key = key_of(budget)
        self._causes[key] = cause(because, "disruption budget")
        self._reconciler.queue.add_after(key, COALESCE_S)

    def _on_budget(self, old: core.PodDisruptionBudget | None, new: core.PodDisruptionBudget | None) -> None:
        if new is not None:
            self._wake(new, new)
        elif old is not None:
            self._causes.pop(key_of(old), None)

    def _on_pod(self, old: core.Pod | None, new: core.Pod | None) -> None:
        current = new or old
        assert current is not None
        for budget in self._budgets.indexer.by_index(NAMESPACE, current.metadata.namespace):
            if any(pod is not None and covers(budget, pod) for pod in (old, new)):
                self._wake(budget, current)

    def _on_controller(self, old: core.ReplicationController | None, new: core.ReplicationController | None) -> None:
        current = new or old
        assert current is not None
        if old is None or new is None or old.spec.replicas != new.spec.replicas:
            for budget in self._budgets.indexer.by_index(NAMESPACE, current.metadata.namespace):
                self._wake(budget, current)

    # --- one budget

    async def _sync(self, key: Key) -> None:
        budget = self._budgets.indexer.get(key)
        if budget is None:
            return
        pods = self._pods.indexer.by_index(NAMESPACE, key.namespace)
        controllers = {rc.metadata.uid: rc for rc in self._controllers.indexer.by_index(NAMESPACE, key.namespace)}
        now_s = self._clock.wall()
        counted = count(budget, pods, controllers, now_s)
        if counted.again_at_s is not None:
            self._reconciler.queue.add_after(key, max(0.0, counted.again_at_s - now_s))
        if counted.status == budget.status:
            return
        self._tell(budget, counted)
        changed = core.PodDisruptionBudget()
        changed.CopyFrom(budget)
        changed.status.CopyFrom(counted.status)
        # With its version. Conflict: something was evicted meanwhile, or our own last write has not come back yet.
        written = await self._client.write([operations.update_status(changed)], cause=self._causes.get(key))
        written.outcomes[0].unwrap()
        self._causes.pop(key, None)

    def _tell(self, budget: core.PodDisruptionBudget, counted: Count) -> None:
        if counted.unmanaged:
            names = ", ".join(counted.unmanaged[:3]) + (", ..." if len(counted.unmanaged) > 3 else "")
            self._events.event(
                budget,
                "Warning",
                "UnmanagedPods",
                f"{len(counted.unmanaged)} pods that this budget selects have no controller ({names}), so nobody says "
                "how many there should be: they are left out of expectedPods. Use minAvailable with a number for them",
            )
        for name in counted.overdue:
            pod = self._pods.indexer.get(Key("Pod", budget.metadata.namespace, name))
            if pod is not None:
                message = f"Pod was expected by PDB {budget.metadata.namespace}/{budget.metadata.name} to be deleted"
                self._events.event(pod, "Warning", "NotDeleted", f"{message} but it wasn't")
